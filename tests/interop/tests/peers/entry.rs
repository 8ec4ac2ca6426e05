//! A Sinew worker in etcd, as an operator of Dynamo looks at it.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    ours,
    place::{Backend, Codec, Place, Plane, service},
    process::soon,
    stock,
};

async fn etcdctl(arguments: &[&str]) -> String {
    let mut command = Command::new("etcdctl");
    command.args(["--endpoints", &service("SINEW_TEST_ETCD")]).args(arguments);
    let output = soon("etcdctl", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What `etcdctl get --prefix` prints of the endpoint: keys and values, line by line.
async fn entries(prefix: &str) -> BTreeMap<String, Value> {
    let text = etcdctl(&["get", "--prefix", prefix]).await;
    let lines: Vec<_> = text.lines().collect();
    let entry = |pair: &[&str]| (pair[0].to_owned(), serde_json::from_str(pair[1]).unwrap());
    lines.chunks_exact(2).map(entry).collect()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn entry(plane: Plane) {
    let place = Place::new(Backend::Etcd, plane);
    let stock = stock::worker(&place, Codec::Msgpack).await;
    let mut ours = ours::worker(&place, Codec::Msgpack).await;
    let prefix = format!("v1/instances/{}/", place.endpoint);
    let all = entries(&prefix).await;
    let key = |instance: &Value| format!("{prefix}{}", instance.as_str().unwrap());
    let (our_key, stock_key) = (key(&ours.ready["instance"]), key(&stock.ready["instance"]));
    assert_eq!(all.len(), 2, "{all:?}");
    let (entry, model) = (&all[&our_key], &all[&stock_key]);

    let mut wanted = vec![
        "type",
        "component",
        "endpoint",
        "namespace",
        "instance_id",
        "transport",
        "request_plane_codec",
        "sinew",
    ];
    wanted.sort_unstable();
    let mut found = names(entry);
    found.sort_unstable();
    assert_eq!(found, wanted);
    // What it has in common with a stock worker's is of the same kind, and often the same.
    for name in ["type", "component", "endpoint", "namespace", "request_plane_codec"] {
        assert_eq!(entry[name], model[name]);
    }
    let hex = ours.ready["instance"].as_str().unwrap();
    assert_eq!(entry["instance_id"].as_u64(), u64::from_str_radix(hex, 16).ok());
    assert_eq!(names(&entry["transport"]), names(&model["transport"]));
    let addresses: Vec<_> = ours.ready["addresses"].as_array().unwrap().clone();
    let of = |scheme: &str| {
        addresses.iter().find_map(|one| one.as_str().unwrap().strip_prefix(scheme)).unwrap()
    };
    match plane {
        Plane::Tcp => {
            let path = format!("{}/{hex}/{}", of("tcp://"), place.endpoint);
            assert_eq!(entry["transport"]["tcp"], path);
        }
        Plane::Nats => {
            assert_eq!(entry["transport"]["nats_tcp"], of("nats://"));
            let namespace = place.endpoint.namespace();
            assert_eq!(of("nats://"), format!("{namespace}_backend.generate-{hex}"));
        }
    }
    let own = &entry["sinew"];
    assert_eq!((&own["v"], &own["addresses"]), (&json!(1), &json!(addresses)));
    assert_eq!((&own["codecs"], &own["pid"]), (&json!(["msgpack"]), &ours.ready["pid"]));

    // Both end with a lease, should nobody be left to remove them.
    let text = etcdctl(&["get", "--prefix", &prefix, "--write-out", "json"]).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let kvs = answer["kvs"].as_array().unwrap();
    assert!(kvs.len() == 2 && kvs.iter().all(|kv| kv["lease"].as_u64() > Some(0)), "{answer}");

    ours.signal(Signal::TERM);
    ours.ended().await;
    let left: Vec<_> = entries(&prefix).await.into_keys().collect();
    assert_eq!(left, [stock_key]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sinew_worker_has_the_entry_that_an_operator_expects() {
    entry(Plane::Tcp).await;
    entry(Plane::Nats).await;
}
