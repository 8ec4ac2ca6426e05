//! A worker that is reached masked.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use sinew::layers::{
    ingress::{EndpointConfig, Ingress, PushHandler, ServedEndpoint},
    transport_tcp::{CheckedTcpConfig, TcpConfig, TcpServer},
};
use sinew_outside::masked::{MASKED, MaskedProtocol};
use sinew_plane::{
    Address, BoxFuture, DuplexServer, EndpointName, Error, InstanceId, RequestHandler,
    RequestPlaneServer, Shutdown, SingleIn, engine_fn,
};

/// An ordinary server that speaks the masked protocol too, and says so.
pub(crate) struct MaskedServer(pub(crate) TcpServer);

impl MaskedServer {
    pub(crate) async fn start(config: CheckedTcpConfig, handler: Arc<dyn RequestHandler>) -> Self {
        let server = TcpServer::new(config, handler);
        let protocol = MaskedProtocol(server.mux());
        let server = server.with_protocol(Arc::new(protocol));
        server.start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self(server)
    }

    pub(crate) fn masked_address(&self) -> Address {
        Address::new(MASKED.as_str(), self.0.public_address().unwrap().rest()).unwrap()
    }
}

impl DuplexServer for MaskedServer {
    fn addresses(&self) -> Vec<Address> {
        let tcp = self.0.addresses();
        if tcp.is_empty() { tcp } else { [vec![self.masked_address()], tcp].concat() }
    }

    fn drain(&self) {
        self.0.drain();
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        self.0.shutdown(grace)
    }
}

/// Serves [`endpoint`]: a text in, its words out.
pub(crate) struct Worker {
    pub(crate) server: MaskedServer,
    _served: ServedEndpoint,
}

impl Worker {
    pub(crate) async fn start(id: InstanceId) -> Self {
        let ingress = Ingress::default();
        let server = MaskedServer::start(config(), Arc::new(ingress.clone())).await;
        let split = engine_fn(|request: SingleIn<String>| async move {
            let words: Vec<_> = request.data().split(' ').map(|word| Ok(word.to_owned())).collect();
            Ok::<_, Error>(stream::iter(words))
        });
        let limits = EndpointConfig::default();
        let _served = ingress.serve(endpoint(), id, limits, PushHandler::new(split));
        Self { server, _served }
    }
}

pub(crate) fn endpoint() -> EndpointName {
    "text/words/split".parse().unwrap()
}

pub(crate) fn config() -> CheckedTcpConfig {
    TcpConfig::default().checked().unwrap()
}
