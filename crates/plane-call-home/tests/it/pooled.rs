//! The call-home plane, pooled: many responses over few connections.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sinew_dynamo_wire::TcpStreamConnectionInfo;
use sinew_mux::MuxConfig;
use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, InstanceId, Origin, Outcome, OutgoingRequest,
    ProcessId, ResponsePlaneClient, ResponsePlaneServer, ResponseRegistration, ResponseSink,
    ResponseStream, TrySendError, Window,
};
use sinew_plane_call_home::{
    DriverConfig, ListenConfig, TcpStreamClient, TcpStreamClientConfig, TcpStreamServer,
    TcpStreamServerConfig,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    delivery::{arrived, caller, connect, drain, next, request, worker},
    fixture::{soon, until},
    wire::{PROLOGUE, RawWorker, SENTINEL, header, item},
};

pub(crate) const CALLER: ProcessId = ProcessId(0xCA11);
pub(crate) const WORKER: ProcessId = ProcessId(0x3032);

pub(crate) fn driver(process: ProcessId) -> DriverConfig {
    DriverConfig { mux: MuxConfig { process, ..MuxConfig::default() }, ..DriverConfig::default() }
}

/// Of an end that keeps no streams without their connection.
pub(crate) fn forgetful(mut driver: DriverConfig) -> DriverConfig {
    driver.mux.resume = false;
    driver
}

pub(crate) fn pooled_caller() -> TcpStreamServer {
    caller(TcpStreamServerConfig { driver: driver(CALLER), ..TcpStreamServerConfig::default() })
}

pub(crate) fn pooled() -> TcpStreamClientConfig {
    TcpStreamClientConfig { driver: driver(WORKER), ..TcpStreamClientConfig::default() }
}

pub(crate) fn to_worker() -> OutgoingRequest {
    OutgoingRequest { process: Some(WORKER), ..request() }
}

pub(crate) async fn pair_for(
    caller: &TcpStreamServer,
    worker: &TcpStreamClient,
    request: &OutgoingRequest,
) -> (ResponseStream, ResponseSink) {
    let ResponseRegistration { connection_info, stream } = caller.register(request).unwrap();
    (stream, connect(worker, &connection_info).await)
}

async fn pair(
    caller: &TcpStreamServer,
    worker: &TcpStreamClient,
) -> (ResponseStream, ResponseSink) {
    pair_for(caller, worker, &to_worker()).await
}

/// One response from end to end.
async fn exchange(caller: &TcpStreamServer, worker: &TcpStreamClient) {
    let (stream, mut sink) = pair(caller, worker).await;
    sink.send(Bytes::from("hello")).await.unwrap();
    sink.complete();
    assert_eq!(drain(stream).await.0, ["hello"]);
}

#[tokio::test]
async fn items_arrive_in_order_over_a_shared_connection() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    for round in 0..3 {
        let (stream, mut sink) = pair(&caller, &worker).await;
        for item in ["one", "", "three"] {
            sink.send(Bytes::from(item)).await.unwrap();
        }
        sink.complete();
        let (items, outcome) = drain(stream).await;
        assert_eq!(items, ["one", "", "three"], "round {round}");
        assert!(matches!(outcome, Outcome::Complete { items: 3 }));
    }
    assert_eq!((worker.pool().created, worker.pool().reused), (1, 2));
    assert_eq!(caller.connections(), 1);
    assert_eq!(caller.streams(), 0);
    assert_eq!(worker.close(Duration::from_secs(5)).await.cut_streams, 0);
    assert_eq!(caller.close(Duration::from_secs(5)).await.cut_streams, 0);
}

