//! Streams over shared connections whose connections are lost: the worker dials again, and the caller
//! attaches. What holds for every resumable transport is in the suite that `sinew-split` runs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sinew_plane::{
    Address, Budget, BudgetUse, CancelReason, Code, InstanceId, Outcome, OutgoingRequest,
    ProcessId, ResponsePlaneServer, ResponseSink, ResponseStream,
};
use sinew_plane_call_home::{
    DriverConfig, ListenConfig, TcpStreamClient, TcpStreamClientConfig, TcpStreamServer,
    TcpStreamServerConfig,
};
use sinew_testkit::{Cut, Cuts, CuttingProxy, Listen, Way};

use crate::{
    delivery::{caller, drain, next, plain, request, worker},
    fixture::{soon, until},
    pooled::{CALLER, WORKER, driver, forgetful, pair_for, pooled, to_worker},
};

/// Another worker of the same caller.
const OTHER: ProcessId = ProcessId(0x07E4);

/// Far below the grace of 20 s.
const SOON: Duration = Duration::from_secs(10);

/// A caller that is reached through a proxy, which counts what workers send.
pub(crate) async fn behind_proxy(driver: DriverConfig) -> (CuttingProxy, TcpStreamServer) {
    let nowhere = Address::tcp(([127, 0, 0, 1], 9).into());
    let proxy = CuttingProxy::start(Listen::loopback(), nowhere, Cuts::when_told()).await.unwrap();
    let proxy = proxy.counting_to_server();
    let advertise = Some(proxy.address().rest().to_owned());
    let listen = ListenConfig { advertise, ..ListenConfig::default() };
    let caller = caller(TcpStreamServerConfig { driver, listen, ..Default::default() });
    proxy.retarget(Address::tcp(caller.local_address()));
    (proxy, caller)
}

fn cut(proxy: &CuttingProxy, how: Cut) {
    (proxy as &dyn Way).cut(how);
}

fn to(process: ProcessId) -> OutgoingRequest {
    OutgoingRequest { process: Some(process), ..request() }
}

/// Gives a lost stream up soon.
fn hasty(process: ProcessId) -> DriverConfig {
    let mut driver = driver(process);
    driver.mux.keepalive_interval = Duration::from_millis(100);
    driver.mux.keepalive_timeout = Duration::from_millis(300);
    driver.mux.resume_grace = Duration::from_millis(600);
    driver
}

/// A stream of which the first item was taken.
async fn begun(
    caller: &TcpStreamServer,
    worker: &TcpStreamClient,
    request: &OutgoingRequest,
) -> (ResponseStream, ResponseSink) {
    let (mut stream, mut sink) = pair_for(caller, worker, request).await;
    sink.send(Bytes::from("first")).await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap().unwrap(), "first");
    (stream, sink)
}

async fn finish(stream: ResponseStream, mut sink: ResponseSink, item: &str) {
    sink.send(Bytes::copy_from_slice(item.as_bytes())).await.unwrap();
    sink.complete();
    let (items, outcome) = drain(stream).await;
    assert_eq!(items, [item]);
    assert!(matches!(outcome, Outcome::Complete { items: 2 }), "{outcome:?}");
}

/// As when a proxy dies: all shared connections at once.
#[tokio::test]
async fn a_thousand_streams_of_lost_connections_come_back_over_few_dials() {
    let (proxy, caller) = behind_proxy(driver(CALLER)).await;
    let worker = worker(pooled());
    let mut pairs = Vec::new();
    for _ in 0..1_000 {
        pairs.push(begun(&caller, &worker, &to_worker()).await);
    }
    let made = proxy.made();
    assert!(made >= 2, "the streams are on several connections");
    for how in [Cut::Reset, Cut::Fin] {
        let made = proxy.made();
        cut(&proxy, how);
        for (number, (_, sink)) in pairs.iter_mut().enumerate() {
            sink.send(Bytes::from(number.to_string())).await.unwrap();
        }
        for (number, (stream, _)) in pairs.iter_mut().enumerate() {
            assert_eq!(next(stream).await.unwrap().unwrap(), number.to_string());
        }
        let dials = proxy.made() - made;
        assert!(dials <= 3, "{dials} dials");
    }
    for (stream, sink) in pairs {
        sink.complete();
        assert!(matches!(drain(stream).await.1, Outcome::Complete { items: 3 }));
    }
    assert_eq!(caller.streams(), 0);
    until("the streams to be over", || worker.pool().streams == 0).await;
}

