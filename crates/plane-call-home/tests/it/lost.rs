//! Streams whose worker or whose way to it is gone before they began, and stops that come as early.

use std::{
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::poll;
use sinew_dynamo_wire::TcpStreamConnectionInfo;
use sinew_plane::{
    CancelReason, Code, Context, Executed, Origin, Outcome, OutgoingRequest, RequestStreamClient,
    RequestStreamServer, ResponsePlaneClient, ResponsePlaneServer, ResponseRegistration,
    ResponseSink, ResponseStream,
};
use sinew_plane_call_home::{
    DriverConfig, TcpStreamClient, TcpStreamClientConfig, TcpStreamServer, TcpStreamServerConfig,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    delivery::{any_caller, arrived, caller, connect, drain, plain, request, worker},
    fixture::{soon, until},
    pooled::{
        CALLER, WORKER, bridged_with, driver, forgetful, pair_for, pooled, pooled_caller, to_worker,
    },
    wire::{READY, RawWorker, header},
};

/// Far beyond what a test waits for.
const FOR_EVER: Duration = Duration::from_secs(600);

fn unlimited(cancel_timeout: Duration) -> TcpStreamServer {
    caller(TcpStreamServerConfig {
        driver: driver(CALLER),
        prologue_timeout: FOR_EVER,
        cancel_timeout,
        ..TcpStreamServerConfig::default()
    })
}

/// A worker that does not leave a shared connection for one of its own when it is not asked.
fn steadfast() -> TcpStreamClientConfig {
    TcpStreamClientConfig { open_timeout: FOR_EVER, ..pooled() }
}

/// One response, so that there is a shared connection where the worker makes such.
async fn warm(caller: &TcpStreamServer, worker: &TcpStreamClient) {
    let (stream, sink) = pair_for(caller, worker, &to_worker()).await;
    sink.complete();
    drain(stream).await;
    until("the stream to be over", || worker.pool().streams == 0).await;
}

/// The worker takes part in what was stopped before it came.
async fn finish_in_hand(stream: ResponseStream, mut sink: ResponseSink) {
    soon("the stop", sink.context().stopped()).await;
    assert!(!sink.context().is_killed());
    assert_eq!(sink.context().reason(), Some(CancelReason::Caller));
    sink.send(Bytes::from("in hand")).await.unwrap();
    sink.complete();
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["in hand"]);
    assert!(matches!(outcome, Outcome::Complete { items: 1 }), "{outcome:?}");
}

/// Over a connection of its own, over a shared one that is still to be made, and over one on
/// which the worker was asked before it has the request.
#[tokio::test]
async fn a_stop_before_a_sinew_worker_came_reaches_its_handler() {
    for (config, is_warm) in [(plain(), false), (steadfast(), false), (steadfast(), true)] {
        let (caller, worker) = (unlimited(FOR_EVER), worker(config));
        if is_warm {
            warm(&caller, &worker).await;
        }
        let ResponseRegistration { connection_info, mut stream } =
            caller.register(&to_worker()).unwrap();
        if is_warm {
            until("the question", || worker.pool().streams == 1).await;
        }
        stream.context().stop();
        if is_warm {
            // On the same connection: behind it the worker has heard of the stop.
            let (other, sink) = pair_for(&caller, &worker, &to_worker()).await;
            sink.complete();
            drain(other).await;
        }
        assert!(poll!(pin!(stream.started())).is_pending(), "the handler says how it ends");
        let sink = connect(&worker, &connection_info).await;
        finish_in_hand(stream, sink).await;
        assert_eq!(caller.streams(), 0);
    }
}

/// A request that was stopped before its response was expected.
#[tokio::test]
async fn a_stop_before_the_registration_reaches_the_handler_too() {
    for (config, is_warm) in [(plain(), false), (steadfast(), true)] {
        let (caller, worker) = (unlimited(FOR_EVER), worker(config));
        if is_warm {
            warm(&caller, &worker).await;
        }
        let request = to_worker();
        request.context.stop();
        let (stream, sink) = pair_for(&caller, &worker, &request).await;
        finish_in_hand(stream, sink).await;
    }
}

