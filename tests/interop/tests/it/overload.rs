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
    process::Process,
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
    println!("{error}");
    let told = ["at", "type", "class"].map(|name| error[name].as_str().unwrap());
    assert_eq!(told, ["call", "WorkerOverloaded", "CapacityExhausted"], "{error}");
    let ended = client.call(to(&free, json!({ "items": 1 }))).await;
    assert_eq!((ended.count, ended.error), (1, None));
    let load = json!({ "requests": 40, "concurrency": 4, "request": { "items": 1 } });
    let summary = client.load(load).await;
    println!("{summary}");
    let served = &summary["by"][free.ready["instance"].as_str().unwrap()];
    assert_eq!((served, &summary["by"].as_object().unwrap().len()), (&summary["ok"], &1));
    assert!(served.as_u64() >= Some(20), "{summary}");
    let errors = summary["errors"].as_object().unwrap();
    assert!(errors.keys().all(|text| text.contains("Server overloaded:")), "{summary}");

    // Once there is room, it is as good as before.
    drop(holder);
    full.line(|line| line["event"] == "end").await;
    let ended = client.call(to(&full, json!({ "items": 1 }))).await;
    assert_eq!((ended.count, ended.error), (1, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_hears_of_an_overload_over_tcp() {
    a_full_sinew_worker_beside_another(Plane::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_hears_of_an_overload_over_nats() {
    a_full_sinew_worker_beside_another(Plane::Nats).await;
}

/// Refuses every request, in the words that a stock worker has for it.
async fn refuse(worker: dynamo::Worker, refused: Arc<AtomicUsize>) {
    let answers = [
        "Server overloaded: worker at capacity",
        "Server unavailable: unknown endpoint somewhere",
        "Server unavailable: worker pool channel closed",
    ];
    let mut connections = JoinSet::new();
    loop {
        let mut line = worker.connection().await;
        let refused = Arc::clone(&refused);
        connections.spawn(async move {
            loop {
                line.request().await;
                let count = refused.fetch_add(1, Ordering::Relaxed);
                line.acknowledge(answers[count % answers.len()]).await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_caller_goes_to_another_worker_when_a_stock_one_refuses() {
    let place = Place::new(Backend::File, Plane::Tcp);
    let _stock = stock::worker(&place, Codec::Msgpack).await;
    let worker = dynamo::Worker::new().await;
    let _entry = Entry::write(&place, 0x1f, &worker.host());
    let refused = Arc::new(AtomicUsize::new(0));
    let refusing = tokio::spawn(refuse(worker, Arc::clone(&refused)));
    let caller = ours::Caller::start(&place, 2).await;
    for _ in 0..20 {
        let ended = caller.call(json!({ "items": 1 })).await.unwrap();
        assert!(matches!(ended.outcome, Outcome::Complete { items: 1 }), "{ended:?}");
    }
    println!("{refused:?}");
    assert!(refused.load(Ordering::Relaxed) >= 3, "each of its words was heard");
    refusing.abort();
    caller.end().await;
}