#[tokio::test]
async fn the_streams_of_two_workers_are_not_mixed_up() {
    let (proxy, caller) = behind_proxy(driver(CALLER)).await;
    let processes = [WORKER, OTHER];
    let workers = processes
        .map(|process| worker(TcpStreamClientConfig { driver: driver(process), ..pooled() }));
    let mut pairs = Vec::new();
    for number in 0..40 {
        let which = number % 2;
        pairs.push(begun(&caller, &workers[which], &to(processes[which])).await);
    }
    for how in [Cut::Reset, Cut::Fin] {
        cut(&proxy, how);
    }
    for (number, (stream, sink)) in pairs.into_iter().enumerate() {
        finish(stream, sink, &format!("{number} by {}", processes[number % 2])).await;
    }
    assert_eq!(caller.streams(), 0);
}

/// Nothing is dialled for them.
#[tokio::test]
async fn the_streams_of_one_lost_connection_attach_at_once_to_another_that_is_up() {
    let (proxy, caller) = behind_proxy(driver(CALLER)).await;
    let config = TcpStreamClientConfig { streams_per_connection: 2, max_per_target: 2, ..pooled() };
    let worker = worker(config);
    let mut pairs = Vec::new();
    // The second connection, which the third stream has made, breaks behind so many bytes.
    for number in 0..6 {
        if number == 1 {
            proxy.cut_next_after(20_000, Cut::Reset);
        }
        pairs.push(begun(&caller, &worker, &to_worker()).await);
        let made = if number < 1 { 1 } else { 2 };
        if number != 1 {
            until("the connections", || proxy.made() == made).await;
        }
    }
    until("both to be used", || worker.pool().active == 2).await;
    let item = Bytes::from(vec![7; 5_000]);
    let began = Instant::now();
    for _ in 0..6 {
        for (_, sink) in &mut pairs {
            sink.send(item.clone()).await.unwrap();
        }
    }
    for (mut stream, sink) in pairs {
        for _ in 0..6 {
            assert_eq!(next(&mut stream).await.unwrap().unwrap(), item);
        }
        sink.complete();
        assert!(matches!(drain(stream).await.1, Outcome::Complete { items: 7 }));
    }
    assert!(began.elapsed() < SOON);
    assert_eq!(proxy.take_log().len(), 1, "the connection was cut");
    assert_eq!(proxy.made(), 2, "none was made in its place");
}

#[tokio::test]
async fn a_connection_of_one_response_does_not_resume_and_the_server_says_what_does() {
    let (proxy, caller) = behind_proxy(driver(CALLER)).await;
    let alone = worker(plain());
    let (stream, sink) = begun(&caller, &alone, &to_worker()).await;
    cut(&proxy, Cut::Reset);
    assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
    soon("the kill", sink.context().killed()).await;
    assert!(caller.resumes());
    for (driver, pool) in [
        (driver(CALLER), false),
        (driver(ProcessId::UNKNOWN), true),
        (forgetful(driver(CALLER)), true),
    ] {
        let config = TcpStreamServerConfig { driver, pool, ..Default::default() };
        assert!(!self::caller(config).resumes());
    }
}

/// Each of the two alone keeps nothing.
#[tokio::test]
async fn with_an_end_that_keeps_no_streams_they_end_with_their_connection() {
    for (near, far) in
        [(forgetful(driver(CALLER)), driver(WORKER)), (driver(CALLER), forgetful(driver(WORKER)))]
    {
        let (proxy, caller) = behind_proxy(near).await;
        let worker = worker(TcpStreamClientConfig { driver: far, ..pooled() });
        let (stream, sink) = begun(&caller, &worker, &to_worker()).await;
        let began = Instant::now();
        cut(&proxy, Cut::Fin);
        assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
        soon("the kill", sink.context().killed()).await;
        assert!(began.elapsed() < SOON);
    }
}

