//! The call-home plane, plain: one connection for each response.

use std::{io::Read, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_dynamo_wire::TcpStreamConnectionInfo;
use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, InstanceId, Origin, Outcome, OutgoingRequest,
    RequestStreamClient, ResponsePlaneClient, ResponsePlaneServer, ResponseRegistration,
    ResponseSink, ResponseStream, TrySendError, burst,
};
use sinew_plane_call_home::{
    DriverConfig, ListenConfig, TcpStreamClient, TcpStreamClientConfig, TcpStreamServer,
    TcpStreamServerConfig,
};

use crate::{
    fixture::{soon, until},
    pooled::{WORKER, pair_for, pooled, pooled_caller},
};

pub(crate) fn caller(config: TcpStreamServerConfig) -> TcpStreamServer {
    TcpStreamServer::bind(config.checked().unwrap()).unwrap()
}

pub(crate) fn any_caller() -> TcpStreamServer {
    caller(TcpStreamServerConfig::default())
}

pub(crate) fn worker(config: TcpStreamClientConfig) -> TcpStreamClient {
    TcpStreamClient::new(config.checked().unwrap())
}

pub(crate) fn plain() -> TcpStreamClientConfig {
    TcpStreamClientConfig { pool: false, ..TcpStreamClientConfig::default() }
}

pub(crate) fn request() -> OutgoingRequest {
    OutgoingRequest::new("test/call/home".parse().unwrap(), InstanceId(7), Bytes::from("body"))
}

/// The worker's context of a request: it has the caller's id.
pub(crate) fn arrived(info: &str) -> Context {
    let info = TcpStreamConnectionInfo::from_text(info).unwrap();
    let id = sinew_dynamo_wire::context_id(&info.context).unwrap();
    Context::builder().id(id).build()
}

pub(crate) async fn connect(worker: &TcpStreamClient, info: &str) -> ResponseSink {
    soon("the dial back", worker.connect(info, Origin::SameHost, arrived(info))).await.unwrap()
}

/// The worker hears that nobody waits for the stream, and has nothing to run.
async fn assert_unwanted(worker: &TcpStreamClient, info: &str) {
    let dialled = worker.connect(info, Origin::SameHost, arrived(info));
    let error = soon("the refusal", dialled).await.map(drop).unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
}

pub(crate) async fn next(stream: &mut ResponseStream) -> Option<Result<Bytes, Error>> {
    soon("an item or the end", stream.next()).await
}

/// The items up to the end, and how it ended.
pub(crate) async fn drain(mut stream: ResponseStream) -> (Vec<Bytes>, Outcome) {
    let mut items = Vec::new();
    while let Some(item) = next(&mut stream).await {
        items.extend(item.ok());
    }
    (items, stream.outcome().unwrap().clone())
}

/// A stream with both its ends.
async fn pair(
    caller: &TcpStreamServer,
    worker: &TcpStreamClient,
) -> (ResponseStream, ResponseSink) {
    let ResponseRegistration { connection_info, stream } = caller.register(&request()).unwrap();
    (stream, connect(worker, &connection_info).await)
}

#[tokio::test]
async fn items_arrive_in_order_and_the_end_is_complete() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (mut stream, mut sink) = pair(&caller, &worker).await;
    for item in ["one", "", "three"] {
        sink.send(Bytes::from(item)).await.unwrap();
    }
    sink.complete();
    soon("the start", stream.started()).await.unwrap();
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["one", "", "three"]);
    assert!(matches!(outcome, Outcome::Complete { items: 3 }));
    assert_eq!(caller.streams(), 0);
    assert_eq!(worker.close(Duration::from_secs(5)).await.cut_streams, 0);
    assert_eq!(caller.close(Duration::from_secs(5)).await.cut_streams, 0);
    assert_eq!(caller.connections(), 0);
}

