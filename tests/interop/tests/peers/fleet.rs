//! Stock and Sinew workers of one endpoint, side by side behind one router of either kind.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use sinew::Outcome;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    ours,
    place::{Backend, Codec, Place, Plane},
    process::Process,
    stock,
};

const REQUESTS: usize = 2_000;
const CONCURRENCY: usize = 64;

async fn two_of_each(place: &Place) -> Vec<Process> {
    vec![
        stock::worker(place, Codec::Json).await,
        ours::worker(place, Codec::Json).await,
        stock::worker(place, Codec::Msgpack).await,
        ours::worker(place, Codec::Msgpack).await,
    ]
}

/// Every worker had a fair share.
fn assert_shared(by: &BTreeMap<String, u64>, workers: &[Process]) {
    assert_eq!(by.len(), workers.len(), "{by:?}");
    for worker in workers {
        let served = by[worker.ready["instance"].as_str().unwrap()];
        assert!(served > REQUESTS as u64 / 8, "{by:?}");
    }
}

async fn behind_a_stock_router(backend: Backend, plane: Plane) {
    let place = Place::new(backend, plane);
    let workers = two_of_each(&place).await;
    let mut client = stock::Client::start(&place, workers.len()).await;
    let load = json!({
        "requests": REQUESTS, "concurrency": CONCURRENCY, "request": { "items": 5, "text": "x" },
    });
    let summary = client.load(load).await;
    assert_eq!((&summary["ok"], &summary["failed"]), (&json!(REQUESTS), &json!(0)), "{summary}");
    let by = serde_json::from_value(summary["by"].clone()).unwrap();
    assert_shared(&by, &workers);
}

async fn behind_a_sinew_router(backend: Backend, plane: Plane) {
    let place = Place::new(backend, plane);
    let workers = two_of_each(&place).await;
    let caller = Arc::new(ours::Caller::start(&place, workers.len()).await);
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut calls = JoinSet::new();
    for _ in 0..REQUESTS {
        let (caller, place) = (Arc::clone(&caller), Arc::clone(&places).acquire_owned().await);
        calls.spawn(async move {
            let _place = place.unwrap();
            caller.call(json!({ "items": 5, "text": "x" })).await.unwrap()
        });
    }
    let mut by = BTreeMap::<String, u64>::new();
    for ended in calls.join_all().await {
        assert!(matches!(ended.outcome, Outcome::Complete { items: 5 }), "{ended:?}");
        *by.entry(ended.items[0]["worker"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_shared(&by, &workers);
    Arc::into_inner(caller).unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_router_over_tcp() {
    behind_a_stock_router(Backend::File, Plane::Tcp).await;
    behind_a_stock_router(Backend::Etcd, Plane::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_router_over_nats() {
    behind_a_stock_router(Backend::File, Plane::Nats).await;
    behind_a_stock_router(Backend::Etcd, Plane::Nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_router_over_tcp() {
    behind_a_sinew_router(Backend::File, Plane::Tcp).await;
    behind_a_sinew_router(Backend::Etcd, Plane::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_router_over_nats() {
    behind_a_sinew_router(Backend::File, Plane::Nats).await;
    behind_a_sinew_router(Backend::Etcd, Plane::Nats).await;
}