/// Its process is gone, and says nothing.
#[tokio::test]
async fn a_worker_that_nobody_hears_of_again_leaves_true_prefixes_when_the_grace_is_over() {
    let (proxy, caller) = behind_proxy(hasty(CALLER)).await;
    let worker = worker(TcpStreamClientConfig { driver: hasty(WORKER), ..pooled() });
    let (stream, sink) = begun(&caller, &worker, &to_worker()).await;
    let (mut silent, _other) = pair_for(&caller, &worker, &to_worker()).await;
    proxy.hold();
    cut(&proxy, Cut::Reset);
    assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
    soon("the kill", sink.context().killed()).await;
    assert_eq!(sink.context().reason(), Some(CancelReason::Disconnected));
    // The one that had not begun is asked for again, of a worker that has given it up.
    proxy.release();
    let error = soon("the end", silent.started()).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectionLost);
    assert!(!error.is_safe_to_resend(), "{error:?}");
}

/// Discovery has removed it, and it does not dial as one that drains would.
#[tokio::test]
async fn a_worker_that_was_removed_is_given_up_before_the_grace_is_over() {
    let (proxy, caller) = behind_proxy(driver(CALLER)).await;
    let worker = worker(pooled());
    let (stream, _sink) = begun(&caller, &worker, &to_worker()).await;
    let began = Instant::now();
    proxy.hold();
    cut(&proxy, Cut::Reset);
    until("the worker to dial", || proxy.made() == 2).await;
    caller.instance_removed(&request().endpoint, InstanceId(7));
    assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// One that drains was removed as well, and its streams go on.
#[tokio::test]
async fn a_worker_that_was_removed_and_dials_again_keeps_its_streams() {
    let (proxy, caller) = behind_proxy(driver(CALLER)).await;
    let worker = worker(pooled());
    let (stream, sink) = begun(&caller, &worker, &to_worker()).await;
    proxy.hold();
    cut(&proxy, Cut::Reset);
    until("the worker to dial", || proxy.made() == 2).await;
    caller.instance_removed(&request().endpoint, InstanceId(7));
    proxy.release();
    finish(stream, sink, "after all").await;
}

#[tokio::test]
async fn a_worker_that_closes_for_good_is_not_waited_for() {
    let (_proxy, caller) = behind_proxy(driver(CALLER)).await;
    let worker = worker(pooled());
    let (stream, _sink) = begun(&caller, &worker, &to_worker()).await;
    let began = Instant::now();
    assert_eq!(worker.close(Duration::ZERO).await.cut_streams, 1);
    assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// Streams without a connection are among those that are cut.
#[tokio::test]
async fn either_side_may_close_while_streams_wait() {
    for caller_first in [true, false] {
        let (proxy, caller) = behind_proxy(driver(CALLER)).await;
        let worker = worker(pooled());
        let (stream, sink) = begun(&caller, &worker, &to_worker()).await;
        proxy.hold();
        cut(&proxy, Cut::Reset);
        until("the worker to dial", || proxy.made() == 2).await;
        let began = Instant::now();
        if caller_first {
            until("the caller to see it", || caller.connections() == 0).await;
            assert_eq!(caller.close(Duration::ZERO).await.cut_streams, 1);
            assert!(matches!(drain(stream).await.1, Outcome::Truncated { received: 1 }));
        } else {
            assert_eq!(worker.close(Duration::ZERO).await.cut_streams, 1);
            soon("the kill", sink.context().killed()).await;
        }
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

/// What a worker keeps for a caller that is cut off is charged, and let go of with the streams.
#[tokio::test]
async fn what_is_kept_is_charged_while_the_caller_is_away() {
    const ITEM_BYTES: usize = 64 << 10;
    let budget = Budget::new(16 << 20);
    let (proxy, caller) = behind_proxy(hasty(CALLER)).await;
    let driver = DriverConfig { budget: Some(Arc::clone(&budget)), ..hasty(WORKER) };
    let worker = worker(TcpStreamClientConfig { driver, ..pooled() });
    let (stream, mut sink) = begun(&caller, &worker, &to_worker()).await;
    for is_held in [false, true] {
        if is_held {
            proxy.hold();
        }
        let made = proxy.made();
        cut(&proxy, Cut::Reset);
        until("the worker to dial", || proxy.made() > made).await;
        if is_held {
            // Within its window, which nobody reads.
            let item = Bytes::from(vec![7; ITEM_BYTES]);
            assert!(sink.try_send(item.clone()).is_ok() && sink.try_send(item).is_ok());
            assert!(budget.used(BudgetUse::Kept) >= 2 * ITEM_BYTES);
        }
    }
    soon("the kill", sink.context().killed()).await;
    drop((stream, sink));
    until("all to be let go of", || budget.used(BudgetUse::Kept) == 0).await;
}
