//! Servers and clients for the tests, and waits that name what they wait for.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use sinew_plane::{
    Address, DuplexServer, DuplexTransport, Error, IncomingRequest, InstanceId, OutgoingRequest,
    ResponseSink, ResponseStream,
};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};

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

/// Fails the test when something that must happen does not.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 20 s for {what}"),
    }
}

/// Waits until something holds that nobody tells of.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
