//! A worker dies in the middle of a stream: its caller hears of it and is never left waiting.

use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::json;
use sinew::{Outcome, SingleIn};

use crate::{
    ours,
    place::{Backend, Codec, Place, Plane},
    process::soon,
    stock,
};

async fn sinew_sees_a_stock_worker_die(plane: Plane) {
    let place = Place::new(Backend::File, plane);
    let mut worker = stock::worker(&place, Codec::Msgpack).await;
    let caller = ours::Caller::start(&place, 1).await;
    let request = SingleIn::new(json!({ "forever": true, "delay_ms": 1 }));
    let mut response = soon("an answer", caller.router.generate(request)).await.unwrap();
    for expected in 0..20 {
        assert_eq!(soon("an item", response.next()).await.unwrap().unwrap()["i"], expected);
    }
    worker.signal(Signal::KILL);
    let mut next = 20;
    while let Some(item) = soon("the end", response.next()).await {
        let Ok(item) = item else { continue };
        assert_eq!(item["i"], next, "what was on its way arrives in order");
        next += 1;
    }
    let outcome = response.outcome().unwrap();
    assert!(matches!(outcome, Outcome::Truncated { received } if *received == next), "{outcome:?}");
    worker.ended().await;
    caller.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_stock_worker_truncates_its_streams() {
    sinew_sees_a_stock_worker_die(Plane::Tcp).await;
    sinew_sees_a_stock_worker_die(Plane::Nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_is_told_that_its_sinew_worker_was_killed() {
    for plane in [Plane::Tcp, Plane::Nats] {
        let place = Place::new(Backend::File, plane);
        let worker = ours::worker(&place, Codec::Msgpack).await;
        let mut client = stock::Client::start(&place, 1).await;
        let call = client.begin(json!({ "request": { "forever": true, "delay_ms": 1 } })).await;
        client.items(&call, 20).await;
        worker.signal(Signal::KILL);
        let ended = client.end(call).await;
        let error = ended.error.expect("an error");
        assert_eq!((&error["at"], &error["type"]), (&json!("item"), &json!("Disconnected")));
    }
}