/// Judged by the issue: 1,000 streams between one pair of processes over at most 4 connections.
#[tokio::test]
async fn a_thousand_streams_need_at_most_four_connections() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    let mut pairs = Vec::new();
    for _ in 0..1000 {
        pairs.push(pair(&caller, &worker).await);
    }
    let usage = worker.pool();
    assert!(usage.created <= 4, "{usage:?}");
    assert_eq!(usage.active as u64, usage.created);
    assert!(caller.connections() <= 4, "{}", caller.connections());
    for (number, (_, sink)) in pairs.iter_mut().enumerate() {
        sink.send(Bytes::from(number.to_string())).await.unwrap();
    }
    for (number, (stream, sink)) in pairs.into_iter().enumerate() {
        sink.complete();
        assert_eq!(drain(stream).await.0, [number.to_string()]);
    }
    let usage = worker.pool();
    assert!(usage.reused * 100 >= 99 * 1000, "{usage:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_streams_at_once_do_not_dial_a_thousand_times() {
    let (caller, worker) = (Arc::new(pooled_caller()), Arc::new(worker(pooled())));
    let mut tasks = JoinSet::new();
    for _ in 0..1000 {
        let (caller, worker) = (Arc::clone(&caller), Arc::clone(&worker));
        tasks.spawn(async move { exchange(&caller, &worker).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let usage = worker.pool();
    assert!(usage.created <= 4, "{usage:?}");
    assert!(usage.reused >= 996, "{usage:?}");
}

#[tokio::test]
async fn a_further_connection_comes_when_each_has_many_streams_and_up_to_a_limit() {
    let config = TcpStreamClientConfig { streams_per_connection: 2, max_per_target: 3, ..pooled() };
    let (caller, worker) = (pooled_caller(), worker(config));
    let mut pairs = Vec::new();
    // The second stream fills the connection, so the third has another one made.
    for (streams, connections) in [(1, 1), (2, 1), (3, 2)] {
        pairs.push(pair(&caller, &worker).await);
        assert_eq!(pairs.len(), streams);
        until("the connections", || caller.connections() == connections).await;
    }
    for _ in 0..20 {
        pairs.push(pair(&caller, &worker).await);
    }
    until("the last connection", || caller.connections() == 3).await;
    assert_eq!(worker.pool().created, 3);
}

/// Also when every request finds its question there already.
#[tokio::test]
async fn a_further_connection_comes_when_callers_ask_ahead() {
    let config = TcpStreamClientConfig { streams_per_connection: 3, ..pooled() };
    let (caller, worker) = (pooled_caller(), worker(config));
    exchange(&caller, &worker).await;
    until("the first to be over", || worker.pool().streams == 0).await;
    let registered: Vec<_> = (0..3).map(|_| caller.register(&to_worker()).unwrap()).collect();
    until("the questions", || worker.pool().streams == 3).await;
    let _sink = connect(&worker, &registered[0].connection_info).await;
    until("another connection", || caller.connections() == 2).await;
}

#[tokio::test]
async fn without_the_pool_at_either_end_each_stream_has_a_connection() {
    let no_pool_here = worker(TcpStreamClientConfig { pool: false, ..pooled() });
    let no_pool_there =
        caller(TcpStreamServerConfig { pool: false, driver: driver(CALLER), ..Default::default() });
    let cases = [(pooled_caller(), no_pool_here), (no_pool_there, worker(pooled()))];
    for (caller, worker) in &cases {
        let mut pairs = Vec::new();
        for _ in 0..5 {
            let (mut stream, mut sink) = pair(caller, worker).await;
            sink.send(Bytes::from("x")).await.unwrap();
            assert_eq!(next(&mut stream).await.unwrap().unwrap(), "x");
            pairs.push((stream, sink));
        }
        assert_eq!(caller.connections(), 5);
        assert_eq!(worker.pool().created, 0);
    }
    // A caller that does not know its worker's process offers none either.
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    let (stream, sink) = pair_for(&caller, &worker, &request()).await;
    sink.complete();
    assert!(matches!(drain(stream).await.1, Outcome::Complete { .. }));
    assert_eq!(worker.pool().created, 0);
}

#[tokio::test]
async fn a_stock_worker_ignores_the_offer() {
    let caller = pooled_caller();
    let ResponseRegistration { connection_info, stream } = caller.register(&to_worker()).unwrap();
    let mut stock = RawWorker::dial(&caller, &connection_info).await;
    stock.send(&[header(PROLOGUE), item("one"), header(SENTINEL)].concat()).await;
    assert_eq!(drain(stream).await.0, ["one"]);
}

/// A worker whose process is not the one that discovery named is asked in vain, and dials.
#[tokio::test]
async fn a_worker_that_is_not_asked_falls_back_to_a_connection_of_its_own() {
    let open_timeout = Duration::from_millis(100);
    let config =
        TcpStreamClientConfig { driver: driver(ProcessId(0xDEAD)), open_timeout, ..pooled() };
    let (caller, worker) = (pooled_caller(), worker(config));
    exchange(&caller, &worker).await;
}

#[tokio::test]
async fn errors_and_early_ends_keep_their_meaning() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    let (mut stream, sink) = pair(&caller, &worker).await;
    sink.reject(Error::new(Code::Overloaded, "full"));
    let error = soon("the refusal", stream.started()).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded);
    assert!(error.is_safe_to_resend());

    let (stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("one")).await.unwrap();
    sink.fail(Error::handler("broke"));
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["one"]);
    assert!(matches!(outcome, Outcome::Failed { error } if error.code() == Code::HandlerFailed));

    let (stream, sink) = pair(&caller, &worker).await;
    sink.cancelled(CancelReason::Shutdown);
    let outcome = drain(stream).await.1;
    assert!(matches!(outcome, Outcome::Cancelled { reason: CancelReason::Shutdown }));
}

