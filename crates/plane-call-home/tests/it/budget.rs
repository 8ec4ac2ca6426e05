//! What a connection with one stream holds at either end, with a small memory budget.

use std::sync::Arc;

use bytes::Bytes;
use sinew_plane::{
    Budget, BudgetUse, CancelReason, Code, Context, Executed, RequestStreamClient,
    RequestStreamServer, ResponsePlaneServer, ResponseSink, TrySendError, budget::Work,
};
use sinew_plane_call_home::{DriverConfig, TcpStreamClientConfig, TcpStreamServerConfig};

use crate::{
    delivery::{any_caller, arrived, caller, connect, next, plain, request, worker},
    fixture::until,
    wire::{PROLOGUE, expect, header},
};

const MIB: usize = 1 << 20;

/// With the prefix of each, the 64 that a queue takes are a little less than a connection's share.
const ITEM_BYTES: usize = 15 << 10;

fn budget() -> (Arc<Budget>, DriverConfig) {
    let budget = Budget::new(4 * MIB);
    let config = DriverConfig { budget: Some(Arc::clone(&budget)), ..DriverConfig::default() };
    (budget, config)
}

/// The beginning of an item of so many bytes.
fn begun_item(bytes: usize, sent: usize) -> Vec<u8> {
    let mut frame = vec![0; 8];
    frame.extend((bytes as u64).to_be_bytes());
    frame.resize(24 + sent, 0);
    frame
}

/// Sends until nothing more is taken, by the queue and by the kernel.
async fn fill(sink: &mut ResponseSink) {
    let item = Bytes::from(vec![7; ITEM_BYTES]);
    let mut refusals = 0;
    until("the queue to be full", || {
        let sent = sink.try_send(item.clone());
        sink.flush();
        refusals = if matches!(sent, Err(TrySendError::Full(_))) { refusals + 1 } else { 0 };
        refusals == 100
    })
    .await;
}

#[tokio::test]
async fn what_waits_at_a_worker_for_its_caller_to_read_is_charged() {
    let (budget, driver) = budget();
    let (caller, worker) = (any_caller(), worker(TcpStreamClientConfig { driver, ..plain() }));
    let registered = caller.register(&request()).unwrap();
    let mut sink = connect(&worker, &registered.connection_info).await;
    // Nobody reads it.
    fill(&mut sink).await;
    assert!(budget.used(BudgetUse::Queued) >= 128 << 10, "{}", budget.used(BudgetUse::Queued));
    drop((registered, sink));
    until("it to be let go of", || budget.used(BudgetUse::Queued) == 0).await;
}

#[tokio::test]
async fn the_response_that_is_parked_for_longest_is_ended_when_the_budget_stays_spent() {
    let (budget, driver) = budget();
    let (caller, worker) = (any_caller(), worker(TcpStreamClientConfig { driver, ..plain() }));
    let [first, second] = [0, 1].map(|_| caller.register(&request()).unwrap());
    // The one that comes first and is charged first is parked last.
    let mut late = connect(&worker, &first.connection_info).await;
    for _ in 0..2 {
        late.try_send(Bytes::from(vec![7; ITEM_BYTES])).unwrap();
    }
    let mut early = connect(&worker, &second.connection_info).await;
    fill(&mut early).await;
    fill(&mut late).await;
    // It is spent then, and either of the two would do.
    let mut others = Vec::new();
    while !budget.is_spent() {
        let bytes = (budget.new_work_limit() - budget.total()).min(budget.share());
        others.push(budget.open().hold(BudgetUse::Kept, bytes, Work::Running).unwrap());
    }
    assert_eq!(budget.admit().unwrap_err().code(), Code::Overloaded);

    until("a response to be ended", || early.context().is_killed()).await;
    assert_eq!(early.context().reason(), Some(CancelReason::Evicted));
    let error = early.send(Bytes::new()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Exhausted, Executed::Yes), "{error}");
    assert!(error.message().contains("memory_budget"), "{error}");
    until("the budget to have room", || budget.admit().is_ok()).await;
    assert!(!late.context().is_killed(), "one was enough");
    drop(others);
}

#[tokio::test]
async fn an_item_that_never_ends_is_charged_at_the_caller_and_ended_without_room() {
    let (budget, driver) = budget();
    let caller = caller(TcpStreamServerConfig { driver, ..TcpStreamServerConfig::default() });
    let (mut stream, mut worker) = expect(&caller).await;
    worker.send(&header(PROLOGUE)).await;
    worker.send(&begun_item(8 * MIB, 256 << 10)).await;
    tokio::select! {
        item = next(&mut stream) => panic!("{item:?}"),
        () = until("it to be charged", || budget.used(BudgetUse::Frames) >= 256 << 10) => {}
    }
    let error = tokio::select! {
        item = next(&mut stream) => item.unwrap().unwrap_err(),
        () = async {
            loop {
                worker.send(&[0; 64 << 10]).await;
            }
        } => unreachable!(),
    };
    assert_eq!(error.code(), Code::Exhausted, "{error}");
    drop(stream);
    until("it to be let go of", || budget.used(BudgetUse::Frames) == 0).await;
}

#[tokio::test]
async fn an_item_of_a_request_that_never_ends_is_charged_at_the_worker() {
    let (budget, driver) = budget();
    let (caller, worker) = (any_caller(), worker(TcpStreamClientConfig { driver, ..plain() }));
    let large = Bytes::from(vec![7; 2 * MIB]);
    let items = Box::pin(futures_util::stream::iter([large]));
    let registered = caller.register_request_stream(&Context::new(), items).unwrap();
    let info = registered.connection_info();
    let fetched = worker.connect_request_stream(info, sinew_plane::Origin::SameHost, arrived(info));
    let mut fetched = fetched.await.unwrap();
    let end = futures_util::StreamExt::next(&mut fetched).await;
    assert_eq!(end.unwrap().unwrap_err().code(), Code::Exhausted);
    drop(fetched);
    assert_eq!(budget.used(BudgetUse::Frames), 0);
}
