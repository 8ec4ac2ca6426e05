//! Selection, order and fallback over transports that behave as they are told.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    Address, BoxFuture, Code, Context, DuplexTransport, Error, Executed, Headers, InstanceId,
    ItemBatch, LatencyClass, Origin, OutgoingRequest, PlaneType, RequestPlaneClient,
    RequestPlaneServer, ResponsePlaneClient, ResponseSink, ResponseSource, ResponseStream,
    Shutdown, SourceEvent, StopKind, Terminal, TransportCapabilities, TransportId,
    TransportRequirements, Ways,
};

use crate::{Exchange, Proximity, RegistryError, Route, TransportRegistration, TransportRegistry};

/// A transport that counts its dials, and fails them with a code while it has one.
struct Scripted {
    id: TransportId,
    capabilities: TransportCapabilities,
    fails_with: Mutex<Option<Code>>,
    /// How long the peer takes to say hello; nothing is waited for without it.
    hello: Mutex<Option<Duration>>,
    dials: AtomicUsize,
    ways: Mutex<Option<Arc<dyn Ways>>>,
}

impl Scripted {
    fn new(name: &'static str, latency: LatencyClass) -> Arc<Self> {
        let mut capabilities = TransportCapabilities::streaming(1024);
        capabilities.latency = latency;
        Arc::new(Self {
            id: TransportId::from_static(name),
            capabilities,
            fails_with: Mutex::new(None),
            hello: Mutex::new(None),
            dials: AtomicUsize::new(0),
            ways: Mutex::new(None),
        })
    }

    fn fail(&self, code: impl Into<Option<Code>>) {
        *self.fails_with.lock() = code.into();
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }
}

impl DuplexTransport for Scripted {
    fn id(&self) -> &TransportId {
        &self.id
    }

    fn capabilities(&self) -> &TransportCapabilities {
        &self.capabilities
    }

    fn dials(&self, address: &Address) -> bool {
        address.scheme() == self.id.as_str()
    }

    fn open<'a>(
        &'a self,
        _: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match *self.fails_with.lock() {
                Some(code) => Err(Error::new(code, "as told")),
                None => Ok(ResponseStream::new(Arc::new(Empty), request.context)),
            }
        })
    }

    fn connect<'a>(&'a self, _: &'a Address) -> Option<BoxFuture<'a, Result<(), Error>>> {
        let after = (*self.hello.lock())?;
        Some(Box::pin(async move {
            // tidy-allow: sleep, this is how long the scripted peer takes, of paused time
            tokio::time::sleep(after).await;
            *self.hello.lock() = None;
            self.fails_with.lock().map_or(Ok(()), |code| Err(Error::new(code, "as told")))
        }))
    }

    fn find_ways(&self, ways: Arc<dyn Ways>) {
        *self.ways.lock() = Some(ways);
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async { Shutdown { cut_streams: 1, cut_tasks: 0 } })
    }
}

/// A response without items.
struct Empty;