#[tokio::test]
async fn nothing_and_much_and_large_items_arrive() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (stream, sink) = pair(&caller, &worker).await;
    sink.complete();
    assert!(matches!(drain(stream).await.1, Outcome::Complete { items: 0 }));

    let (stream, mut sink) = pair(&caller, &worker).await;
    tokio::spawn(async move {
        for number in 0..10_000_u32 {
            sink.send(Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
        }
        sink.complete();
    });
    let (items, _) = drain(stream).await;
    assert!(
        (0..10_000_u32).eq(items.iter().map(|it| u32::from_be_bytes(it[..].try_into().unwrap())))
    );
    assert_eq!(items.len(), 10_000);

    let (stream, mut sink) = pair(&caller, &worker).await;
    let large = Bytes::from(vec![7; 5 << 20]);
    let sent = large.clone();
    tokio::spawn(async move {
        for _ in 0..3 {
            sink.send(sent.clone()).await.unwrap();
        }
        sink.complete();
    });
    let (items, _) = drain(stream).await;
    assert!(items.len() == 3 && items.iter().all(|item| *item == large));
}

#[tokio::test]
async fn an_item_over_the_limit_is_refused_where_it_is_sent() {
    let caller = any_caller();
    let worker = worker(TcpStreamClientConfig { max_frame_bytes: 2048, ..plain() });
    let (stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from(vec![0; 2024])).await.unwrap();
    let error = sink.send(Bytes::from(vec![0; 2025])).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    sink.fail(error);
    let (items, outcome) = drain(stream).await;
    assert_eq!(items.len(), 1);
    assert!(matches!(outcome, Outcome::Failed { error } if error.code() == Code::TooLarge));
}

#[tokio::test]
async fn errors_keep_their_code_before_and_after_the_first_item() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (mut stream, sink) = pair(&caller, &worker).await;
    sink.reject(Error::new(Code::Overloaded, "full"));
    let error = soon("the refusal", stream.started()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Overloaded, "full"));
    assert!(error.is_safe_to_resend());
    assert!(matches!(drain(stream).await.1, Outcome::Failed { .. }));

    let (stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("one")).await.unwrap();
    sink.fail(Error::handler("the engine broke"));
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["one"]);
    let Outcome::Failed { error } = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.code(), error.executed()), (Code::HandlerFailed, Executed::Yes));
    assert_eq!(error.message(), "the engine broke");

    let (stream, sink) = pair(&caller, &worker).await;
    drop(sink);
    let (_, outcome) = drain(stream).await;
    assert!(matches!(outcome, Outcome::Failed { error } if error.code() == Code::HandlerGone));
}

#[tokio::test]
async fn a_stop_lets_the_handler_finish_and_a_kill_does_not() {
    let (caller, worker) = (any_caller(), worker(plain()));
    // Stopped, and completes all the same.
    let (mut stream, mut sink) = pair(&caller, &worker).await;
    sink.accept();
    soon("the start", stream.started()).await.unwrap();
    stream.context().stop();
    soon("the stop", sink.context().stopped()).await;
    assert!(!sink.context().is_killed());
    sink.send(Bytes::from("in hand")).await.unwrap();
    sink.complete();
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["in hand"]);
    assert!(matches!(outcome, Outcome::Complete { items: 1 }));

    // Stopped, and ends as stopped.
    let (mut stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("before")).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "before");
    stream.context().stop();
    soon("the stop", sink.context().stopped()).await;
    sink.send(Bytes::from("in hand")).await.unwrap();
    drop(sink);
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["in hand"]);
    assert!(matches!(outcome, Outcome::Cancelled { reason: CancelReason::Caller }), "{outcome:?}");

    // Killed.
    let (mut stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("before")).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "before");
    stream.context().kill();
    soon("the kill", sink.context().killed()).await;
    assert_eq!(sink.context().reason(), Some(CancelReason::Caller));
    let error = sink.send(Bytes::from("too late")).await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    drop(sink);
    let (items, outcome) = drain(stream).await;
    assert!(items.is_empty());
    assert!(matches!(outcome, Outcome::Cancelled { reason: CancelReason::Caller }), "{outcome:?}");
}

