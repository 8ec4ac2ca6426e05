//! Planes for the tests, and waits that name what they wait for.

use std::{future::Future, sync::Arc, time::Duration};

use sinew_compat_dynamo::{SplitScheme, SplitServer, SplitServerConfig, SplitTransport};
use sinew_plane::{
    Address, DuplexServer, IncomingRequest, InstanceId, RequestHandler, RequestPlaneServer,
    ResponseSink,
};
use sinew_transport_tcp::{
    ListenHost, TcpConfig, TcpRequestClient, TcpRequestConfig, TcpServer, TcpStreamClient,
    TcpStreamClientConfig, TcpStreamServer, TcpStreamServerConfig,
};

use crate::dynamo::SUBJECT;

/// The largest body and item in these tests.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// What may stand around a body: control message, headers, path.
const AROUND_BYTES: usize = 256 << 10;

/// What stands around an item on a connection of its own.
const FRAME_PREFIX_BYTES: usize = 24;

/// Fails the test when something that must happen does not.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 20 s for {what}"),
    }
}

/// Where a caller waits for responses.
pub(crate) fn response_server(pool: bool) -> Arc<TcpStreamServer> {
    let mut config = TcpStreamServerConfig {
        host: ListenHost::Ip([127, 0, 0, 1].into()),
        max_frame_bytes: MAX_MESSAGE_BYTES + FRAME_PREFIX_BYTES,
        pool,
        ..TcpStreamServerConfig::default()
    };
    config.tcp.mux.max_message_bytes = MAX_MESSAGE_BYTES;
    config.tcp.mux.process = InstanceId::random().0;
    Arc::new(TcpStreamServer::bind(config.checked().unwrap()).unwrap())
}

/// The calling side for one scheme.
pub(crate) fn transport(scheme: SplitScheme, responses: Arc<TcpStreamServer>) -> SplitTransport {
    let config = TcpRequestConfig {
        max_message_bytes: MAX_MESSAGE_BYTES + AROUND_BYTES,
        ..TcpRequestConfig::default()
    };
    let requests = Arc::new(TcpRequestClient::new(config.checked().unwrap()));
    SplitTransport::new(scheme, MAX_MESSAGE_BYTES, requests, responses)
}

/// The serving side: one port for requests, and connections back.
pub(crate) struct Worker {
    pub(crate) split: SplitServer,
    pub(crate) back: Arc<TcpStreamClient>,
    pub(crate) tcp: TcpServer,
    /// Who it is when it dials.
    pub(crate) process: u64,
}

impl Worker {
    pub(crate) async fn new(handler: Arc<dyn RequestHandler>) -> Self {
        Self::with(handler, SplitServerConfig::default(), true).await
    }

    pub(crate) async fn with(
        handler: Arc<dyn RequestHandler>,
        config: SplitServerConfig,
        pool: bool,
    ) -> Self {
        let mut back = TcpStreamClientConfig {
            max_frame_bytes: MAX_MESSAGE_BYTES + FRAME_PREFIX_BYTES,
            dial_retries: 1,
            dial_backoff: Duration::from_millis(1),
            pool,
            ..TcpStreamClientConfig::default()
        };
        back.tcp.mux.max_message_bytes = MAX_MESSAGE_BYTES;
        let process = InstanceId::random().0;
        back.tcp.mux.process = process;
        let back = Arc::new(TcpStreamClient::new(back.checked().unwrap()));
        let split = SplitServer::new(config, Arc::clone(&back) as _, handler);
        let tcp = TcpConfig {
            max_request_bytes: MAX_MESSAGE_BYTES + AROUND_BYTES,
            ..TcpConfig::default()
        };
        let no_mux: Arc<dyn RequestHandler> =
            Arc::new(|_: IncomingRequest<'_>, _: ResponseSink| panic!("nothing comes by mux"));
        let tcp = TcpServer::new(tcp.checked().unwrap(), no_mux)
            .with_request_plane(Arc::new(split.clone()));
        tcp.start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self { split, back, tcp, process }
    }

    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> String {
        let addresses = self.tcp.addresses();
        let address = addresses.iter().find(|address| address.scheme() == "tcp").unwrap();
        address.rest().to_owned()
    }

    pub(crate) fn address(&self) -> Address {
        Address::new("split-tcp", &self.host()).unwrap()
    }
}

/// The control message of another request: what comes twice with one subject runs once.
pub(crate) fn another(control: &str, number: usize) -> String {
    let (fixed, _) = SUBJECT.rsplit_once('-').unwrap();
    control.replace(SUBJECT, &format!("{fixed}-{number:012x}"))
}
