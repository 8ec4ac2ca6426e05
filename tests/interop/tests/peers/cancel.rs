//! A cancel reaches the handler at the other end, whoever asks and however hard.

use futures_util::StreamExt;
use serde_json::{Value, json};
use sinew::{CancelReason, Outcome, SingleIn, StopKind};

use crate::{
    ours,
    place::{Backend, Codec, Place, Plane},
    process::{Process, soon},
    stock,
};

/// How the worker says that a request ended.
async fn end_of_request(worker: &mut Process) -> Value {
    worker.line(|line| line["event"] == "end").await["outcome"].clone()
}

async fn stock_cancels(plane: Plane, how: &str, outcome: &str) {
    let place = Place::new(Backend::File, plane);
    let mut worker = ours::worker(&place, Codec::Msgpack).await;
    let mut client = stock::Client::start(&place, 1).await;
    for request in
        [json!({ "forever": true, "delay_ms": 1 }), json!({ "items": 9, "stall_after": 3 })]
    {
        let ended = client.call(json!({ "request": request, "cancel_after": 3, "how": how })).await;
        assert!(ended.error.is_none(), "{ended:?}");
        assert!(ended.count >= 3, "{ended:?}");
        assert_eq!(end_of_request(&mut worker).await, outcome, "{request}");
    }
    let ended = client.call(json!({ "request": { "items": 2 } })).await;
    assert_eq!((ended.count, ended.error), (2, None), "the worker is as good as before");
}

async fn sinew_cancels(plane: Plane, kind: StopKind, outcome: &str) {
    let place = Place::new(Backend::File, plane);
    let mut worker = stock::worker(&place, Codec::Msgpack).await;
    let caller = ours::Caller::start(&place, 1).await;
    for request in
        [json!({ "forever": true, "delay_ms": 1 }), json!({ "items": 9, "stall_after": 3 })]
    {
        let request = SingleIn::new(request);
        let mut response = soon("an answer", caller.router.generate(request)).await.unwrap();
        for _ in 0..3 {
            soon("an item", response.next()).await.unwrap().unwrap();
        }
        response.context().cancel(kind, CancelReason::Caller);
        // Behind a kill it changes nothing; a stock context would forget the kill over it.
        response.context().stop();
        let rest = async { while response.next().await.is_some() {} };
        soon("the end", rest).await;
        let ended = response.outcome().unwrap();
        assert!(matches!(ended, Outcome::Cancelled { reason: CancelReason::Caller }), "{ended:?}");
        assert_eq!(end_of_request(&mut worker).await, outcome);
    }
    caller.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_stops_a_sinew_worker() {
    stock_cancels(Plane::Tcp, "stop", "stopped").await;
    stock_cancels(Plane::Nats, "stop", "stopped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_kills_a_sinew_worker() {
    stock_cancels(Plane::Tcp, "kill", "killed").await;
    stock_cancels(Plane::Nats, "kill", "killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_that_drops_its_stream_ends_the_sinew_handler() {
    stock_cancels(Plane::Tcp, "drop", "killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_caller_stops_a_stock_worker() {
    sinew_cancels(Plane::Tcp, StopKind::Stop, "stopped").await;
    sinew_cancels(Plane::Nats, StopKind::Stop, "stopped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_caller_kills_a_stock_worker() {
    sinew_cancels(Plane::Tcp, StopKind::Kill, "killed").await;
    sinew_cancels(Plane::Nats, StopKind::Kill, "killed").await;
}