impl ResponseSource for Empty {
    fn poll_started(&self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_head(&self, _: &mut task::Context<'_>) -> Poll<Headers> {
        Poll::Ready(Headers::new())
    }

    fn facts(&self) -> Headers {
        Headers::new()
    }

    fn poll_batch(&self, _: &mut task::Context<'_>, _: &mut ItemBatch) -> Poll<SourceEvent> {
        Poll::Ready(SourceEvent::Ended(Terminal::Complete { items: 0 }))
    }

    fn cancel(&self, _: StopKind) {}

    fn abandon(&self) {}
}

fn register(registry: &TransportRegistry, transport: &Arc<Scripted>, priority: i32) {
    let registration = TransportRegistration::duplex(&**transport).with_priority(priority);
    registry.register_duplex_transport(registration, Arc::clone(transport) as _).unwrap();
}

fn addresses(all: &[&str]) -> Vec<Address> {
    all.iter().map(|one| one.parse().unwrap()).collect()
}

fn resolve(registry: &TransportRegistry, all: &[&str], proximity: Proximity) -> Vec<Route> {
    registry.resolve(&addresses(all), proximity, &TransportRequirements::default())
}

fn order(routes: &[Route]) -> Vec<&str> {
    routes.iter().map(|route| route.address.as_str()).collect()
}

fn request() -> OutgoingRequest {
    OutgoingRequest::new("a/b/c".parse().unwrap(), InstanceId(1), Bytes::new())
}

#[test]
fn an_id_stands_once_and_the_error_says_which() {
    let registry = TransportRegistry::new();
    let tcp = Scripted::new("tcp", LatencyClass::Network);
    register(&registry, &tcp, 0);
    let again = TransportRegistration::duplex(&*tcp);
    let error = registry.register_duplex_transport(again, tcp).unwrap_err();
    assert!(matches!(&error, RegistryError::Duplicate { id } if id.as_str() == "tcp"));
    assert!(error.to_string().contains("\"tcp\" is registered already"), "{error}");
    assert_eq!((registry.registrations().len(), registry.revision()), (1, 1));
}

#[test]
fn selection_goes_by_requirements_then_priority_then_latency_then_name() {
    let registry = TransportRegistry::new();
    for (name, latency, priority) in [
        ("quic", LatencyClass::Network, 0),
        ("nats", LatencyClass::Brokered, 0),
        ("http", LatencyClass::Network, 0),
        ("slow", LatencyClass::Brokered, -1),
    ] {
        register(&registry, &Scripted::new(name, latency), priority);
    }
    let any = TransportRequirements::default();
    let selected = |required: &_| registry.select_transport(PlaneType::Request, required);
    assert_eq!(selected(&any), Some(TransportId::from_static("http")));
    register(&registry, &Scripted::new("far", LatencyClass::Brokered), 7);
    assert_eq!(selected(&any), Some(TransportId::from_static("far")));
    assert_eq!(selected(&TransportRequirements { encrypted: true, ..any }), None);
}

#[test]
fn near_routes_come_first_and_unknown_schemes_are_skipped() {
    let registry = TransportRegistry::new();
    register(&registry, &Scripted::new("quic", LatencyClass::Network), 9);
    register(&registry, &Scripted::new("tcp", LatencyClass::Network), 3);
    register(&registry, &Scripted::new("unix", LatencyClass::Host), 0);
    register(&registry, &Scripted::new("memory", LatencyClass::Process), -5);
    let all = ["tcp://b:1", "carrier-pigeon://coop", "tcp://a:1", "unix:///s", "memory://5f"];
    let order_at = |proximity| resolve(&registry, &all, proximity);
    let process = ["memory://5f", "unix:///s", "tcp://b:1", "tcp://a:1"];
    assert_eq!(order(&order_at(Proximity::Process)), process);
    assert_eq!(order(&order_at(Proximity::Unknown)), process);
    assert_eq!(order(&order_at(Proximity::Host)), process[1..]);
    assert_eq!(order(&order_at(Proximity::Remote)), process[2..]);
    let both = ["tcp://a:1", "quic://a:1"];
    assert_eq!(order(&resolve(&registry, &both, Proximity::Remote)), ["quic://a:1", "tcp://a:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_first_route_is_paid_for_once_per_hold_down() {
    let registry = TransportRegistry::new();
    let unix = Scripted::new("unix", LatencyClass::Host);
    let tcp = Scripted::new("tcp", LatencyClass::Network);
    register(&registry, &unix, 0);
    register(&registry, &tcp, 0);
    let routes = resolve(&registry, &["unix:///s", "tcp://a:1"], Proximity::Host);

    unix.fail(Code::ConnectFailed);
    for _ in 0..10 {
        let opened = registry.open(&routes, request()).await.unwrap();
        assert_eq!(opened.transport.as_str(), "tcp");
    }
    assert_eq!((unix.dials(), tcp.dials()), (1, 10));

    // Held down is not given up: with the other route gone too it is tried again.
    unix.fail(None);
    tcp.fail(Code::ConnectTimedOut);
    let opened = registry.open(&routes, request()).await.unwrap();
    assert_eq!(opened.transport.as_str(), "unix");
    assert_eq!((unix.dials(), tcp.dials()), (2, 11));

    // Its success ended its hold-down; the other one's ends with time.
    assert_eq!(registry.open(&routes, request()).await.unwrap().transport.as_str(), "unix");
    tcp.fail(None);
    unix.fail(Code::WrongPeer);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(registry.open(&routes, request()).await.unwrap().transport.as_str(), "tcp");
    assert_eq!((unix.dials(), tcp.dials()), (4, 12));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_slow_has_the_next_tried_beside_it() {
    let registry = TransportRegistry::new();
    let unix = Scripted::new("unix", LatencyClass::Host);
    let tcp = Scripted::new("tcp", LatencyClass::Network);
    register(&registry, &unix, 0);
    register(&registry, &tcp, 0);
    let routes = resolve(&registry, &["unix:///s", "tcp://a:1"], Proximity::Host);
    let used = async || {
        let begun = tokio::time::Instant::now();
        let opened = registry.open(&routes, request()).await.unwrap();
        (opened.transport.to_string(), begun.elapsed().as_millis())
    };
    let hello = |transport: &Scripted, millis| {
        *transport.hello.lock() = Some(Duration::from_millis(millis));
    };
    hello(&unix, 200);
    assert_eq!(used().await, ("unix".to_owned(), 200), "not slow enough");
    hello(&unix, 60_000);
    hello(&tcp, 100);
    assert_eq!(used().await, ("tcp".to_owned(), 350));
    assert_eq!(used().await, ("tcp".to_owned(), 0), "the slow one is not waited for again");
    assert_eq!((unix.dials(), tcp.dials()), (1, 2), "each request was sent once");

    // What fails meanwhile is no end of it.
    tokio::time::advance(Duration::from_secs(5)).await;
    hello(&unix, 700);
    hello(&tcp, 10);
    tcp.fail(Code::ConnectFailed);
    assert_eq!(used().await, ("unix".to_owned(), 700));

    hello(&unix, 60_000);
    hello(&tcp, 60_000);
    let context = Context::builder().timeout(Duration::from_secs(1)).build();
    let late = registry.open(&routes, request().with_context(context)).await.unwrap_err();
    assert_eq!((late.code(), late.executed()), (Code::DeadlineExceeded, Executed::No));
}

#[tokio::test]
async fn only_a_failure_to_connect_moves_on() {
    for (code, moves_on) in [
        (Code::ConnectFailed, true),
        (Code::ConnectTimedOut, true),
        (Code::WrongPeer, true),
        (Code::Version, true),
        (Code::NoTransport, true),
        (Code::ConnectionLost, false),
        (Code::Draining, false),
        (Code::Overloaded, false),
        (Code::TooLarge, false),
        (Code::HandlerFailed, false),
    ] {
        let registry = TransportRegistry::new();
        let unix = Scripted::new("unix", LatencyClass::Host);
        register(&registry, &unix, 0);
        register(&registry, &Scripted::new("tcp", LatencyClass::Network), 0);
        let routes = resolve(&registry, &["unix:///s", "tcp://a:1"], Proximity::Host);
        unix.fail(code);
        let opened = registry.open(&routes, request()).await;
        assert_eq!(opened.is_ok(), moves_on, "{code}");
        if let Err(error) = opened {
            assert_eq!(error.code(), code);
        }
    }
}

#[tokio::test]
async fn no_route_and_no_time_are_errors_of_their_own() {
    let registry = TransportRegistry::new();
    let error = registry.open(&[], request()).await.unwrap_err();
    assert_eq!(error.code(), Code::NoTransport);

    let unix = Scripted::new("unix", LatencyClass::Host);
    let tcp = Scripted::new("tcp", LatencyClass::Network);
    register(&registry, &unix, 0);
    register(&registry, &tcp, 0);
    let error = registry.no_transport(&"a/b/c 1", &addresses(&["quic://a:1"]));
    assert!(error.message().contains("offers [quic]"), "{error}");
    assert!(error.message().contains("speaks [unix, tcp]"), "{error}");

    unix.fail(Code::ConnectFailed);
    let routes = resolve(&registry, &["unix:///s", "tcp://a:1"], Proximity::Host);
    let late = Context::builder().timeout(Duration::ZERO).build();
    let error = registry.open(&routes, request().with_context(late)).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectFailed);
    assert_eq!(tcp.dials(), 0, "nothing is tried after the deadline");
}

struct Http;

impl RequestPlaneClient for Http {
    fn send_request(
        &self,
        _: String,
        payload: Bytes,
        _: Headers,
    ) -> BoxFuture<'_, Result<Bytes, Error>> {
        Box::pin(async { Ok(payload) })
    }
}

impl RequestPlaneServer for Http {
    fn start(&self, _: SocketAddr) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn public_address(&self) -> Option<Address> {
        "http://127.0.0.1:80".parse().ok()
    }
}

impl ResponsePlaneClient for Http {
    fn connect<'a>(
        &'a self,
        _: &'a str,
        _: Origin,
        _: Context,
    ) -> BoxFuture<'a, Result<ResponseSink, Error>> {
        Box::pin(async { Err(Error::new(Code::ConnectFailed, "nobody waits")) })
    }
}