#[tokio::test]
async fn a_stop_waits_for_a_sinew_worker_only_so_long_and_a_kill_not_at_all() {
    let caller_one = unlimited(Duration::from_millis(50));
    let ResponseRegistration { mut stream, .. } = caller_one.register(&to_worker()).unwrap();
    stream.context().stop();
    let error = soon("the limit", stream.started()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::Maybe));
    assert!(matches!(drain(stream).await.1, Outcome::Cancelled { reason: CancelReason::Caller }));

    let caller_two = unlimited(FOR_EVER);
    let ResponseRegistration { connection_info, mut stream } =
        caller_two.register(&to_worker()).unwrap();
    let context = stream.context().clone();
    let killer = async {
        context.stop();
        tokio::task::yield_now().await;
        context.kill();
    };
    let (started, ()) = tokio::join!(soon("the end", stream.started()), killer);
    assert_eq!(started.unwrap_err().code(), Code::Cancelled);
    assert_eq!(caller_two.streams(), 0);
    let late = worker(plain());
    let dialled = late.connect(&connection_info, Origin::SameHost, arrived(&connection_info));
    let error = soon("the kill", dialled).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No), "nothing runs");
}

/// Of a stock worker a stop asks the same as a kill, and that is over at once.
#[tokio::test]
async fn a_stop_before_a_stock_worker_came_ends_the_exchange() {
    let caller = unlimited(FOR_EVER);
    let ResponseRegistration { connection_info, mut stream } = caller.register(&request()).unwrap();
    stream.context().stop();
    assert_eq!(soon("the end", stream.started()).await.unwrap_err().code(), Code::Cancelled);
    let mut late = RawWorker::dial(&caller, &connection_info).await;
    assert_eq!(late.control().await.as_deref(), Some("\"kill\""));
}

/// A worker that leaves the shared connection for one of its own hears of the stop again.
#[tokio::test]
async fn a_stop_is_passed_on_to_a_worker_that_comes_another_way() {
    let (caller, worker) = (unlimited(FOR_EVER), worker(pooled()));
    warm(&caller, &worker).await;
    let ResponseRegistration { connection_info, stream } = caller.register(&to_worker()).unwrap();
    until("the question", || worker.pool().streams == 1).await;
    stream.context().stop();
    let mut other = RawWorker::dial(&caller, &connection_info).await;
    assert_eq!(other.control().await.as_deref(), Some("\"stop\""));
}

/// Keeps no streams, so that those which have not begun are asked for again.
fn patient(open_timeout: Duration) -> DriverConfig {
    DriverConfig { open_timeout, ..forgetful(driver(CALLER)) }
}

/// The limit on the prologue is one minute by default: nobody comes any more long before.
#[tokio::test]
async fn a_stream_whose_only_connection_is_lost_before_it_began_ends_soon() {
    let ((bridge, caller), worker) =
        (bridged_with(patient(Duration::from_millis(50))).await, worker(pooled()));
    let (mut stream, sink) = pair_for(&caller, &worker, &to_worker()).await;
    assert!(poll!(pin!(stream.started())).is_pending());
    bridge.cut();
    soon("the kill", sink.context().killed()).await;
    let error = soon("the end", stream.started()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
    assert_eq!(caller.streams(), 0);
}

/// It is asked for on the next one, where the worker knows at once that its handler is gone.
#[tokio::test]
async fn a_stream_that_loses_its_connection_before_it_began_ends_at_once_on_another() {
    // Asked before it had the request, and behind it.
    for is_warm in [true, false] {
        let (bridge, caller) = bridged_with(patient(FOR_EVER)).await;
        let worker = worker(steadfast());
        if is_warm {
            warm(&caller, &worker).await;
        }
        let ResponseRegistration { connection_info, mut stream } =
            caller.register(&to_worker()).unwrap();
        if is_warm {
            until("the question", || worker.pool().streams == 1).await;
        }
        let sink = connect(&worker, &connection_info).await;
        assert!(poll!(pin!(stream.started())).is_pending());
        bridge.cut();
        soon("the kill", sink.context().killed()).await;
        drop(sink);
        warm(&caller, &worker).await;
        let error = soon("the end", stream.started()).await.unwrap_err();
        assert_eq!(error.code(), Code::ConnectionLost);
        assert!(!error.is_safe_to_resend(), "{error:?}");
        drop(stream);
        assert_eq!(caller.streams(), 0);
    }
}

/// The worker, to which the request was on its way, makes a new connection for it. The wait for
/// that does not outlast the connection: what the handler takes to begin is its own affair.
#[tokio::test]
async fn a_stream_that_finds_another_connection_in_time_has_all_the_time_to_begin() {
    let open_timeout = Duration::from_secs(1);
    let ((bridge, caller), worker) = (bridged_with(patient(open_timeout)).await, worker(pooled()));
    warm(&caller, &worker).await;
    let ResponseRegistration { connection_info, mut stream } =
        caller.register(&to_worker()).unwrap();
    until("the question", || worker.pool().streams == 1).await;
    assert!(poll!(pin!(stream.started())).is_pending());
    bridge.cut();
    until("the loss", || worker.pool().active + worker.pool().idle == 0).await;
    let started = tokio::spawn(async move {
        let started = soon("the start", stream.started()).await;
        (stream, started)
    });
    let mut sink = connect(&worker, &connection_info).await;
    // tidy-allow: sleep, the handler takes longer than a connection may
    tokio::time::sleep(open_timeout + Duration::from_millis(200)).await;
    assert!(!started.is_finished());
    sink.send(Bytes::from("after all")).await.unwrap();
    sink.complete();
    let (stream, started) = started.await.unwrap();
    started.unwrap();
    assert_eq!(drain(stream).await.0, ["after all"]);
}

/// An info that names a caller at this address, with the offer of shared connections.
fn offer_at(address: SocketAddr) -> (OutgoingRequest, String) {
    let caller = pooled_caller();
    let request = to_worker();
    let info = caller.register(&request).unwrap().connection_info;
    let mut info = TcpStreamConnectionInfo::from_text(&info).unwrap();
    info.address = address.to_string();
    (request, info.to_text())
}

fn hurried(connect_timeout: Duration) -> TcpStreamClientConfig {
    TcpStreamClientConfig {
        driver: DriverConfig { connect_timeout, handshake_timeout: FOR_EVER, ..driver(WORKER) },
        ..pooled()
    }
}

/// It accepts connections, says nothing to the mux, and confirms what comes alone.
#[tokio::test]
async fn a_caller_that_does_not_speak_the_mux_gets_a_connection_of_its_own_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut first = [0; 1];
            if socket.read_exact(&mut first).await.is_ok() && first[0] == 0 {
                socket.write_all(&header(READY)).await.unwrap();
            }
            held.push(socket);
        }
    });
    let (_, info) = offer_at(at);
    let worker = worker(hurried(Duration::from_millis(400)));
    let _sink = connect(&worker, &info).await;
}

