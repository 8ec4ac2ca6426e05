//! What a transport brings to be tested.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sinew_plane::{
    Address, BoxFuture, DuplexServer, DuplexTransport, EndpointName, Error, InstanceId,
    OutgoingRequest, RequestHandler, ResponseStream, Window,
};

use crate::{Way, received::Received, within};

/// Starts servers and clients of one transport. Each case gets a harness of its own.
///
/// The limit on messages is read from the client's capabilities; servers must have the same one,
/// of at least 5 MiB.
pub trait Harness: Send + Sync {
    /// Starts a server, and makes a client that has not connected to anything yet. A client of
    /// one call must also reach the servers of the other calls.
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served>;

    /// A client that shares no connection with any other.
    fn client(&self) -> Arc<dyn DuplexTransport>;

    /// An address of the transport's scheme where nobody listens.
    fn nowhere(&self) -> Address;

    /// The window of a stream whose caller does not choose one.
    fn window(&self) -> Window {
        Window { items: 1024, bytes: 256 << 10 }
    }

    /// Breaks everything between the server and its clients, if possible without a closing message.
    /// Open streams must be truncated by it, and must not end in another way.
    fn cut<'a>(&'a self, served: &'a Served) -> BoxFuture<'a, ()> {
        Box::pin(async {
            served.server.shutdown(Duration::ZERO).await;
        })
    }

    /// As [`serve`](Self::serve), with something in front of the server that breaks connections, as
    /// [`CuttingProxy`](crate::CuttingProxy) does, and both ends as processes with an identity. The
    /// address is the one in front. Both ends must find a silent connection within 5 s, and give a
    /// lost stream up within 10 s.
    ///
    /// `None`: the transport is not resumable. One that says in its capabilities that it is must have
    /// this, and passes [`resume_suite!`](crate::resume_suite).
    fn serve_resuming(
        &self,
        handler: Arc<dyn RequestHandler>,
    ) -> Option<BoxFuture<'_, (Served, Arc<dyn Way>)>> {
        let _ = handler;
        None
    }
}

/// A server that runs, and a client that can reach it.
pub struct Served {
    /// The serving side.
    pub server: Arc<dyn DuplexServer>,
    /// The calling side.
    pub client: Arc<dyn DuplexTransport>,
    /// Where the client reaches the server.
    pub address: Address,
}

impl Served {
    /// Opens a stream.
    ///
    /// # Panics
    /// When it is refused at once.
    pub async fn open(&self, request: OutgoingRequest) -> ResponseStream {
        match within("a stream to open", self.client.open(&self.address, request)).await {
            Ok(stream) => stream,
            Err(error) => panic!("the stream was refused: {error:?}"),
        }
    }

    /// Opens a stream and reads it to its end.
    ///
    /// # Panics
    /// When it is refused at once.
    pub async fn call(&self, request: OutgoingRequest) -> Received {
        Received::read(&mut self.open(request).await).await
    }

    /// Opens a stream that must fail before its first item, whether the client knows that at
    /// once or has to hear it from the server.
    ///
    /// # Panics
    /// When it starts.
    pub async fn refusal(&self, request: OutgoingRequest) -> Error {
        refusal(&*self.client, &self.address, request).await
    }
}

/// As [`Served::refusal`], for any client and address.
pub(crate) async fn refusal(
    client: &dyn DuplexTransport,
    address: &Address,
    request: OutgoingRequest,
) -> Error {
    let mut stream = match within("a refusal", client.open(address, request)).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    match within("a refusal", stream.started()).await {
        Ok(()) => panic!("the stream started, and should have been refused"),
        Err(error) => error,
    }
}

/// A request with this body, to an endpoint and an instance that every handler of the suite
/// accepts.
pub fn request(body: impl Into<Bytes>) -> OutgoingRequest {
    OutgoingRequest::new(endpoint(), InstanceId(0xc0ffee), body.into())
}

#[expect(clippy::expect_used, reason = "a constant that the tests of sinew-plane show valid")]
fn endpoint() -> EndpointName {
    EndpointName::new("testkit", "duplex", "case").expect("three parts of plain letters")
}
