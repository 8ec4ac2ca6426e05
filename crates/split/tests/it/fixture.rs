//! Planes for the tests, and waits that name what they wait for. The tests of `compat-dynamo` use
//! this file too.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sinew_plane::{
    Address, Code, DuplexServer, Error, IncomingRequest, InstanceId, Permit, ProcessId,
    RequestHandler, RequestPlaneServer, ResponseSink,
};
use sinew_plane_call_home::{
    DriverConfig, ListenConfig, ListenHost, TcpStreamClient, TcpStreamClientConfig,
    TcpStreamServer, TcpStreamServerConfig,
};
use sinew_plane_request_tcp::{
    TcpRequestClient, TcpRequestConfig, TcpRequestServer, TcpRequestServerConfig,
};
use sinew_split::{SplitScheme, SplitServer, SplitServerConfig, SplitTransport};
use sinew_transport_tcp::{TcpConfig, TcpServer};

use crate::server_config;

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

/// What a connection that falls silent is found by, and a stream given up: cases wait for both.
fn hurry(driver: &mut DriverConfig) {
    driver.backoff_max = Duration::from_millis(50);
    driver.mux.keepalive_interval = Duration::from_millis(500);
    driver.mux.keepalive_timeout = Duration::from_secs(2);
    driver.mux.resume_grace = Duration::from_secs(8);
}

/// Where a caller waits for responses.
pub(crate) fn response_server(pool: bool) -> Arc<TcpStreamServer> {
    response_server_at(pool, None)
}

/// Which tells workers another address than its own, `HOST:PORT`.
pub(crate) fn response_server_at(pool: bool, advertise: Option<String>) -> Arc<TcpStreamServer> {
    let mut config = TcpStreamServerConfig {
        host: ListenHost::Ip([127, 0, 0, 1].into()),
        max_frame_bytes: MAX_MESSAGE_BYTES + FRAME_PREFIX_BYTES,
        pool,
        listen: ListenConfig { advertise, ..ListenConfig::default() },
        ..TcpStreamServerConfig::default()
    };
    hurry(&mut config.driver);
    config.driver.mux.max_message_bytes = MAX_MESSAGE_BYTES;
    config.driver.mux.process = ProcessId::random();
    Arc::new(TcpStreamServer::bind(config.checked().unwrap()).unwrap())
}

/// What carries requests to workers.
pub(crate) fn request_client() -> Arc<TcpRequestClient> {
    let config = TcpRequestConfig {
        max_message_bytes: MAX_MESSAGE_BYTES + AROUND_BYTES,
        ..TcpRequestConfig::default()
    };
    Arc::new(TcpRequestClient::new(config.checked().unwrap()))
}

/// The calling side between two ends of Sinew.
pub(crate) fn transport(responses: Arc<TcpStreamServer>) -> SplitTransport {
    SplitTransport::new(SplitScheme::TCP, MAX_MESSAGE_BYTES, request_client(), responses)
}

/// The serving side: one port for requests, and connections back.
pub(crate) struct Worker {
    pub(crate) split: SplitServer,
    pub(crate) back: Arc<TcpStreamClient>,
    pub(crate) tcp: TcpServer,
    /// Who it is when it dials.
    pub(crate) process: ProcessId,
}

impl Worker {
    pub(crate) async fn new(handler: Arc<dyn RequestHandler>) -> Self {
        Self::with(handler, server_config(), true).await
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
        hurry(&mut back.driver);
        back.driver.mux.max_message_bytes = MAX_MESSAGE_BYTES;
        let process = ProcessId::random();
        back.driver.mux.process = process;
        let back = Arc::new(TcpStreamClient::new(back.checked().unwrap()));
        let split = SplitServer::new(config, Arc::clone(&back) as _, handler);
        let plane = TcpRequestServerConfig {
            max_request_bytes: MAX_MESSAGE_BYTES + AROUND_BYTES,
            ..TcpRequestServerConfig::default()
        };
        let plane = TcpRequestServer::new(plane.checked().unwrap(), Arc::new(split.clone()));
        let no_mux: Arc<dyn RequestHandler> =
            Arc::new(|_: IncomingRequest<'_>, _: ResponseSink| panic!("nothing comes by mux"));
        let tcp = TcpServer::new(TcpConfig::default().checked().unwrap(), no_mux)
            .with_protocol(Arc::new(plane));
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

/// Serves one endpoint, or refuses even that.
pub(crate) struct Picky {
    refusal: Option<Error>,
    pub(crate) runs: AtomicUsize,
}

impl Picky {
    pub(crate) fn new(refusal: Option<Error>) -> Arc<Self> {
        Arc::new(Self { refusal, runs: AtomicUsize::new(0) })
    }
}

impl RequestHandler for Picky {
    fn handle(&self, _: IncomingRequest<'_>, sink: ResponseSink) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        sink.complete();
    }

    fn reserve(&self, endpoint: &str, instance: InstanceId) -> Result<Option<Permit>, Error> {
        if (endpoint, instance) != ("ns1/backend/generate", InstanceId(0x1f)) {
            return Err(Error::new(Code::UnknownEndpoint, "somebody else's"));
        }
        self.refusal.clone().map_or(Ok(None), Err)
    }
}

/// Waits until tasks of a server have done what they can.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    soon(what, waiting).await;
}
