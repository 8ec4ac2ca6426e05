//! A Prometheus recorder and the HTTP endpoint that shows it.

use std::{
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use sinew_plane::{AddressError, BindPolicy};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{AbortHandle, JoinHandle, JoinSet, yield_now},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::names;

/// Scrapers that are served at once. One more takes the place of the oldest, first of those that
/// have not asked for anything yet, so that peers who send slowly or nothing keep nobody out.
const MAX_CONNECTIONS: usize = 32;
/// How long the head of a request may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Longest life of a connection, from accept to the last byte. It carries one request, so a peer
/// that sends or reads slowly is cut by it too. Prometheus itself gives up after 10 s.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// How often samples are moved into their buckets. Between two moves a histogram keeps 8 bytes
/// for each sample.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);
/// Pause after a failed accept: the usual cause, no file descriptors left, does not go away
/// sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Upper bounds of the buckets of every duration, in seconds: from a hop inside the process to a
/// long answer.
const SECONDS: &[f64] = &[
    0.00001, 0.000025, 0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0,
];

/// The process's metrics: a recorder, and an HTTP/1.1 server for `GET /metrics` (Prometheus text
/// format), `GET /livez`, and `GET /health` once a program
/// [reports](Self::report_health) its state.
///
/// The server takes one request per connection, and at most 32 connections at once. For a further
/// connection it closes the oldest one that has sent no request yet, or else the oldest one. The
/// head of a request may take 5 seconds, and the whole connection 10. The server runs as one task
/// that this value owns. Dropping the value stops the server; the recorder stays, because the
/// `metrics` crate allows no second one.
#[derive(Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
    server: Server,
    health: HealthSource,
}

/// The health of a process, as `/health` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// True if the process is ready: the answer is 200, otherwise 503.
    pub is_ready: bool,
    /// The body, which is JSON.
    pub json: String,
}

/// Set once, by a program whose state there is to show.
#[derive(Clone, Default)]
struct HealthSource(Arc<OnceLock<Box<dyn Fn() -> HealthReport + Send + Sync>>>);

impl HealthSource {
    /// Before there is a source, the process starts.
    fn look(&self) -> HealthReport {
        match self.0.get() {
            Some(source) => source(),
            None => HealthReport { is_ready: false, json: r#"{"status":"starting"}"#.to_owned() },
        }
    }
}

impl fmt::Debug for HealthSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HealthSource").field(&self.0.get().is_some()).finish()
    }
}

impl Metrics {
    /// Binds `address` (port 0 picks a free one), installs the recorder for the whole process and
    /// starts to serve. Call it before any code makes metric handles; see the [crate](crate)
    /// documentation. Must run within a tokio runtime.
    ///
    /// # Errors
    /// The address may not be bound in plain text, cannot be bound, or the process has a
    /// recorder already. Nothing is installed then.
    pub async fn install(address: SocketAddr, policy: BindPolicy) -> Result<Self, MetricsError> {
        policy.check(address).map_err(MetricsError::Address)?;
        let bind = |error| MetricsError::Bind { address, error };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let recorder = recorder().map_err(MetricsError::Recorder)?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::AlreadyInstalled)?;
        names::describe();
        crate::enable_timing();
        let health = HealthSource::default();
        let server = Server::start(listener, handle.clone(), health.clone()).map_err(bind)?;
        Ok(Self { handle, server, health })
    }

    /// The address on which the server listens, with the port that was bound.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// All metrics in the Prometheus text format, as `/metrics` shows them.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Sets the source of `/health`, which is called for each request and must not block. Before
    /// this call the answer is 503 with the status `starting`. Only the first source counts.
    pub fn report_health(&self, source: impl Fn() -> HealthReport + Send + Sync + 'static) {
        // A second one is left out.
        let _ = self.health.0.set(Box::new(source));
    }

    /// Stops the server, cuts its connections and waits for its task.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let builder = PrometheusBuilder::new();
    let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    Ok(builder.build_recorder())
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// Dropped or used, it stops the task.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(
        listener: TcpListener,
        handle: PrometheusHandle,
        health: HealthSource,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, handle, health, stopped));
        Ok(Self { address, stop, task })
    }

    async fn shutdown(self) {
        drop(self.stop);
        // The task is neither aborted nor written to panic; if it did, it is over as well.
        let _ = self.task.await;
    }
}

