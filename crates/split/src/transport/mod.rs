//! The calling side of a split exchange, as an ordinary duplex transport.

mod request;
mod response;

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use sinew_dynamo_wire::{CONTROL_MESSAGE_MAX_BYTES, acknowledgement};
use sinew_plane::{
    Address, BoxFuture, BoxStream, Code, Context, DuplexTransport, Error, Executed,
    OutgoingRequest, RequestPlaneClient, RequestRegistration, RequestStreamServer,
    ResponsePlaneServer, ResponseRegistration, ResponseStream, Shutdown, StopKind,
    TransportCapabilities, TransportId, accept_timed_out, timeout, within,
};

use self::{
    request::RequestDraft,
    response::{ResponseGuard, SplitResponse, Streams},
};
use crate::{PeerCodec, SplitScheme};

/// What a request is at most beside its body: the control message and the frame around both.
const ENVELOPE_BYTES: usize = CONTROL_MESSAGE_MAX_BYTES + 1024;

/// Sends requests over one plane and waits for their responses on another.
///
/// A process has one for each [`SplitScheme`]; they share the planes. It starts no task. Dropping a
/// response stream before its end kills the request at the worker.
pub struct SplitTransport {
    scheme: SplitScheme,
    /// Speaks with the workers of the scheme; `None` when they are Sinew's.
    peer: Option<Arc<dyn PeerCodec>>,
    id: TransportId,
    capabilities: TransportCapabilities,
    requests: Arc<dyn RequestPlaneClient>,
    responses: Arc<dyn ResponsePlaneServer>,
    in_flight: Arc<Streams>,
}

impl SplitTransport {
    /// Makes a transport for the addresses of one scheme, whose workers are Sinew processes.
    /// `max_message_bytes` is the largest body and the largest item; the request plane must carry
    /// about 130 KiB more, for headers and control message.
    ///
    /// Its capabilities say that it is resumable if `responses` [is](ResponsePlaneServer::resumes).
    /// They are known before any worker is, so they speak of this side: a response resumes if its
    /// worker keeps streams and shares connections too, as Sinew workers do by default, and ends
    /// with its connection otherwise.
    pub fn new(
        scheme: SplitScheme,
        max_message_bytes: usize,
        requests: Arc<dyn RequestPlaneClient>,
        responses: Arc<dyn ResponsePlaneServer>,
    ) -> Self {
        let mut capabilities = TransportCapabilities::streaming(max_message_bytes);
        capabilities.latency = scheme.latency();
        capabilities.resumable = responses.resumes();
        let (id, in_flight) = (scheme.transport(), Arc::new(Streams::new(usize::MAX)));
        Self { scheme, peer: None, id, capabilities, requests, responses, in_flight }
    }

    /// Sets the codec for workers that are not Sinew processes. Their streams end with their
    /// connections.
    #[must_use]
    pub fn with_peer(mut self, peer: Arc<dyn PeerCodec>) -> Self {
        self.capabilities.resumable = false;
        Self { peer: Some(peer), ..self }
    }

    /// The number of open response streams.
    pub fn open_streams(&self) -> usize {
        self.in_flight.count()
    }

    /// Opens an exchange whose request is a stream: the worker fetches `items`, in the request's
    /// format, from `streams` as fast as it reads them. The request's body must be empty. Items
    /// that are left when the response ends are dropped, and the worker gets the end of the request
    /// stream.
    ///
    /// # Errors
    /// As [`open`](DuplexTransport::open).
    pub async fn open_bidirectional(
        &self,
        address: &Address,
        request: OutgoingRequest,
        items: BoxStream<'static, Bytes>,
        streams: &dyn RequestStreamServer,
    ) -> Result<ResponseStream, Error> {
        if !request.body.is_empty() {
            let message = "a request that is a stream has no body beside it";
            return Err(Error::new(Code::InvalidPayload, message));
        }
        self.check(address, &request)?;
        let input = streams.register_request_stream(&request.context, items)?;
        self.send(address, request, Some(input)).await
    }

