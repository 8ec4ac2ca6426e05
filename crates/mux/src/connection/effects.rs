//! The work for the driver that received frames cause.

use std::{sync::Arc, task::Waker, time::Instant};

use sinew_plane::{CancelReason, Context, StopKind};

use super::Driver;
use crate::{Opened, stream::ProducerStream};

/// A request of the peer that this side has admitted, for its handler.
pub struct ReceivedRequest<D: Driver> {
    /// The stream of the response.
    pub response: Arc<ProducerStream<D>>,
    /// The request. A short body is copied, so that it does not keep the read buffer.
    pub opened: Box<Opened>,
}

/// Work that calls foreign code, so the driver does it while it holds no lock, in the order of
/// these fields. [`perform`](Self::perform) does the part that needs no driver.
pub struct Effects<D: Driver> {
    /// The peer's hello has arrived.
    pub established: bool,
    /// Requests for their handlers, in the order in which they arrived.
    pub requests: Vec<ReceivedRequest<D>>,
    /// Some requests count as admitted and their callers do not have the acceptance yet: call
    /// [`Connection::accept_admitted`] until it returns false.
    ///
    /// [`Connection::accept_admitted`]: super::Connection::accept_admitted
    pub watch: bool,
    /// [`Receiver::poll_timeout`](super::Receiver::poll_timeout) is earlier now than it was.
    pub timeout_is_earlier: bool,
    /// Nothing has arrived for a while: empty buffers can be freed.
    pub is_quiet: bool,
    /// No stream has been open for the idle timeout: the connection can be closed, unless a stream
    /// was opened since.
    pub is_idle: bool,
    /// A stream has ended: code that waits to open one may try again.
    pub room_made: bool,
    /// The peer takes no new streams here: those of this side may be moved to another connection to
    /// it.
    pub went_away: bool,
    /// Of streams that were attached to this connection something has arrived: since when each was
    /// without a connection. The driver takes them out.
    pub heard: Vec<Instant>,
    /// Who is to be woken.
    pub(super) wakers: Vec<Waker>,
    /// What is to be cancelled.
    pub(super) cancels: Vec<(Arc<ProducerStream<D>>, StopKind, CancelReason)>,
}

impl<D: Driver> Default for Effects<D> {
    fn default() -> Self {
        Self {
            established: false,
            requests: Vec::new(),
            watch: false,
            timeout_is_earlier: false,
            is_quiet: false,
            is_idle: false,
            room_made: false,
            went_away: false,
            heard: Vec::new(),
            wakers: Vec::new(),
            cancels: Vec::new(),
        }
    }
}

impl<D: Driver> Effects<D> {
    /// Wakes the waiting tasks and cancels the streams that are to be cancelled. The driver calls
    /// it after it has passed on the requests.
    pub fn perform(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        for (response, kind, reason) in self.cancels.drain(..) {
            response.cancel(kind, reason);
        }
    }

    /// How many streams [`perform`](Self::perform) is to cancel.
    pub fn cancels(&self) -> usize {
        self.cancels.len()
    }

    /// Frees empty lists.
    pub fn shrink(&mut self) {
        if self.wakers.is_empty() && self.cancels.is_empty() && self.requests.is_empty() {
            (self.wakers, self.cancels, self.requests) = Default::default();
        }
    }
}

impl<D: Driver> ReceivedRequest<D> {
    /// The request's context, with its cancel, deadline and headers.
    pub fn context(&self) -> &Context {
        self.response.context()
    }
}

/// Wakes the waiting tasks, also if the reader panics, because a stream that has its end is in no
/// table from which it could be woken later.
impl<D: Driver> Drop for Effects<D> {
    fn drop(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl<D: Driver> std::fmt::Debug for Effects<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effects")
            .field("established", &self.established)
            .field("requests", &self.requests.len())
            .field("room_made", &self.room_made)
            .finish_non_exhaustive()
    }
}
