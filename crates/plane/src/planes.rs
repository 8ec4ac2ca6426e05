//! The request and response planes of a split exchange: a request is acknowledged on one plane, and
//! the worker dials the caller back on another with the response.

use std::{borrow::Cow, fmt, net::SocketAddr};

use bytes::Bytes;

use crate::{
    Address, BoxFuture, Context, EndpointName, Error, Headers, InstanceId, Origin, OutgoingRequest,
    PeerFacts, ResponseSink, ResponseStream, TransportId,
};

/// The calling side of a request plane: sends a request and waits for its acknowledgement.
pub trait RequestPlaneClient: Send + Sync {
    /// Sends `payload` to `address` and waits for the acknowledgement, which means that a running
    /// handler has taken the request into a bounded queue. Dropping the future may leave the
    /// request running.
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

/// The serving side of a request plane.
pub trait RequestPlaneServer: Send + Sync {
    /// Binds and starts to accept. Port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot or may not be bound, or the server runs already.
    fn start(&self, bind_address: SocketAddr) -> BoxFuture<'_, Result<(), Error>>;

    /// Stops accepting, and lets requests in flight finish within the server's grace period.
    fn stop(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// The address to advertise; `None` while not started.
    fn public_address(&self) -> Option<Address>;
}

/// A request as an acknowledging plane received it.
pub struct PlaneRequest<'a> {
    /// The target of the request, in the form of the plane: the path of a TCP frame, or a NATS
    /// subject.
    pub target: &'a str,
    /// The headers that arrived with the payload. Entries that [`Headers`] cannot hold are left
    /// out.
    pub headers: Headers,
    /// The payload, with everything that the layer above needs for the answer.
    pub payload: Bytes,
    /// The transport that it arrived on.
    pub transport: &'a TransportId,
    /// The other end of the connection that it came on.
    pub peer: &'a PeerFacts,
}

impl fmt::Debug for PlaneRequest<'_> {
    /// Formats the request without the payload.
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

/// The decision of a handler about a request.
pub enum Decision {
    /// The request is accepted, or refused before a handler ran.
    Now(Result<(), Error>),
    /// The decision comes later, because it takes a lookup, such as that of a host name. The
    /// handler limits this wait to well below the 5 s for which callers wait for an
    /// acknowledgement. Dropping the future before it is ready runs nothing.
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

/// Handles the requests of an acknowledging request plane.
pub trait RequestPlaneHandler: Send + Sync {
    /// Takes one request into a bounded queue. The reader task of the plane calls it, so it must
    /// return at once; the plane then sends the acknowledgement.
    ///
    /// # Errors
    /// Why the request is refused. No handler ran.
    fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error>;

    /// As [`accept`](Self::accept), for a handler that cannot always decide at once. Planes call
    /// this method; it must return at once too.
    fn decide(&self, request: PlaneRequest<'_>) -> Decision {
        Decision::Now(self.accept(request))
    }
}

/// The worker's side of a response plane: dials a caller back to deliver a response stream.
pub trait ResponsePlaneClient: Send + Sync {
    /// Connects to the caller that `connection_info` names, an opaque text made by the caller's
    /// [`ResponsePlaneServer`]. `origin` is where the request with that text came from.
    ///
    /// # Errors
    /// The text is not valid, it names an address that a request of this origin may not name, the
    /// caller cannot be reached, or it does not expect the stream. The worker then must not run the
    /// request.
    fn connect<'a>(
        &'a self,
        connection_info: &'a str,
        origin: Origin,
        context: Context,
    ) -> BoxFuture<'a, Result<ResponseSink, Error>>;

    /// Checks, without a connection attempt, whether the worker may connect to `connection_info`.
    /// The worker calls this before it acknowledges a request, so that it refuses a request whose
    /// caller it can never reach. Must return at once; return `Later` for a check that takes time.
    fn check(&self, _connection_info: &str, _origin: Origin) -> Decision {
        Decision::Now(Ok(()))
    }

    /// Returns the address that `connection_info` names; `None` if the plane cannot read it. The
    /// worker uses the address to distinguish callers. Must return at once.
    fn address<'a>(&self, _connection_info: &'a str) -> Option<Cow<'a, str>> {
        None
    }
}

/// The caller's side of a response plane: accepts workers that dial back.
pub trait ResponsePlaneServer: Send + Sync {
    /// Registers that a worker will dial back with the response stream of `request`, which is sent
    /// next. Does not read its body.
    ///
    /// # Errors
    /// The server is not running or has reached its limit of expected streams.
    fn register(&self, request: &OutgoingRequest) -> Result<ResponseRegistration, Error>;

    /// Called when discovery has removed an instance. Streams that the instance has not begun end
    /// at once; those that have begun continue.
    fn instance_removed(&self, endpoint: &EndpointName, instance: InstanceId);

    /// The address that requests give to workers.
    fn public_address(&self) -> Option<Address>;

    /// True if this side has the responses of Sinew workers go on over another connection when
    /// theirs is lost. Whether a response does depends on its worker as well.
    fn resumes(&self) -> bool {
        false
    }
}

/// A response stream with which a worker is expected to dial back. Dropping it ends the
/// expectation.
pub struct ResponseRegistration {
    /// The text that the request carries to the worker.
    pub connection_info: String,
    /// The stream to read.
    pub stream: ResponseStream,
}

impl fmt::Debug for ResponseRegistration {
    /// Formats the registration without the connection info, which holds the worker's credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseRegistration").field("stream", &self.stream).finish_non_exhaustive()
    }
}