/// The caller hears of an end that it did not ask for.
#[tokio::test]
async fn a_stream_that_the_worker_ends_early_is_cancelled_and_not_truncated() {
    let (caller, worker) = (any_caller(), worker(plain()));
    for begun in [false, true] {
        let (stream, mut sink) = pair(&caller, &worker).await;
        if begun {
            sink.send(Bytes::from("one")).await.unwrap();
        }
        sink.cancelled(CancelReason::Shutdown);
        let (items, outcome) = drain(stream).await;
        assert_eq!(items.len(), usize::from(begun));
        let shutdown = matches!(outcome, Outcome::Cancelled { reason: CancelReason::Shutdown });
        assert!(shutdown, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_dropped_stream_kills_its_handler() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("one")).await.unwrap();
    drop(stream);
    soon("the kill", sink.context().killed()).await;
    assert_eq!(sink.context().reason(), Some(CancelReason::Caller));
    assert_eq!(caller.streams(), 0);
}

#[tokio::test]
async fn a_deadline_kills_the_handler_and_ends_the_stream() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let context = Context::builder().timeout(Duration::from_millis(100)).build();
    let registered = caller.register(&request().with_context(context)).unwrap();
    let mut sink = connect(&worker, &registered.connection_info).await;
    sink.accept();
    let ended = tokio::spawn(drain(registered.stream));
    soon("the kill", sink.context().killed()).await;
    drop(sink);
    let outcome = ended.await.unwrap().1;
    let late = matches!(outcome, Outcome::Cancelled { reason: CancelReason::DeadlineExceeded });
    assert!(late, "{outcome:?}");
}

#[tokio::test]
async fn a_cancel_before_the_worker_came_ends_at_once_and_the_worker_runs_nothing() {
    let (caller, worker) = (any_caller(), worker(plain()));
    for kill in [false, true] {
        let ResponseRegistration { connection_info, mut stream } =
            caller.register(&request()).unwrap();
        let context = stream.context().clone();
        if kill {
            context.kill()
        } else {
            context.stop()
        }
        let error = soon("the end", stream.started()).await.unwrap_err();
        assert_eq!(error.code(), Code::Cancelled);
        assert!(matches!(drain(stream).await.1, Outcome::Cancelled { .. }));
        assert_unwanted(&worker, &connection_info).await;
        assert_eq!(caller.streams(), 0);
    }
}

/// Back-pressure reaches the producer, and only the producer of the stream that is not read.
#[tokio::test]
async fn a_slow_consumer_holds_up_its_own_producer_and_no_other() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (slow, mut slow_sink) = pair(&caller, &worker).await;
    let item = Bytes::from(vec![1; 64 << 10]);
    let mut sent = 0_usize;
    // More than the sockets hold: at some point no more is taken.
    loop {
        match slow_sink.try_send(item.clone()) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full(_)) => break,
            Err(TrySendError::Closed(error)) => panic!("{error}"),
        }
        slow_sink.flush();
        assert!(sent < 4096, "256 MiB were taken for a consumer that takes nothing");
    }
    let (fast, mut fast_sink) = pair(&caller, &worker).await;
    tokio::spawn(async move {
        for _ in 0..1000 {
            fast_sink.send(Bytes::from("quick")).await.unwrap();
        }
        fast_sink.complete();
    });
    assert_eq!(drain(fast).await.0.len(), 1000);

    // It goes on as soon as it is read.
    let reader = tokio::spawn(drain(slow));
    slow_sink.send(item.clone()).await.unwrap();
    slow_sink.complete();
    let (items, outcome) = reader.await.unwrap();
    assert_eq!(items.len(), sent + 1);
    assert!(matches!(outcome, Outcome::Complete { .. }));
}

