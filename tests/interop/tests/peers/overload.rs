//! Workers that are full: who is refused hears it as an overload, and everybody else is served.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use sinew::Outcome;
use tokio::task::JoinSet;

use crate::{
    by_hand::Entry,
    dynamo, ours,
    place::{Backend, Codec, Place, Plane},
    process::{Process, soon},
    stock,
};

fn to(worker: &Process, request: Value) -> Value {
    json!({ "request": request, "mode": "direct", "instance": worker.ready["instance"] })
}

async fn a_full_sinew_worker_beside_another(plane: Plane) {
    let place = Place::new(Backend::File, plane);
    let limit = [("SINEW_MAX_IN_FLIGHT", "1")];
    let mut full = ours::worker_with(&place, Codec::Msgpack, &limit).await;
    let free = ours::worker(&place, Codec::Msgpack).await;
    let mut holder = stock::Client::start(&place, 2).await;
    let held = holder.begin(to(&full, json!({ "items": 2, "stall_after": 1 }))).await;
    holder.items(&held, 1).await;

    let mut client = stock::Client::start(&place, 2).await;
    let refused = client.call(to(&full, json!({ "items": 1 }))).await;
    let error = refused.error.expect("a refusal");
    let told = ["at", "type", "class"].map(|name| error[name].as_str().unwrap());
    assert_eq!(told, ["call", "WorkerOverloaded", "CapacityExhausted"], "{error}");
    let ended = client.call(to(&free, json!({ "items": 1 }))).await;
    assert_eq!((ended.count, ended.error), (1, None));
    // The router has understood: for a second it leaves out who was full.
    let load = json!({ "requests": 40, "concurrency": 4, "request": { "items": 1 } });
    let summary = client.load(load).await;
    assert_eq!((&summary["ok"], &summary["failed"]), (&json!(40), &json!(0)), "{summary}");
    let served = &summary["by"][free.ready["instance"].as_str().unwrap()];
    assert_eq!(*served, 40, "{summary}");

    // Once there is room, it is as good as before.
    drop(holder);
    full.line(|line| line["event"] == "end").await;
    let again = async {
        while let Some(error) = client.call(to(&full, json!({ "items": 1 }))).await.error {
            assert_eq!(error["type"], "WorkerOverloaded", "{error}");
        }
    };
    soon("the end of the second", again).await;
}

/// More requests at once than there are places, before the worker has begun with any.
async fn a_burst_at_a_small_sinew_worker(plane: Plane) {
    let place = Place::new(Backend::File, plane);
    let limit = [("SINEW_MAX_IN_FLIGHT", "1")];
    let small = ours::worker_with(&place, Codec::Msgpack, &limit).await;
    let mut client = stock::Client::start(&place, 1).await;
    let mut load = to(&small, json!({ "items": 3, "delay_ms": 100 }));
    (load["requests"], load["concurrency"]) = (json!(8), json!(8));
    let summary = client.load(load).await;
    assert_eq!((&summary["ok"], &summary["failed"]), (&json!(1), &json!(7)), "{summary}");
    let errors = summary["errors"].as_object().unwrap();
    // None of them that the worker cannot be reached, which would set it aside for seconds.
    assert!(errors.keys().all(|text| text.contains("CapacityExhausted: ")), "{summary}");
    assert!(!errors.keys().any(|text| text.contains("Unavailable")), "{summary}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_at_a_small_sinew_worker_is_an_overload_to_a_stock_client() {
    a_burst_at_a_small_sinew_worker(Plane::Tcp).await;
    a_burst_at_a_small_sinew_worker(Plane::Nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_hears_of_an_overload_over_tcp() {
    a_full_sinew_worker_beside_another(Plane::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_hears_of_an_overload_over_nats() {
    a_full_sinew_worker_beside_another(Plane::Nats).await;
}

/// Refuses every request.
async fn refuse(worker: dynamo::Worker, text: &'static str, refused: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let mut line = worker.connection().await;
        let refused = Arc::clone(&refused);
        connections.spawn(async move {
            while line.0.peek(&mut [0]).await.is_ok_and(|bytes| bytes > 0) {
                line.request().await;
                refused.fetch_add(1, Ordering::Relaxed);
                line.acknowledge(text).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_caller_goes_to_another_worker_when_a_stock_one_refuses() {
    let place = Place::new(Backend::File, Plane::Tcp);
    let _stock = stock::worker(&place, Codec::Msgpack).await;
    for text in [
        "Server overloaded: worker at capacity",
        "Server unavailable: unknown endpoint somewhere",
        "Server unavailable: worker pool channel closed",
    ] {
        let worker = dynamo::Worker::new().await;
        let entry = Entry::write(&place, 0x1f, &worker.host());
        let refused = Arc::new(AtomicUsize::new(0));
        let refusing = tokio::spawn(refuse(worker, text, Arc::clone(&refused)));
        let caller = ours::Caller::start(&place, 2).await;
        for _ in 0..10 {
            let ended = caller.call(json!({ "items": 1 })).await.unwrap();
            assert!(matches!(ended.outcome, Outcome::Complete { items: 1 }), "{ended:?}");
        }
        assert!(refused.load(Ordering::Relaxed) > 0, "{text}");
        caller.end().await;
        refusing.abort();
        drop(entry);
    }
}
