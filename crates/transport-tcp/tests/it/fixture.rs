//! Servers and clients for the tests, and waits that name what they wait for.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sinew_plane::{
    Address, DuplexServer, DuplexTransport, Error, IncomingRequest, InstanceId, OutgoingRequest,
    ResponseSink, ResponseStream,
};
pub(crate) use sinew_testkit::{until, within as soon};
use sinew_transport_tcp::{DriverConfig, ListenConfig, TcpConfig, TcpServer, TcpTransport};

/// Answers every request with its own body.
pub(crate) fn echo(request: IncomingRequest<'_>, mut sink: ResponseSink) {
    let body = request.body;
    tokio::spawn(async move {
        if sink.send(body).await.is_ok() {
            sink.complete();
        }
    });
}

/// Keeps every sink and says nothing.
#[derive(Clone, Default)]
pub(crate) struct Keep(pub(crate) Arc<Mutex<Vec<ResponseSink>>>);

impl Keep {
    pub(crate) fn handler(&self) -> impl Fn(IncomingRequest<'_>, ResponseSink) + use<> {
        let kept = Arc::clone(&self.0);
        move |_, mut sink| {
            sink.accept();
            sink.flush();
            kept.lock().unwrap().push(sink);
        }
    }
}

pub(crate) fn config() -> TcpConfig {
    TcpConfig::default()
}

/// The defaults with other settings for connections.
pub(crate) fn driver(change: impl FnOnce(&mut DriverConfig)) -> TcpConfig {
    let mut config = config();
    change(&mut config.driver);
    config
}

/// The defaults with other settings for listeners.
pub(crate) fn listen(change: impl FnOnce(&mut ListenConfig)) -> TcpConfig {
    let mut config = config();
    change(&mut config.listen);
    config
}

pub(crate) fn server(
    config: TcpConfig,
    handler: impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static,
) -> TcpServer {
    let any = "127.0.0.1:0".parse().unwrap();
    TcpServer::bind(config.checked().unwrap(), any, Arc::new(handler)).unwrap()
}

pub(crate) fn client(config: TcpConfig) -> TcpTransport {
    TcpTransport::new(config.checked().unwrap())
}

pub(crate) fn request(body: impl Into<Bytes>) -> OutgoingRequest {
    OutgoingRequest::new("test/tcp/echo".parse().unwrap(), InstanceId(0), body.into())
}

pub(crate) fn tcp_address(server: &TcpServer) -> Address {
    let addresses = server.addresses();
    addresses.into_iter().find(|address| address.scheme() == "tcp").unwrap()
}

pub(crate) async fn open(
    client: &TcpTransport,
    address: &Address,
    body: &'static str,
) -> Result<ResponseStream, Error> {
    soon("the request to leave", client.open(address, request(body))).await
}