/// A reader that pauses for longer than a dead peer is given must not lose its stream.
#[tokio::test]
async fn a_paused_consumer_keeps_its_stream() {
    let mut driver = DriverConfig::default();
    driver.mux.keepalive_interval = Duration::from_millis(400);
    driver.mux.keepalive_timeout = Duration::from_secs(1);
    let caller = caller(TcpStreamServerConfig { driver: driver.clone(), ..Default::default() });
    let worker = worker(TcpStreamClientConfig { driver, ..plain() });
    let (stream, mut sink) = pair(&caller, &worker).await;
    let item = Bytes::from(vec![1; 1 << 20]);
    let writer = tokio::spawn(async move {
        for _ in 0..32 {
            sink.send(item.clone()).await?;
        }
        sink.complete();
        Ok::<_, Error>(())
    });
    // tidy-allow: sleep, the pause is what is tested
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (items, outcome) = drain(stream).await;
    assert!(matches!(outcome, Outcome::Complete { items: 32 }), "{outcome:?}");
    assert_eq!(items.len(), 32);
    writer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_burst_leaves_in_one_piece_and_not_before_its_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let worker = worker(plain());
    let info = TcpStreamConnectionInfo {
        address: listener.local_addr().unwrap().to_string(),
        subject: "any".into(),
        context: "any".into(),
        stream_type: sinew_dynamo_wire::StreamType::Response,
        sinew: None,
    };
    let mut sink = worker.connect(&info.to_text(), Origin::SameHost, Context::new()).await.unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let mut handshake = [0; 24 + 42];
    socket.read_exact(&mut handshake).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    burst(|| {
        for _ in 0..10 {
            sink.try_send(Bytes::from("token")).unwrap();
            sink.flush();
        }
        let early = socket.read(&mut bytes).unwrap_err();
        assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock, "nothing leaves inside");
    });
    // The prologue and ten items, written before the burst returned.
    assert_eq!(socket.read(&mut bytes).unwrap(), 24 + 14 + 10 * (24 + 5));
    // A burst that is longer than the queue does not fail.
    burst(|| {
        for _ in 0..200 {
            sink.try_send(Bytes::from("token")).unwrap();
            sink.flush();
        }
    });
}

#[tokio::test]
async fn a_registration_is_withdrawn_when_it_is_dropped_and_used_once() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let registered = caller.register(&request()).unwrap();
    let info = registered.connection_info.clone();
    assert_eq!(caller.streams(), 1);
    drop(registered);
    assert_eq!(caller.streams(), 0);
    assert_unwanted(&worker, &info).await;

    let ResponseRegistration { connection_info, stream } = caller.register(&request()).unwrap();
    let mut first = connect(&worker, &connection_info).await;
    first.send(Bytes::from("mine")).await.unwrap();
    assert_unwanted(&worker, &connection_info).await;
    assert!(!first.context().is_killed(), "the first is untouched");
    first.complete();
    assert_eq!(drain(stream).await.0, ["mine"]);
}

#[tokio::test]
async fn a_request_has_one_stream_and_the_server_a_limit_of_them() {
    let caller = caller(TcpStreamServerConfig { max_streams: 2, ..Default::default() });
    let first = request();
    let registered = caller.register(&first).unwrap();
    let error = caller.register(&first).unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Violation, Executed::No));
    let _second = caller.register(&request()).unwrap();
    let error = caller.register(&request()).unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Exhausted, Executed::No));
    // The refused ones have left nothing behind.
    drop(registered);
    let _again = caller.register(&first).unwrap();
    assert_eq!(caller.streams(), 2);
}