#[tokio::test]
async fn planes_are_registered_apart_and_combine() {
    let registry = TransportRegistry::new();
    let record = |plane| {
        let capabilities = TransportCapabilities::streaming(1024);
        TransportRegistration::new(TransportId::from_static("http"), plane, capabilities)
    };
    let wrong = record(PlaneType::Response);
    let error = registry.register_request_transport(wrong, Arc::new(Http), None).await.unwrap_err();
    assert!(error.to_string().contains("register_response_transport"), "{error}");

    let request_side = record(PlaneType::Request);
    let server = Some(Arc::new(Http) as _);
    registry.register_request_transport(request_side, Arc::new(Http), server).await.unwrap();
    let response_side = record(PlaneType::Response);
    registry.register_response_transport(response_side, Arc::new(Http), None).await.unwrap();
    register(&registry, &Scripted::new("tcp", LatencyClass::Network), 0);

    let combinations = registry.combinations();
    let pairs: Vec<_> = combinations
        .iter()
        .map(|one| (one.request.as_str(), one.response.as_str(), one.exchange))
        .collect();
    assert_eq!(pairs, [("tcp", "tcp", Exchange::Duplex), ("http", "http", Exchange::Split)]);

    let http = TransportId::from_static("http");
    assert!(registry.request_client(&http).is_some() && registry.request_server(&http).is_some());
    assert!(registry.response_client(&http).is_some());
    assert!(registry.response_server(&http).is_none() && registry.duplex(&http).is_none());
    let address = registry.request_server(&http).and_then(|server| server.public_address());
    assert_eq!(address, addresses(&["http://127.0.0.1:80"]).pop());
    let sent = registry.request_client(&http).unwrap();
    let sent = sent.send_request("http://a:1".into(), Bytes::from("x"), Headers::new());
    assert_eq!(sent.await.unwrap(), "x");
    assert_eq!(registry.close(Duration::ZERO).await.cut_streams, 1);
}