    async fn send(
        &self,
        address: &Address,
        request: OutgoingRequest,
        input: Option<RequestRegistration>,
    ) -> Result<ResponseStream, Error> {
        self.check(address, &request)?;
        let permit = self
            .in_flight
            .enter(Weak::new())
            .map_err(|_| Error::new(Code::ConnectFailed, "the transport was closed"))?;
        let mut draft = match &self.peer {
            Some(peer) => RequestDraft::to_peer(peer, &request)?,
            None => RequestDraft::to_sinew(&request),
        };
        let context = request.context.clone();
        let limits = request.limits;
        // Dropped on every way out but the last, which withdraws it: a worker that dials back
        // then finds nobody, and ends its handler.
        let registration = self.responses.register(&request)?;
        let limit = self.capabilities.max_message_bytes.saturating_add(ENVELOPE_BYTES);
        let address = self.scheme.plane_address(address, &request);
        let items = draft.items.take();
        let fetch = input.as_ref().map(RequestRegistration::connection_info);
        let ResponseRegistration { connection_info: info, stream } = registration;
        let (payload, headers) = draft.encode(info, fetch, request, limit)?;
        let sending = self.requests.send_request(address, payload, headers);
        let limit = context.limits().or(limits).accept_or_default();
        let answer = match timeout(limit, acknowledged(&context, &self.in_flight, sending)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(accept_timed_out(limit)),
        };
        // Accepted is an empty answer. A plane that passes on another text must not make it one.
        acknowledgement::decode(&answer)?;
        let guard = ResponseGuard { permit, _input: input };
        let response = SplitResponse::new(stream, items, context.clone(), guard);
        // The acknowledgement was the acceptance. The prologue may take as long as the handler.
        Ok(ResponseStream::limited(response, context, limits).accepted())
    }

    /// What needs no peer to be known.
    fn check(&self, address: &Address, request: &OutgoingRequest) -> Result<(), Error> {
        let nothing_ran =
            |code, message: String| Err(Error::new(code, message).with_executed(Executed::No));
        if !self.dials(address) {
            let message = format!("{address} is no address of the transport {}", self.id);
            return nothing_ran(Code::NoTransport, message);
        }
        if let Some(reason) = request.context.reason() {
            return Err(Error::cancelled(reason).with_executed(Executed::No));
        }
        if request.context.remaining().is_some_and(|left| left.is_zero()) {
            let message = "the deadline passed before the request was sent";
            return nothing_ran(Code::DeadlineExceeded, message.to_owned());
        }
        let (length, limit) = (request.body.len(), self.capabilities.max_message_bytes);
        if length > limit {
            let message = format!("a request of {length} bytes is over the limit of {limit}");
            return nothing_ran(Code::TooLarge, message);
        }
        Ok(())
    }
}

/// Waits for the acknowledgement no longer than the request wants it and the transport is open. A
/// stop does not end the wait: it goes on to the worker, which may still answer.
async fn acknowledged(
    context: &Context,
    in_flight: &Streams,
    sending: impl Future<Output = Result<Bytes, Error>>,
) -> Result<Bytes, Error> {
    let sending = async {
        tokio::select! {
            biased;
            answer = sending => answer,
            () = in_flight.was_cut() => {
                Err(Error::new(Code::ConnectionLost, "the transport was closed"))
            }
        }
    };
    // How far the request got is not known once the sending is dropped.
    let may_run = |reason| Err(Error::cancelled_while(reason, "the request was sent"));
    within(context, StopKind::Kill, pin!(sending)).await.unwrap_or_else(may_run)
}

impl DuplexTransport for SplitTransport {
    fn id(&self) -> &TransportId {
        &self.id
    }

    fn capabilities(&self) -> &TransportCapabilities {
        &self.capabilities
    }

    fn dials(&self, address: &Address) -> bool {
        address.scheme() == self.scheme.as_str()
    }

    /// Ready with the acknowledgement. An error behind the sending of the request, such as a
    /// missing acknowledgement, leaves open whether it ran, and says so.
    fn open<'a>(
        &'a self,
        address: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        Box::pin(self.send(address, request, None))
    }

    /// Closes this transport's streams. The planes may serve others, and stay as they are.
    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            let cut_streams = response::close(&self.in_flight, grace).await;
            Shutdown { cut_streams, cut_tasks: 0 }
        })
    }
}

impl fmt::Debug for SplitTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitTransport")
            .field("scheme", &self.scheme)
            .field("open_streams", &self.open_streams())
            .finish_non_exhaustive()
    }
}
