//! One request and its items, each way, over every discovery, plane and codec.

use serde_json::{Value, json};
use sinew::{Code, Executed, Outcome};

use crate::{
    ours,
    place::{Backend, Codec, Place, Plane},
    stock,
};

const MIB: usize = 1024 * 1024;

/// Values that are easily damaged on the way.
fn odd_values() -> Value {
    json!(["", "\u{1f980} \u{e4}\u{f6}\u{fc} \u{4f60}\u{597d} \u{0}\n\"\\", {}, [], null, true, 0,
        -1, 9007199254740993_u64, u64::MAX, i64::MIN, 0.1, {"data": {"complete_final": true}},
        {"error": "not one"}, [[[{"a": [""]}]]]])
}

async fn stock_calls_sinew(backend: Backend, plane: Plane, codec: Codec) {
    let place = Place::new(backend, plane);
    let worker = ours::worker(&place, codec).await;
    let mut client = stock::Client::start(&place, 1).await;
    let instance = worker.ready["instance"].clone();

    for items in [0, 1, 3] {
        let ended = client.call(json!({ "request": { "items": items, "text": "" } })).await;
        assert!(ended.error.is_none(), "{ended:?}");
        let numbers: Vec<_> = ended.items.iter().map(|item| item["i"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..items).collect::<Vec<_>>());
        assert!(ended.items.iter().all(|item| item["worker"] == instance && item["text"] == ""));
    }
    let ended = client.call(json!({ "request": { "items": 10_000 }, "quiet": true })).await;
    assert_eq!((ended.count, ended.error), (10_000, None));

    let values = odd_values();
    let ended = client.call(json!({ "request": { "kind": "values", "values": values } })).await;
    assert_eq!((Value::from(ended.items), ended.error), (values, None));

    let large = json!({ "request": { "items": 2, "size": 5 * MIB }, "quiet": true });
    let ended = client.call(large).await;
    assert_eq!((ended.count, ended.error), (2, None));
    assert!(ended.line["bytes"].as_u64().unwrap() > 10 * MIB as u64);

    // As an item, although nothing came before it: a stock router that learns of it from the
    // prologue takes the worker for one that cannot be reached, and avoids it.
    let ended = client.call(json!({ "request": { "items": 3, "fail": "before" } })).await;
    let error = ended.error.expect("an error");
    assert_eq!((ended.count, &error["at"]), (0, &json!("item")));
    assert!(error["text"].as_str().unwrap().contains("the engine refuses this request"), "{error}");

    let ended = client.call(json!({ "request": { "items": 3, "fail": "after:2" } })).await;
    let error = ended.error.expect("an error");
    assert_eq!((ended.count, &error["at"]), (2, &json!("item")));
    assert!(error["text"].as_str().unwrap().contains("the engine failed half way"), "{error}");

    // None of it made the stock router avoid a healthy worker.
    let ended = client.call(json!({ "request": { "items": 1 } })).await;
    assert_eq!((ended.count, ended.error), (1, None));
}

async fn sinew_calls_stock(backend: Backend, plane: Plane, codec: Codec) {
    let place = Place::new(backend, plane);
    let worker = stock::worker(&place, codec).await;
    let caller = ours::Caller::start(&place, 1).await;
    let instance = worker.ready["instance"].clone();

    for items in [0, 1, 3] {
        let ended = caller.call(json!({ "items": items, "text": "" })).await.unwrap();
        assert!(matches!(ended.outcome, Outcome::Complete { items: n } if n == items), "{ended:?}");
        let numbers: Vec<_> = ended.items.iter().map(|item| item["i"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..items).collect::<Vec<_>>());
        assert!(ended.items.iter().all(|item| item["worker"] == instance && item["text"] == ""));
    }
    let ended = caller.call(json!({ "items": 10_000 })).await.unwrap();
    assert!(matches!(ended.outcome, Outcome::Complete { items: 10_000 }), "{:?}", ended.outcome);

    let values = odd_values();
    let ended = caller.call(json!({ "kind": "values", "values": values })).await.unwrap();
    assert_eq!(Value::from(ended.items), values);

    let ended = caller.call(json!({ "items": 2, "size": 5 * MIB })).await.unwrap();
    assert!(matches!(ended.outcome, Outcome::Complete { items: 2 }), "{:?}", ended.outcome);
    assert!(ended.items.iter().all(|item| item["pad"].as_str().unwrap().len() == 5 * MIB));

    let error = caller.call(json!({ "items": 3, "fail": "before" })).await.unwrap_err();
    // What a stock worker says before its stream does not tell whether its engine had begun.
    assert_eq!((error.code(), error.executed()), (Code::HandlerFailed, Executed::Maybe));
    assert!(error.message().contains("the engine refuses this request"), "{error}");

    let ended = caller.call(json!({ "items": 3, "fail": "after:2" })).await.unwrap();
    assert_eq!(ended.items.len(), 2);
    let Outcome::Failed { error } = ended.outcome else { panic!("{:?}", ended.outcome) };
    assert_eq!(error.code(), Code::HandlerFailed);
    assert!(error.message().contains("the engine failed half way"), "{error}");
    caller.end().await;
}

macro_rules! exchanges {
    ($($name:ident: $backend:ident, $plane:ident, $codec:ident;)+) => {$(
        mod $name {
            use super::{Backend, Codec, Plane};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn stock_calls_sinew() {
                super::stock_calls_sinew(Backend::$backend, Plane::$plane, Codec::$codec).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sinew_calls_stock() {
                super::sinew_calls_stock(Backend::$backend, Plane::$plane, Codec::$codec).await;
            }
        }
    )+};
}

exchanges! {
    file_tcp_json: File, Tcp, Json;
    file_tcp_msgpack: File, Tcp, Msgpack;
    file_nats_json: File, Nats, Json;
    file_nats_msgpack: File, Nats, Msgpack;
    etcd_tcp_json: Etcd, Tcp, Json;
    etcd_tcp_msgpack: Etcd, Tcp, Msgpack;
    etcd_nats_json: Etcd, Nats, Json;
    etcd_nats_msgpack: Etcd, Nats, Msgpack;
}