/// Plain and pooled: what has begun does not stand in the way, and its end takes nothing along.
#[tokio::test]
async fn a_request_may_have_another_stream_once_the_first_has_begun() {
    for process in [None, Some(WORKER)] {
        let (caller, worker) = (pooled_caller(), worker(pooled()));
        let request = OutgoingRequest { process, ..request() };
        let (mut first, mut first_sink) = pair_for(&caller, &worker, &request).await;
        assert_eq!(caller.register(&request).unwrap_err().code(), Code::Violation);
        first_sink.accept();
        soon("the start", first.started()).await.unwrap();

        let (mut second, mut second_sink) = pair_for(&caller, &worker, &request).await;
        assert_eq!(caller.register(&request).unwrap_err().code(), Code::Violation);
        first_sink.send(Bytes::from("first")).await.unwrap();
        first_sink.complete();
        assert_eq!(drain(first).await.0, ["first"]);
        // The end of the first leaves the second in its place.
        assert_eq!(caller.streams(), 1);
        assert_eq!(caller.register(&request).unwrap_err().code(), Code::Violation);

        second_sink.send(Bytes::from("second")).await.unwrap();
        soon("the start", second.started()).await.unwrap();
        // One that was refused is out of the way too, while its stream is still held.
        let (mut refused, refusing) = pair_for(&caller, &worker, &request).await;
        refusing.reject(Error::new(Code::Overloaded, "full"));
        assert!(soon("the refusal", refused.started()).await.is_err());
        // A cancel of the request is one of both.
        let (third, third_sink) = pair_for(&caller, &worker, &request).await;
        request.context.kill();
        for (stream, sink) in [(second, second_sink), (third, third_sink)] {
            soon("the kill", sink.context().killed()).await;
            drop(sink);
            assert!(matches!(drain(stream).await.1, Outcome::Cancelled { .. }));
        }
        drop(refused);
        assert_eq!(caller.streams(), 0);
    }
}

#[tokio::test]
async fn many_registrations_and_dials_at_once_find_each_other() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (caller, worker) = (std::sync::Arc::new(caller), std::sync::Arc::new(worker));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200_u32 {
        let (caller, worker) = (caller.clone(), worker.clone());
        tasks.spawn(async move {
            let (stream, mut sink) = pair(&caller, &worker).await;
            sink.send(Bytes::from(number.to_string())).await.unwrap();
            sink.complete();
            assert_eq!(drain(stream).await.0, [number.to_string()]);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(caller.streams(), 0);
}

/// Upstream's `worker_removal_cancellation`: what waits ends at once, what runs drains.
#[tokio::test]
async fn the_removal_of_an_instance_ends_what_has_not_begun() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let endpoint = request().endpoint;
    let undialled = caller.register(&request()).unwrap();
    let (silent, silent_sink) = pair(&caller, &worker).await;
    let (mut running, mut running_sink) = pair(&caller, &worker).await;
    running_sink.send(Bytes::from("one")).await.unwrap();
    assert_eq!(next(&mut running).await.unwrap().unwrap(), "one");
    let sibling_request = OutgoingRequest { instance: InstanceId(8), ..request() };
    let sibling = caller.register(&sibling_request).unwrap();
    let other_request = OutgoingRequest { endpoint: "a/b/c".parse().unwrap(), ..request() };
    let other = caller.register(&other_request).unwrap();

    caller.instance_removed(&endpoint, InstanceId(7));
    for mut gone in [undialled.stream, silent] {
        let error = soon("the end", gone.started()).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
    }
    soon("the silent handler to be killed", silent_sink.context().killed()).await;

    // A request that was on its way to it is refused before it is sent, for a while.
    let error = caller.register(&request()).unwrap_err();
    assert!(error.is_safe_to_resend(), "{error:?}");
    assert!(caller.register(&sibling_request.clone().with_context(Context::new())).is_ok());
    caller.instance_added(&endpoint, InstanceId(7));
    assert!(caller.register(&request()).is_ok());

    // Those of others still work, and so does what was running.
    for registered in [sibling, other] {
        let sink = connect(&worker, &registered.connection_info).await;
        sink.complete();
        assert!(matches!(drain(registered.stream).await.1, Outcome::Complete { .. }));
    }
    running_sink.send(Bytes::from("two")).await.unwrap();
    running_sink.complete();
    assert_eq!(drain(running).await.0, ["two"]);
}

#[tokio::test]
async fn a_tombstone_expires() {
    let ttl = Duration::from_millis(50);
    let caller = caller(TcpStreamServerConfig { tombstone_ttl: ttl, ..Default::default() });
    caller.instance_removed(&request().endpoint, InstanceId(7));
    assert!(caller.register(&request()).is_err());
    until("the tombstone to expire", || caller.register(&request()).is_ok()).await;
}

/// Removal and prologue race; whichever wins, the two ends agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_and_prologue_are_ordered() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let caller = std::sync::Arc::new(caller);
    for _ in 0..200 {
        let (mut stream, mut sink) = pair(&caller, &worker).await;
        let remover = std::sync::Arc::clone(&caller);
        let removal = tokio::task::spawn_blocking(move || {
            remover.instance_removed(&request().endpoint, InstanceId(7));
            remover.instance_added(&request().endpoint, InstanceId(7));
        });
        sink.accept();
        let started = soon("the start or the end", stream.started()).await;
        removal.await.unwrap();
        if started.is_ok() {
            sink.send(Bytes::from("x")).await.unwrap();
            sink.complete();
            assert!(matches!(drain(stream).await.1, Outcome::Complete { items: 1 }));
        } else {
            soon("the kill", sink.context().killed()).await;
        }
    }
}