#[tokio::test]
async fn a_cancel_reaches_the_request_of_the_worker_and_comes_back() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    for kill in [false, true] {
        let ResponseRegistration { connection_info, stream } =
            caller.register(&to_worker()).unwrap();
        let own = arrived(&connection_info);
        let connected = worker.connect(&connection_info, Origin::SameHost, own.clone());
        let mut sink = soon("the stream", connected).await.unwrap();
        sink.send(Bytes::from("one")).await.unwrap();
        let context = stream.context();
        if kill {
            context.kill()
        } else {
            context.stop()
        }
        if kill {
            soon("the kill", own.killed()).await;
            assert_eq!(sink.send(Bytes::new()).await.unwrap_err().code(), Code::Cancelled);
        } else {
            soon("the stop", own.stopped()).await;
            sink.send(Bytes::from("in hand")).await.unwrap();
        }
        assert_eq!(own.reason(), Some(CancelReason::Caller));
        drop(sink);
        let (items, outcome) = drain(stream).await;
        assert!(matches!(outcome, Outcome::Cancelled { .. }), "{outcome:?}");
        assert_eq!(items.last().unwrap(), if kill { "one" } else { "in hand" });
    }
    // Dropped, and a cancel of the worker's own.
    let (stream, sink) = pair(&caller, &worker).await;
    drop(stream);
    soon("the kill", sink.context().killed()).await;
    let (stream, mut sink) = pair(&caller, &worker).await;
    sink.context().cancel(sinew_plane::StopKind::Kill, CancelReason::Shutdown);
    assert_eq!(sink.send(Bytes::new()).await.unwrap_err().code(), Code::Cancelled);
    drop(sink);
    let outcome = drain(stream).await.1;
    assert!(matches!(outcome, Outcome::Cancelled { reason: CancelReason::Shutdown }));
}

#[tokio::test]
async fn a_deadline_ends_the_stream_and_the_handler() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    let context = Context::builder().timeout(Duration::from_millis(100)).build();
    let (stream, mut sink) = pair_for(&caller, &worker, &to_worker().with_context(context)).await;
    sink.accept();
    let ended = tokio::spawn(drain(stream));
    soon("the kill", sink.context().killed()).await;
    assert_eq!(sink.context().reason(), Some(CancelReason::DeadlineExceeded));
    drop(sink);
    let outcome = ended.await.unwrap().1;
    let late = matches!(outcome, Outcome::Cancelled { reason: CancelReason::DeadlineExceeded });
    assert!(late, "{outcome:?}");
}

#[tokio::test]
async fn the_window_of_a_request_holds_up_its_producer_and_no_other() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    let window = Window { items: 300, bytes: 1 << 20 };
    let narrow = to_worker().with_window(window);
    let (slow, mut slow_sink) = pair_for(&caller, &worker, &narrow).await;
    let mut sent = 0;
    loop {
        match slow_sink.try_send(Bytes::from("item")) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full(_)) => break,
            Err(TrySendError::Closed(error)) => panic!("{error}"),
        }
        slow_sink.flush();
    }
    assert_eq!(sent, 300, "as many as the window says");
    for _ in 0..20 {
        exchange(&caller, &worker).await;
    }
    let reader = tokio::spawn(drain(slow));
    soon("credit", slow_sink.send(Bytes::from("last"))).await.unwrap();
    slow_sink.complete();
    let (items, outcome) = reader.await.unwrap();
    assert_eq!(items.len(), 301);
    assert!(matches!(outcome, Outcome::Complete { items: 301 }));
    assert_eq!(caller.connections(), 1);
}

/// A way to the caller that can be cut, and what is told to workers in place of its address.
pub(crate) struct Bridge {
    port: u16,
    cut: Arc<parking_lot::Mutex<CancellationToken>>,
}

