//! Opening a stream.

use std::{
    hash::BuildHasher,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, OutgoingRequest, ProcessId, ResumeRequest,
    ResumeToken, StreamId,
};

use super::{Connection, Driver};
use crate::{Attach, Consumer, Open, Refusal, session::Grace, stream::CallerStream};

impl<D: Driver> Connection<D> {
    /// Sends the request if there is room at once. `endpoint` is the name that the open frame
    /// carries. If the request was stopped, the cancel follows in the same write.
    ///
    /// The inner error says why there is no room. Nothing was sent then.
    ///
    /// # Errors
    /// The request was killed, its deadline has passed, or the peer is not the process that the
    /// request names. Nothing was sent.
    pub fn try_open(
        self: &Arc<Self>,
        request: &OutgoingRequest,
        endpoint: &str,
        id: StreamId,
    ) -> Result<Result<Arc<CallerStream<D>>, Refusal>, Error> {
        let remaining = may_send(&request.context)?;
        if let (Some(process), Some(peer)) = (request.process, self.peer()) {
            peer.expect_process(process)?;
        }
        let (call, sent) = {
            let mut streams = self.streams.lock();
            if streams.closed {
                return Ok(Err(Refusal::Retired));
            }
            let mut out = self.out.lock();
            let window = out.outbound.grant_window(request.window);
            let mut open = Open::new(id, endpoint, request.instance, window);
            let grace = request.context.limits().resume_grace;
            let grace = Grace::new(grace.or(request.limits.resume_grace));
            // What does not come back tells its producer so.
            open.secret = if grace.is_off() { 0 } else { self.secret(id) };
            open.headers = request.headers.clone();
            open.remaining = remaining;
            open.attempt = request.attempt;
            let (stream, sent) = match out.outbound.open(&open, &request.body) {
                Ok(opened) => opened,
                Err(refusal) => {
                    out.outbound.release_window(window);
                    return Ok(Err(refusal));
                }
            };
            drop(out);
            let call = Arc::new(CallerStream::new((id, grace), (Arc::clone(self), stream), window));
            streams.calls.insert(stream, Arc::clone(&call));
            self.active.fetch_add(1, Ordering::AcqRel);
            (call, sent)
        };
        if sent < request.body.len() {
            call.send_body(request.body.clone(), sent);
        }
        request.context.on_cancel(Arc::downgrade(&call));
        D::transmit(self);
        Ok(Ok(call))
    }

    /// Takes over a stream that another process has opened, with an attach. As
    /// [`try_open`](Self::try_open) otherwise.
    ///
    /// # Errors
    /// As [`try_open`](Self::try_open). [`Code::ResumeExpired`] if the peer is another process than
    /// the one that has the stream, or keeps no streams; if the stream is one that this process has
    /// opened, whose reader would lose it; or if no stream gets as far as the item.
    pub fn try_take_over(
        self: &Arc<Self>,
        request: &ResumeRequest,
    ) -> Result<Result<Arc<CallerStream<D>>, Refusal>, Error> {
        let ResumeRequest { token, context, window, limits } = request;
        may_send(context)?;
        if token.next_item > ResumeToken::MAX_ITEM {
            let message = format!("no response has an item {}", token.next_item);
            return Err(Error::new(Code::ResumeExpired, message));
        }
        if token.caller == self.own_process() {
            let message = "this process reads the response itself, and it has no second reader, as \
                           the worker does not retain it";
            return Err(Error::new(Code::ResumeExpired, message));
        }
        if !self.resumes() || self.peer().is_none_or(|hello| hello.process != token.worker) {
            let message = "the process that has the stream is not at this address any more";
            return Err(Error::new(Code::ResumeExpired, message));
        }
        let call = {
            let mut streams = self.streams.lock();
            if streams.closed {
                return Ok(Err(Refusal::Retired));
            }
            let mut out = self.out.lock();
            let window = out.outbound.grant_window(*window);
            let mut consumer =
                Consumer::new(window).beginning_at(token.next_item, self.max_window());
            let (next_item, credit) = consumer.attach();
            let (id, secret, origin) = (token.stream, token.secret, token.caller);
            let attach = Attach { id, secret, counter: 1, next_item, credit, origin };
            let stream = match out.outbound.attach(&attach) {
                Ok(stream) => stream,
                Err(refusal) => {
                    out.outbound.release_window(window);
                    return Ok(Err(refusal));
                }
            };
            drop(out);
            let grace = Grace::new(context.limits().resume_grace.or(limits.resume_grace));
            let place = (Arc::clone(self), stream);
            let call = Arc::new(CallerStream::taken_over(token, grace, place, consumer));
            streams.calls.insert(stream, Arc::clone(&call));
            self.active.fetch_add(1, Ordering::AcqRel);
            call
        };
        context.on_cancel(Arc::downgrade(&call));
        D::transmit(self);
        Ok(Ok(call))
    }

    /// The process of this side.
    pub(crate) fn own_process(&self) -> ProcessId {
        self.limits.process
    }

    /// What a stream that began here shows when it comes back over another connection; 0 where none
    /// may.
    pub(crate) fn secret(&self, id: StreamId) -> u64 {
        if self.resumes() { self.secrets.hash_one(id.0).max(1) } else { 0 }
    }
}

/// Whether anything may be sent for a request; the time that it has left.
fn may_send(context: &Context) -> Result<Option<Duration>, Error> {
    if context.is_killed() {
        let reason = context.reason().unwrap_or(CancelReason::Caller);
        return Err(Error::cancelled(reason).with_executed(Executed::No));
    }
    let remaining = context.remaining();
    if remaining.is_some_and(|left| left.is_zero()) {
        let error = Error::new(Code::DeadlineExceeded, "the deadline has passed");
        return Err(error.with_executed(Executed::No));
    }
    Ok(remaining)
}