#[tokio::test]
async fn a_caller_that_closes_cuts_what_is_left_and_takes_nothing_new() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("one")).await.unwrap();
    let (fine, mut fine_sink) = pair(&caller, &worker).await;
    let closing = async {
        let cut = caller.close(Duration::from_millis(300)).await;
        assert_eq!(cut.cut_streams, 1);
    };
    let finishing = async {
        fine_sink.send(Bytes::from("within the grace")).await.unwrap();
        fine_sink.complete();
        assert_eq!(drain(fine).await.0, ["within the grace"]);
        assert!(caller.register(&request()).unwrap_err().is_safe_to_resend());
    };
    tokio::join!(closing, finishing);
    soon("the kill", sink.context().killed()).await;
    let (_, outcome) = drain(stream).await;
    assert!(!matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    assert_eq!(caller.connections(), 0);
}

#[tokio::test]
async fn a_worker_that_closes_cuts_what_is_left_and_dials_no_more() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let (stream, mut sink) = pair(&caller, &worker).await;
    sink.send(Bytes::from("one")).await.unwrap();
    let cut = soon("the close", worker.close(Duration::from_millis(50))).await;
    assert_eq!(cut.cut_streams, 1);
    soon("the kill", sink.context().killed()).await;
    assert_eq!(sink.context().reason(), Some(CancelReason::Shutdown));
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, ["one"]);
    assert!(matches!(outcome, Outcome::Truncated { received: 1 }), "{outcome:?}");
    let registered = caller.register(&request()).unwrap();
    let info = &registered.connection_info;
    let error = worker.connect(info, Origin::SameHost, arrived(info)).await.unwrap_err();
    assert!(error.is_safe_to_resend(), "{error:?}");
}

#[tokio::test]
async fn a_caller_that_is_not_up_yet_is_dialled_again_and_not_for_ever() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let config = TcpStreamClientConfig { dial_backoff: Duration::from_millis(20), ..plain() };
    let worker = worker(TcpStreamClientConfig { dial_retries: 2, ..config.clone() });
    let info = TcpStreamConnectionInfo {
        address: format!("127.0.0.1:{port}"),
        subject: "any".into(),
        context: "any".into(),
        stream_type: sinew_dynamo_wire::StreamType::Response,
        sinew: None,
    };
    let text = info.to_text();
    let refused =
        soon("the end of the retries", worker.connect(&text, Origin::SameHost, Context::new()));
    let error = refused.await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));

    let patient = self::worker(TcpStreamClientConfig { dial_retries: 50, ..config });
    let context = Context::new();
    let (dialled, _listener) =
        tokio::join!(patient.connect(&text, Origin::SameHost, context), async {
            // tidy-allow: sleep, the caller comes up late
            tokio::time::sleep(Duration::from_millis(50)).await;
            std::net::TcpListener::bind(("127.0.0.1", port)).unwrap()
        });
    assert!(dialled.is_ok(), "{dialled:?}");
}