impl Bridge {
    async fn new() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (Self { port, cut: Arc::default() }, listener)
    }

    fn run(&self, listener: TcpListener, caller: std::net::SocketAddr) {
        let cut = Arc::clone(&self.cut);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let cut = cut.lock().clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(caller).await.unwrap();
                    let _ = cut.run_until_cancelled(copy_bidirectional(&mut near, &mut far)).await;
                });
            }
        });
    }

    /// Cuts every connection; later ones pass.
    pub(crate) fn cut(&self) {
        let mut cut = self.cut.lock();
        cut.cancel();
        *cut = CancellationToken::new();
    }
}

async fn bridged() -> (Bridge, TcpStreamServer) {
    bridged_with(driver(CALLER)).await
}

pub(crate) async fn bridged_with(driver: DriverConfig) -> (Bridge, TcpStreamServer) {
    let (bridge, listener) = Bridge::new().await;
    let advertise = Some(format!("127.0.0.1:{}", bridge.port));
    let listen = ListenConfig { advertise, ..ListenConfig::default() };
    let caller = caller(TcpStreamServerConfig { driver, listen, ..Default::default() });
    bridge.run(listener, caller.local_address());
    (bridge, caller)
}

#[tokio::test]
async fn without_resume_a_cut_ends_its_streams_and_the_connection_is_made_anew() {
    let ((bridge, caller), worker) =
        (bridged_with(forgetful(driver(CALLER))).await, worker(pooled()));
    let mut streams = Vec::new();
    for _ in 0..10 {
        let (mut stream, mut sink) = pair(&caller, &worker).await;
        sink.send(Bytes::from("one")).await.unwrap();
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
        streams.push((stream, sink));
    }
    let (mut unstarted, unstarted_sink) = pair(&caller, &worker).await;
    bridge.cut();
    for (stream, sink) in streams {
        soon("the kill", sink.context().killed()).await;
        assert_eq!(sink.context().reason(), Some(CancelReason::Disconnected));
        assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
    }
    soon("the kill", unstarted_sink.context().killed()).await;
    exchange(&caller, &worker).await;
    assert_eq!(worker.pool().created, 2);
    // Its handler is gone, and the new connection cannot bring it back.
    let error = soon("the end", unstarted.started()).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectionLost);
    assert!(!error.is_safe_to_resend(), "{error:?}");
    drop(unstarted);
    assert_eq!(caller.streams(), 0);
}

/// The question for a stream is asked again when its connection breaks before the worker had
/// the request.
#[tokio::test]
async fn a_stream_that_has_not_begun_survives_its_connection() {
    let ((bridge, caller), worker) = (bridged().await, worker(pooled()));
    exchange(&caller, &worker).await;
    // Asked for on the connection that is there, and then cut off.
    let ResponseRegistration { connection_info, mut stream } =
        caller.register(&to_worker()).unwrap();
    assert!(futures_util::poll!(std::pin::pin!(stream.started())).is_pending());
    bridge.cut();
    until("the loss to be seen", || worker.pool().active + worker.pool().idle == 0).await;
    let started = tokio::spawn(async move {
        let started = soon("the start", stream.started()).await;
        (stream, started)
    });
    let mut sink = connect(&worker, &connection_info).await;
    sink.send(Bytes::from("after all")).await.unwrap();
    sink.complete();
    let (stream, started) = started.await.unwrap();
    started.unwrap();
    assert_eq!(drain(stream).await.0, ["after all"]);
}

#[tokio::test]
async fn the_removal_of_an_instance_ends_what_has_not_begun() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    exchange(&caller, &worker).await;
    let (mut running, mut running_sink) = pair(&caller, &worker).await;
    running_sink.send(Bytes::from("one")).await.unwrap();
    assert_eq!(next(&mut running).await.unwrap().unwrap(), "one");
    let (mut silent, silent_sink) = pair(&caller, &worker).await;
    let mut unanswered = caller.register(&to_worker()).unwrap();
    caller.instance_removed(&request().endpoint, InstanceId(7));
    for stream in [&mut silent, &mut unanswered.stream] {
        let error = soon("the end", stream.started()).await.unwrap_err();
        assert_eq!(error.code(), Code::ConnectionLost);
    }
    soon("the kill", silent_sink.context().killed()).await;
    running_sink.send(Bytes::from("two")).await.unwrap();
    running_sink.complete();
    assert_eq!(drain(running).await.0, ["two"]);
}