/// A caller that does not answer at all, as behind a wall: its backlog is full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_ways_to_a_caller_that_is_not_there_share_one_limit() {
    use socket2::{Domain, SockAddr, Socket, Type};

    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let brief = Duration::from_millis(100);
    let mut full = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, brief) {
        full.push(stream);
        assert!(full.len() < 100, "the backlog does not fill");
    }

    let limit = Duration::from_secs(2);
    let (_, info) = offer_at(address);
    let worker = worker(hurried(limit));
    let began = Instant::now();
    let error = soon("the limit", worker.connect(&info, Origin::SameHost, arrived(&info)))
        .await
        .unwrap_err();
    let took = began.elapsed();
    assert_eq!((error.code(), error.executed()), (Code::ConnectTimedOut, Executed::No));
    assert!(error.message().contains("2s"), "{error}");
    assert!((limit..limit * 7 / 4).contains(&took), "{took:?} instead of {limit:?}");
}

/// Connections that the kernel looks after, of those with this port at one end or the other.
#[cfg(target_os = "linux")]
fn kept_alive(port: u16) -> (usize, usize) {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let (mut near, mut far) = (0, 0);
    for line in table.lines().skip(1) {
        let columns: Vec<_> = line.split_whitespace().collect();
        // The timer that runs is the one for keep-alive.
        if columns[5].starts_with("02:") {
            near += usize::from(columns[1].ends_with(&port));
            far += usize::from(columns[2].ends_with(&port));
        }
    }
    (near, far)
}

/// Nobody else notices that the other end is gone while neither has anything to say.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn silent_connections_are_looked_after_by_the_kernel() {
    let mut config = plain();
    config.driver.mux.keepalive_interval = Duration::from_secs(1);
    config.driver.mux.keepalive_timeout = Duration::from_secs(3);
    let (caller, worker) = (any_caller(), worker(config));
    let port = caller.local_address().port();
    let (_response, mut sink) = pair_for(&caller, &worker, &request()).await;
    sink.accept();
    until("the caller's end", || kept_alive(port).0 == 1).await;
    until("the worker's end, if it lasts", || kept_alive(port).1 == 1).await;

    let items = futures_util::stream::pending();
    let registered = caller.register_request_stream(&Context::new(), Box::pin(items)).unwrap();
    let info = registered.connection_info();
    let _request =
        worker.connect_request_stream(info, Origin::SameHost, arrived(info)).await.unwrap();
    until("both ends of a request stream", || kept_alive(port) == (2, 2)).await;
}