#[tokio::test]
async fn a_killed_request_does_not_dial_on() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let info = TcpStreamConnectionInfo {
        address: reserved.local_addr().unwrap().to_string(),
        subject: "any".into(),
        context: "any".into(),
        stream_type: sinew_dynamo_wire::StreamType::Response,
        sinew: None,
    };
    drop(reserved);
    let slow = TcpStreamClientConfig { dial_backoff: Duration::from_secs(600), ..plain() };
    let worker = worker(slow);
    let context = Context::new();
    let (text, killer) = (info.to_text(), context.clone());
    let (dialled, ()) = tokio::join!(
        soon("the dial to be given up", worker.connect(&text, Origin::SameHost, context)),
        async { killer.kill() }
    );
    let error = dialled.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
}

#[tokio::test]
async fn an_info_for_another_request_or_direction_is_refused() {
    let (caller, worker) = (any_caller(), worker(plain()));
    let registered = caller.register(&request()).unwrap();
    let info = &registered.connection_info;
    let error = worker.connect(info, Origin::SameHost, Context::new()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidPayload);
    let error =
        worker.connect_request_stream(info, Origin::SameHost, arrived(info)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidPayload);
}

#[tokio::test]
async fn addresses_to_bind_and_to_tell_are_apart() {
    use sinew_plane::BindPolicy;
    use sinew_plane_call_home::ListenHost;
    let open = ListenConfig { bind_policy: BindPolicy::Insecure, ..ListenConfig::default() };
    let any = ListenHost::Ip("0.0.0.0".parse().unwrap());
    let wildcard = caller(TcpStreamServerConfig {
        listen: open.clone(),
        host: any.clone(),
        ..Default::default()
    });
    let told = wildcard.public_address().unwrap();
    assert!(!told.rest().starts_with("0.0.0.0"), "{told}");
    assert!(told.rest().ends_with(&wildcard.local_address().port().to_string()), "{told}");

    let advertise = Some("caller.example".to_owned());
    let named = ListenConfig { advertise, ..ListenConfig::default() };
    let named = caller(TcpStreamServerConfig { listen: named, ..Default::default() });
    assert!(named.local_address().ip().is_loopback());
    let port = named.local_address().port();
    assert_eq!(named.public_address().unwrap().rest(), format!("caller.example:{port}"));

    let closed = TcpStreamServerConfig { host: any, ..Default::default() };
    let refused = TcpStreamServer::bind(closed.checked().unwrap()).unwrap_err();
    assert!(refused.message().contains("insecure"), "{refused}");
    let missing = TcpStreamServerConfig {
        listen: open,
        host: ListenHost::Interface("no-such-interface".into()),
        ..Default::default()
    };
    let refused = TcpStreamServer::bind(missing.checked().unwrap()).unwrap_err();
    assert!(refused.message().contains("no-such-interface"), "{refused}");

    // Where the machine has IPv6: the brackets make it a dialable address.
    let six = ListenHost::Ip("::1".parse().unwrap());
    let six = TcpStreamServerConfig { host: six, ..Default::default() };
    if let Ok(six) = TcpStreamServer::bind(six.checked().unwrap()) {
        let worker = worker(plain());
        let (stream, sink) = pair(&six, &worker).await;
        sink.complete();
        assert!(matches!(drain(stream).await.1, Outcome::Complete { .. }));
    }
}