#[tokio::test]
async fn questions_without_a_request_are_taken_back_or_expire() {
    // Withdrawn, as for a request that was refused.
    let open_timeout = Duration::from_secs(600);
    let config = TcpStreamClientConfig { open_timeout, ..pooled() };
    let (caller, patient) = (pooled_caller(), worker(config));
    exchange(&caller, &patient).await;
    let withdrawn = caller.register(&to_worker()).unwrap();
    until("the question", || patient.pool().active == 1).await;
    drop(withdrawn);
    until("the question to be taken back", || patient.pool().active == 0).await;
    soon("the close", patient.close(Duration::ZERO)).await;
    until("the connection to go", || caller.connections() == 0).await;

    // Never followed by a request.
    let open_timeout = Duration::from_millis(100);
    let config = TcpStreamClientConfig { open_timeout, ..pooled() };
    let worker = worker(config);
    exchange(&caller, &worker).await;
    let mut lost = caller.register(&to_worker()).unwrap();
    let error = soon("the question to expire", lost.stream.started()).await.unwrap_err();
    assert!(!error.is_safe_to_resend(), "{error:?}");
    until("the stream to be gone", || worker.pool().active == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_made_again() {
    let mut driver = driver(WORKER);
    driver.idle_timeout = Duration::from_millis(100);
    driver.mux.keepalive_interval = Duration::from_millis(40);
    driver.mux.keepalive_timeout = Duration::from_secs(20);
    let (caller, worker) = (pooled_caller(), worker(TcpStreamClientConfig { driver, ..pooled() }));
    exchange(&caller, &worker).await;
    until("the idle connection to go", || caller.connections() == 0).await;
    assert_eq!(worker.pool().idle, 0);
    exchange(&caller, &worker).await;
    assert_eq!(worker.pool().created, 2);
}

#[tokio::test]
async fn a_caller_that_is_gone_is_a_failed_dial_and_one_that_is_another_is_not_served() {
    let caller_one = pooled_caller();
    let worker =
        worker(TcpStreamClientConfig { dial_backoff: Duration::from_millis(1), ..pooled() });
    let gone = caller_one.register(&to_worker()).unwrap().connection_info;
    soon("the close", caller_one.close(Duration::ZERO)).await;
    let error = soon("the dial", worker.connect(&gone, Origin::SameHost, arrived(&gone)))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ConnectFailed);
    assert!(error.is_safe_to_resend());

    // Another process has taken the address: its pool is not used, and it knows no such stream.
    let caller_two = pooled_caller();
    let mut info = TcpStreamConnectionInfo::from_text(&gone).unwrap();
    info.address = caller_two.local_address().to_string();
    info.sinew.as_mut().unwrap().process = Some("bad".into());
    let info = info.to_text();
    let dialled = worker.connect(&info, Origin::SameHost, arrived(&info));
    let error = soon("the refusal", dialled).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
}

#[tokio::test]
async fn closing_either_side_cuts_what_is_left() {
    let (caller, worker_one) = (pooled_caller(), worker(pooled()));
    let (stream, mut sink) = pair(&caller, &worker_one).await;
    sink.send(Bytes::from("one")).await.unwrap();
    let cut = soon("the close", worker_one.close(Duration::from_millis(50))).await;
    assert_eq!(cut.cut_streams, 1);
    assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));

    let worker_two = worker(pooled());
    let (stream, mut sink) = pair(&caller, &worker_two).await;
    sink.send(Bytes::from("one")).await.unwrap();
    let cut = soon("the close", caller.close(Duration::from_millis(50))).await;
    assert_eq!(cut.cut_streams, 1);
    soon("the kill", sink.context().killed()).await;
    assert!(matches!(drain(stream).await.1, Outcome::Truncated { .. }));
    assert_eq!(caller.connections(), 0);
}

#[tokio::test]
async fn a_worker_that_stalls_before_it_begins_is_given_up() {
    let config = TcpStreamServerConfig {
        driver: driver(CALLER),
        prologue_timeout: Duration::from_millis(100),
        item_timeout: Some(Duration::from_millis(100)),
        ..TcpStreamServerConfig::default()
    };
    let (caller, worker) = (caller(config), worker(pooled()));
    let (mut stream, sink) = pair(&caller, &worker).await;
    let error = soon("the limit", stream.started()).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectTimedOut);
    soon("the kill", sink.context().killed()).await;
    let (mut stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("one")).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "one");
    assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
    soon("the kill", sink.context().killed()).await;
}
