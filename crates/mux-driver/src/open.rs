//! Opens a stream on a connection.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Instant,
};

use sinew_mux::Refusal;
use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, OutgoingRequest, ResponseSource, ResponseStream,
    ResumeRequest, StopKind, clock, timeout, within,
};
use tokio::sync::futures::Notified;

use crate::{Call, Connection};

impl Connection {
    /// Sends the request if there is room at once; `None` when there is not, and nothing was sent.
    pub(crate) fn open_now(
        &self,
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
        &self,
        request: OutgoingRequest,
    ) -> Result<Result<ResponseStream, OutgoingRequest>, Error> {
        if request.context.is_stopped() {
            return Err(cancelled(&request));
        }
        let started = clock::now();
        loop {
            // Registered before the try, so that room made in between is not missed.
            let room = pin!(self.tasks().room.notified());
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
                Err(Refusal::Streams | Refusal::RequestWindow) => {
                    self.wait_for_room(&request.context, started, room).await?;
                }
            }
        }
    }

    /// Takes over a stream that another process has opened; `None` when this connection takes no more
    /// streams for good.
    pub(crate) async fn take_over(
        &self,
        request: &ResumeRequest,
    ) -> Result<Option<ResponseStream>, Error> {
        let started = clock::now();
        loop {
            // Registered before the try, so that room made in between is not missed.
            let room = pin!(self.tasks().room.notified());
            match self.0.try_take_over(request)? {
                Ok(call) => {
                    let (source, context) =
                        (call as Arc<dyn ResponseSource>, request.context.clone());
                    let stream = ResponseStream::limited(source, context, request.limits);
                    return Ok(Some(stream.beginning_at(request.token.next_item)));
                }
                Err(Refusal::Retired) => return Ok(None),
                Err(_) => self.wait_for_room(&request.context, started, room).await?,
            }
        }
    }

    /// Waits until a stream has ended or the peer has granted more.
    async fn wait_for_room(
        &self,
        context: &Context,
        started: Instant,
        room: Pin<&mut Notified<'_>>,
    ) -> Result<(), Error> {
        let left = self.tasks().config.open_timeout.saturating_sub(clock::since(started));
        let room = pin!(within(context, StopKind::Stop, room));
        match timeout(left, room).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => {
                let error = Error::cancelled_while(reason, "it waited for room");
                Err(error.with_executed(Executed::No))
            }
            Err(_) => {
                let message = "the connection had no room for another stream in time";
                Err(Error::new(Code::Overloaded, message))
            }
        }
    }

    /// Sends the request under an id that no other stream of its context has.
    fn try_open_stream(
        &self,
        request: &OutgoingRequest,
    ) -> Result<Result<Arc<Call>, Refusal>, Error> {
        let id = request.context.take_stream_id();
        let opened = self.try_open(request, request.endpoint.as_str(), id);
        if !matches!(opened, Ok(Ok(_))) {
            request.context.return_stream_id(id);
        }
        opened
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