#[test]
fn transports_know_the_ways_to_an_instance_while_its_routes_are_kept() {
    let registry = TransportRegistry::new();
    let unix = Scripted::new("unix", LatencyClass::Host);
    register(&registry, &unix, 0);
    register(&registry, &Scripted::new("tcp", LatencyClass::Network), 0);
    let known = unix.ways.lock().clone().unwrap();
    let ways = |address: &Address| -> Vec<String> {
        known.ways(address).iter().map(|way| way.address.to_string()).collect()
    };
    let theirs = ["unix:///a", "tcp://a:1", "quic://a:2"];
    let both = addresses(&theirs);
    let required = TransportRequirements::default();
    let resolve = |of: &[Address]| registry.resolve(of, Proximity::Host, &required);
    assert!(ways(&both[0]).is_empty());
    // Two endpoints of one process: the later routes may go first.
    let (first, second) = (resolve(&both), resolve(&both));
    drop(second);
    for address in &both[..2] {
        assert_eq!(ways(address), theirs[..2]);
    }
    assert!(ways(&both[2]).is_empty(), "nothing dials it");
    drop(first);
    assert!(ways(&both[0]).is_empty());
    // Whatever comes and goes, the table does not grow.
    for number in 0..1_000 {
        let there = addresses(&[&format!("unix:///{number}"), &format!("tcp://b:{number}")]);
        assert_eq!(resolve(&there).len(), 2);
    }
    assert!(registry.known_addresses() < 200, "{}", registry.known_addresses());
}
