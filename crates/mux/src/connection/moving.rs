//! Streams of this side that leave a connection which is up for another one to the same process.

use std::{sync::Arc, time::Instant};

use sinew_plane::{Code, Error};

use super::{Connection, Driver, streams::Streams};
use crate::{Refusal, stream::CallerStream, sync::MutexGuard};

impl<D: Driver> Connection<D> {
    /// Moves up to `most` streams that this side has opened to `to`, with one write. A stream whose
    /// handler is not known to have begun, or whose request is not sent whole, stays; so do all when
    /// `to` leads to another process, or one of the two ends keeps no streams. Returns how many were
    /// moved.
    pub fn move_calls(self: &Arc<Self>, to: &Arc<Self>, most: usize, now: Instant) -> usize {
        if !self.may_move_to(to) {
            return 0;
        }
        let calls: Vec<_> =
            self.streams.lock().calls.iter().map(|(at, call)| (*at, Arc::clone(call))).collect();
        let mut moved = 0;
        for (number, call) in calls {
            if moved >= most {
                break;
            }
            match self.leave(number, &call, to, now) {
                Ok(left) => moved += usize::from(left),
                Err(_) => break,
            }
        }
        if moved > 0 {
            D::transmit(to);
        }
        moved
    }

    fn may_move_to(self: &Arc<Self>, to: &Arc<Self>) -> bool {
        let process = |it: &Self| it.peer().map(|hello| hello.process);
        let is_same_process = process(self).is_some() && process(self) == process(to);
        !Arc::ptr_eq(self, to) && is_same_process && self.resumes() && to.keeps_calls()
    }

    /// Both connections are locked at once, so that no frame of the stream is lost between them; in
    /// the order of their addresses, which all moves share.
    fn lock_both<'a>(
        from: &'a Arc<Self>,
        to: &'a Arc<Self>,
    ) -> (MutexGuard<'a, Streams<D>>, MutexGuard<'a, Streams<D>>) {
        if Arc::as_ptr(from) < Arc::as_ptr(to) {
            let left = from.streams.lock();
            (left, to.streams.lock())
        } else {
            let right = to.streams.lock();
            (from.streams.lock(), right)
        }
    }

    fn leave(
        self: &Arc<Self>,
        number: u32,
        call: &Arc<CallerStream<D>>,
        to: &Arc<Self>,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let (mut left, mut right) = Self::lock_both(self, to);
        let is_here = left.calls.get(&number).is_some_and(|it| Arc::ptr_eq(it, call));
        if !is_here || left.closed {
            return Ok(false);
        }
        let error = Error::new(Code::ConnectionLost, "the stream was moved to another connection");
        let Some(is_inside_item) = call.may_leave(&error) else { return Ok(false) };
        to.take_call(&mut right, call, now)?;
        drop(right);
        left.calls.remove(&number);
        left.resumed.remove(&number);
        let window = call.window();
        // Items, the pieces of large ones, and what goes with them.
        left.void_frames += u64::from(window.items) + u64::from(window.bytes >> 10) + 8;
        {
            let mut out = self.out.lock();
            out.outbound.on_stream_ended();
            out.outbound.release_window(window);
            if is_inside_item {
                out.forgotten.push(number);
            }
        }
        drop(left);
        self.stream_gone();
        Ok(true)
    }
}

impl<D: Driver> CallerStream<D> {
    /// The connection that the stream is on, or has lost.
    pub fn connection(&self) -> Arc<Connection<D>> {
        self.place().0
    }

    /// Moves the stream to `to`, which leads to the same process, while its connection is up. False
    /// when it stays: it has ended, its handler is not known to have begun, it has lost its
    /// connection, or `to` takes no streams of this process.
    pub fn move_to(self: &Arc<Self>, to: &Arc<Connection<D>>, now: Instant) -> bool {
        let (from, number) = self.place();
        let moved = from.may_move_to(to) && from.leave(number, self, to, now).unwrap_or(false);
        if moved {
            D::transmit(to);
        }
        moved
    }
}