async fn serve(
    listener: TcpListener,
    handle: PrometheusHandle,
    health: HealthSource,
    mut stopped: oneshot::Receiver<()>,
) {
    let routes = routes(handle.clone(), health);
    let (mut connections, mut places) = (JoinSet::new(), Places::default());
    let mut upkeep = interval(UPKEEP_PERIOD);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            _ = upkeep.tick() => handle.run_upkeep(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if places.make_room() {
                        // Those that have just come get to say what they want first.
                        yield_now().await;
                    }
                    let has_asked = Arc::<AtomicBool>::default();
                    let serving = connection(stream, routes.clone(), Arc::clone(&has_asked));
                    places.0.push_back(Place { has_asked, task: connections.spawn(serving) });
                }
                Err(error) => {
                    tracing::debug!(%error, "the metrics endpoint could not accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

/// The connections, oldest first.
#[derive(Default)]
struct Places(VecDeque<Place>);

struct Place {
    /// The head of its request has come.
    has_asked: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Places {
    /// Makes room for one more. True when a connection had to be cut for it.
    fn make_room(&mut self) -> bool {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() < MAX_CONNECTIONS {
            return false;
        }
        let silent = |place: &Place| !place.has_asked.load(Ordering::Relaxed);
        let oldest = self.0.iter().position(silent).unwrap_or(0);
        if let Some(place) = self.0.remove(oldest) {
            tracing::debug!("a scrape made room for a newer one and was cut");
            place.task.abort();
        }
        true
    }
}

fn routes(handle: PrometheusHandle, health: HealthSource) -> Router {
    let metrics = move || {
        let text = handle.render();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    let health = move || {
        let HealthReport { is_ready, json } = health.look();
        let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        async move { (status, [(CONTENT_TYPE, "application/json")], json) }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/health", get(health))
}

async fn connection(stream: TcpStream, routes: Router, has_asked: Arc<AtomicBool>) {
    let routes = TowerToHyperService::new(routes);
    let answer = service_fn(move |request| {
        has_asked.store(true, Ordering::Relaxed);
        routes.call(request)
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), answer);
    match timeout(CONNECTION_LIMIT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scrape failed"),
        Err(_) => tracing::debug!("a scrape took longer than 10 s and was cut"),
    }
}

/// Why metrics were not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The address may not be bound in plain text. The text names both remedies.
    #[error("metrics endpoint: {0}")]
    Address(AddressError),
    /// The address cannot be bound.
    #[error("the metrics endpoint cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The error of the system.
        #[source]
        error: io::Error,
    },
    /// The process has a recorder already. A process can install only one.
    #[error("this process has a metrics recorder already")]
    AlreadyInstalled,
    /// The recorder refused its own settings.
    #[error("the metrics recorder refused its settings")]
    Recorder(#[source] BuildError),
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const GUARD: Duration = Duration::from_secs(30);

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(GUARD, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    async fn start() -> (PrometheusRecorder, Server) {
        let recorder = recorder().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server::start(listener, recorder.handle(), HealthSource::default()).unwrap();
        (recorder, server)
    }

    #[tokio::test]
    async fn durations_are_histograms_with_buckets() {
        let (recorder, server) = start().await;
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!(names::INGRESS_DURATION, names::ENDPOINT => "a/b/c").record(0.002);
        });
        let answer = ask(server.address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        let bucket = "ingress_request_duration_seconds_bucket{endpoint=\"a/b/c\",le=\"0.0025\"} 1";
        assert!(answer.contains(bucket), "{answer}");
        server.shutdown().await;
    }

    #[tokio::test]
    async fn other_paths_methods_and_garbage_are_refused() {
        let (_, server) = start().await;
        for (request, status) in [
            ("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
            ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "405"),
            ("\x16\x03\x01 not http\r\n\r\n", "400"),
        ] {
            let answer = ask(server.address, request).await;
            assert_eq!(answer.split(' ').nth(1), Some(status), "{request:?}: {answer}");
        }
        server.shutdown().await;
    }

    #[tokio::test]
    async fn health_is_what_the_program_says_when_it_is_asked() {
        let recorder = recorder().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let health = HealthSource::default();
        let server = Server::start(listener, recorder.handle(), health.clone()).unwrap();
        let request = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
        let answer = ask(server.address, request).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with(r#"{"status":"starting"}"#), "{answer}");
        let ready = Arc::new(AtomicBool::new(true));
        let source = Arc::clone(&ready);
        let report = move || HealthReport {
            is_ready: source.load(Ordering::Relaxed),
            json: r#"{"status":"told"}"#.to_owned(),
        };
        let _ = health.0.set(Box::new(report));
        for (is_ready, status) in [(true, "200"), (false, "503")] {
            ready.store(is_ready, Ordering::Relaxed);
            let answer = ask(server.address, request).await;
            assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
            assert!(answer.contains("application/json"), "{answer}");
            assert!(answer.ends_with(r#"{"status":"told"}"#), "{answer}");
        }
        server.shutdown().await;
    }

    #[tokio::test]
    async fn a_silent_peer_stops_neither_others_nor_the_shutdown() {
        let (_, server) = start().await;
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        let answer = ask(server.address, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.ends_with("ok\n"), "{answer}");
        timeout(GUARD, server.shutdown()).await.unwrap();
        let mut rest = Vec::new();
        let closed = timeout(GUARD, silent.read_to_end(&mut rest)).await.unwrap();
        assert!(closed.is_err() || rest.is_empty());
    }

    #[tokio::test]
    async fn peers_that_stop_within_the_head_keep_nobody_out() {
        let (_, server) = start().await;
        let mut stopped = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(b"GET /metr").await.unwrap();
            stopped.push(stream);
        }
        let begun = std::time::Instant::now();
        let answer = ask(server.address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(begun.elapsed() < HEAD_LIMIT, "{:?}", begun.elapsed());
        // Those that still have a place lose it at the limit.
        let mut last = stopped.pop().unwrap();
        let mut rest = Vec::new();
        let closed = timeout(CONNECTION_LIMIT, last.read_to_end(&mut rest)).await.unwrap();
        assert!(begun.elapsed() < CONNECTION_LIMIT - Duration::from_secs(1), "{closed:?}");
        server.shutdown().await;
    }

    /// Who has asked goes behind those that have not, and the oldest goes first.
    #[tokio::test]
    async fn the_oldest_that_has_not_asked_makes_room() {
        let mut places = Places::default();
        let tasks: Vec<_> =
            (0..MAX_CONNECTIONS).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        for (number, task) in tasks.iter().enumerate() {
            assert!(!places.make_room());
            let has_asked = Arc::new(AtomicBool::new(number != 5));
            places.0.push_back(Place { has_asked, task: task.abort_handle() });
        }
        for (count, cut) in [5, 0].into_iter().enumerate() {
            assert!(places.make_room());
            yield_now().await;
            let over = tasks.iter().filter(|task| task.is_finished()).count();
            assert_eq!((over, tasks[cut].is_finished()), (count + 1, true));
            let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
            places.0.push_back(Place { has_asked: Arc::new(true.into()), task });
        }
    }

    #[tokio::test]
    async fn plain_text_beyond_loopback_is_refused_before_anything_is_installed() {
        let address = "0.0.0.0:0".parse().unwrap();
        let error = Metrics::install(address, BindPolicy::LoopbackOnly).await.unwrap_err();
        assert!(matches!(error, MetricsError::Address(_)), "{error}");
        assert!(error.to_string().contains("--insecure"), "{error}");
    }
}
