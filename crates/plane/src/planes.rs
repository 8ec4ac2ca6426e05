//! The request and response planes of the split exchange: a request is acknowledged on one
//! plane, and its response dials back on another.

use std::{borrow::Cow, fmt, net::SocketAddr};

use bytes::Bytes;

use crate::{
    Address, BoxFuture, Context, EndpointName, Error, Headers, InstanceId, Origin, OutgoingRequest,
    PeerFacts, ResponseSink, ResponseStream, TransportId,
};

/// Sends a request and waits for its acknowledgement.
pub trait RequestPlaneClient: Send + Sync {
    /// Sends `payload` to `address`. The answer means: accepted into a bounded queue of a live
    /// handler. Dropping the future may leave the request running.
    ///
    /// # Errors
    /// [`Error::executed`] says whether the peer may have taken the request.
    fn send_request(
        &self,
        address: String,
        payload: Bytes,
        headers: Headers,
    ) -> BoxFuture<'_, Result<Bytes, Error>>;
}

/// Receives requests.
pub trait RequestPlaneServer: Send + Sync {
    /// Binds and starts to accept. Port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot be bound or may not be, or the server runs already.
    fn start(&self, bind_address: SocketAddr) -> BoxFuture<'_, Result<(), Error>>;

    /// Stops accepting and lets what runs finish within the server's grace.
    fn stop(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// The address to advertise; `None` while not started.
    fn public_address(&self) -> Option<Address>;
}

/// A request as an acknowledging plane received it.
pub struct PlaneRequest<'a> {
    /// Whom it is for, as the plane spells it: the path of a TCP frame, a NATS subject.
    pub target: &'a str,
    /// What came beside the payload. Entries that no [`Headers`] can hold are left out.
    pub headers: Headers,
    /// The payload, with everything that the layer above needs to answer.
    pub payload: Bytes,
    /// How it came.
    pub transport: &'a TransportId,
    /// The other end of the connection that it came on.
    pub peer: &'a PeerFacts,
}

impl fmt::Debug for PlaneRequest<'_> {
    /// Without the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaneRequest")
            .field("target", &self.target)
            .field("headers", &self.headers)
            .field("payload_bytes", &self.payload.len())
            .field("transport", &self.transport)
            .field("peer", &self.peer)
            .finish()
    }
}

/// What a handler says to a request.
pub enum Decision {
    /// The request is accepted, or refused and nothing ran.
    Now(Result<(), Error>),
    /// The same, once something is known that takes a moment to find out, such as the address of
    /// a name. The wait has a limit of the handler's own, well below the 5 s that callers wait for
    /// an acknowledgement. Dropping it before it is ready runs nothing.
    Later(BoxFuture<'static, Result<(), Error>>),
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(outcome) => f.debug_tuple("Now").field(outcome).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// Takes requests off an acknowledging request plane.
pub trait RequestPlaneHandler: Send + Sync {
    /// Takes one request into a bounded queue. Called from the plane's reader, so it must return
    /// at once; the plane then sends the acknowledgement.
    ///
    /// # Errors
    /// Why the request is refused. Nothing has run then.
    fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error>;

    /// The same for a handler that cannot always say so at once. This is what planes call; it must
    /// return at once too.
    fn decide(&self, request: PlaneRequest<'_>) -> Decision {
        Decision::Now(self.accept(request))
    }
}

/// Dials a caller back to deliver a response stream; lives at the worker.
pub trait ResponsePlaneClient: Send + Sync {
    /// Connects to where `connection_info`, an opaque text made by the caller's
    /// [`ResponsePlaneServer`], points to; `origin` is where the request came from that holds it.
    ///
    /// # Errors
    /// The text is not understood, points to where a request of this origin must not point, the
    /// caller cannot be reached, or it does not wait for the stream: nothing is to run then.
    fn connect<'a>(
        &'a self,
        connection_info: &'a str,
        origin: Origin,
        context: Context,
    ) -> BoxFuture<'a, Result<ResponseSink, Error>>;

    /// Whether the worker could connect to `connection_info`, as far as this is known without a
    /// connection attempt: the worker calls this before it acknowledges a request, so that its
    /// acknowledgement refuses a request whose caller it can never reach. Must return at once.
    /// `Later` is for what takes a moment to find out.
    fn check(&self, _connection_info: &str, _origin: Origin) -> Decision {
        Decision::Now(Ok(()))
    }

    /// The address that `connection_info` asks to be connected to, where it can be read: callers
    /// are told apart by it. Must return at once.
    fn address<'a>(&self, _connection_info: &'a str) -> Option<Cow<'a, str>> {
        None
    }
}

/// Waits for workers that dial back; lives at the caller.
pub trait ResponsePlaneServer: Send + Sync {
    /// Expects a response stream for `request`, which is about to be sent; its body is not
    /// looked at.
    ///
    /// # Errors
    /// The server is not running or has reached its limit of expected streams.
    fn register(&self, request: &OutgoingRequest) -> Result<ResponseRegistration, Error>;

    /// Discovery says that an instance is gone: streams that it was expected to begin are given
    /// up at once, those that have begun go on.
    fn instance_removed(&self, endpoint: &EndpointName, instance: InstanceId);

    /// Where workers are told to dial.
    fn public_address(&self) -> Option<Address>;
}

/// A response stream that a worker is expected to dial back with. Dropping it withdraws the
/// expectation.
pub struct ResponseRegistration {
    /// What travels to the worker inside the request.
    pub connection_info: String,
    /// The stream to read.
    pub stream: ResponseStream,
}

impl fmt::Debug for ResponseRegistration {
    /// Without the connection info, which holds what a worker has to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseRegistration").field("stream", &self.stream).finish_non_exhaustive()
    }
}
