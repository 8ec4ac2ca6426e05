//! Opening a stream on a live connection.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use sinew_mux::{Open, Refusal};
use sinew_plane::{
    CancelReason, Code, Error, Executed, OutgoingRequest, ResponseSource, ResponseStream, StopKind,
    StreamId, clock, timeout, within,
};

use crate::{call::Call, connection::Connection};

impl Connection {
    /// Sends the request if there is room at once; `None` when there is not, and nothing was sent.
    pub(crate) fn open_now(
        self: &Arc<Self>,
        request: &OutgoingRequest,
    ) -> Result<Option<ResponseStream>, Error> {
        if request.context.is_stopped() {
            return Err(cancelled(request));
        }
        let opened = self.try_open_stream(request)?;
        Ok(opened.ok().map(|call| response(call, request)))
    }

    /// Sends the request. `Ok(Err(request))` hands it back when this connection takes no more
    /// streams for good.
    pub(crate) async fn open(
        self: &Arc<Self>,
        request: OutgoingRequest,
    ) -> Result<Result<ResponseStream, OutgoingRequest>, Error> {
        if request.context.is_stopped() {
            return Err(cancelled(&request));
        }
        let started = clock::now();
        loop {
            // Registered before the try, so that room made in between is not missed.
            let room = pin!(self.room.notified());
            match self.try_open_stream(&request)? {
                Ok(call) => return Ok(Ok(response(call, &request))),
                Err(Refusal::Retired) => return Ok(Err(request)),
                Err(Refusal::TooLarge { limit }) => {
                    let message = format!(
                        "a request of {} bytes is over the peer's limit of {limit}",
                        request.body.len()
                    );
                    return Err(Error::new(Code::TooLarge, message));
                }
                Err(Refusal::Streams | Refusal::RequestWindow) => {}
            }
            let left = self.config.open_timeout.saturating_sub(clock::since(started));
            let room = pin!(within(&request.context, StopKind::Stop, room));
            match timeout(left, room).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => {
                    let error = Error::cancelled_while(reason, "it waited for room");
                    return Err(error.with_executed(Executed::No));
                }
                Err(_) => {
                    let message = "the connection had no room for another stream in time";
                    return Err(Error::new(Code::Overloaded, message));
                }
            }
        }
    }

    /// Sends the request under an id that no other stream of its context has.
    fn try_open_stream(
        self: &Arc<Self>,
        request: &OutgoingRequest,
    ) -> Result<Result<Arc<Call>, Refusal>, Error> {
        let id = request.context.take_stream_id();
        let opened = self.try_open(request, request.endpoint.as_str(), id);
        if !matches!(opened, Ok(Ok(_))) {
            request.context.return_stream_id(id);
        }
        opened
    }

    /// Sends the request under a name of its own for what is called, if there is room at once.
    /// A stop goes along with it.
    ///
    /// The inner error says why there is no room; nothing was sent then.
    ///
    /// # Errors
    /// The request was killed, its deadline has passed, or the peer is another process than it is
    /// for. Nothing was sent.
    pub fn try_open(
        self: &Arc<Self>,
        request: &OutgoingRequest,
        endpoint: &str,
        id: StreamId,
    ) -> Result<Result<Arc<Call>, Refusal>, Error> {
        if request.context.is_killed() {
            return Err(cancelled(request));
        }
        let remaining = request.context.remaining();
        if remaining.is_some_and(|left| left.is_zero()) {
            let error = Error::new(Code::DeadlineExceeded, "the deadline has passed");
            return Err(error.with_executed(Executed::No));
        }
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
            let call = Arc::new(Call::new(stream, Arc::clone(self), window));
            streams.calls.insert(stream, Arc::clone(&call));
            self.active.fetch_add(1, Ordering::AcqRel);
            (call, sent)
        };
        if sent < request.body.len() {
            call.send_body(request.body.clone(), sent);
        }
        request.context.on_cancel(Arc::downgrade(&call));
        self.write_out();
        Ok(Ok(call))
    }
}

fn response(call: Arc<Call>, request: &OutgoingRequest) -> ResponseStream {
    let source = call as Arc<dyn ResponseSource>;
    ResponseStream::limited(source, request.context.clone(), request.limits)
}

fn cancelled(request: &OutgoingRequest) -> Error {
    let reason = request.context.reason().unwrap_or(CancelReason::Caller);
    Error::cancelled(reason).with_executed(Executed::No)
}
