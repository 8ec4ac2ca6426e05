//! What stands in etcd: our records as operators and stock peers see them, and theirs here.

use sinew_discovery::{Change, Discovery as _, Instance};
use sinew_plane::{Incarnation, InstanceId, ProcessId};

use crate::{
    server::Server,
    support::{changes, config, connect, endpoint, instance, name_of, until, watching},
};

const ID: u64 = 0x5315_a1fc_98a8_5605;
const KEY: &str = "v1/instances/ns1/backend/generate/5315a1fc98a85605";

/// An entry of a stock Dynamo 1.6 worker, byte for byte.
const STOCK: &str = concat!(
    r#"{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"ns1","#,
    r#""instance_id":5986869385923941893,"#,
    r#""transport":{"tcp":"192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate"},"#,
    r#""device_type":"cuda","request_plane_codec":"msgpack"}"#
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_entry_is_this_text_under_this_key() {
    let server = Server::start().await;
    let discovery = connect(&server.url()).await;
    let ours = Instance {
        incarnation: Incarnation(0xffee_ddcc_bbaa_9988),
        addresses: ["tcp://192.0.2.2:34479", "nats://ns1_backend.generate-5315a1fc98a85605"]
            .map(|text| text.parse().unwrap())
            .into(),
        codecs: vec!["msgpack".to_owned()],
        process: Some(ProcessId(0xfedc_ba98)),
        serves_dynamo: true,
        ..instance(ID)
    };
    let registration = discovery.register(ours).await.unwrap();
    // What the documentation tells operators to type.
    let shown = server.etcdctl(&["get", "--prefix", "v1/instances/"]);
    let expected = concat!(
        r#"{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"ns1","#,
        r#""instance_id":5986869385923941893,"#,
        r#""transport":{"tcp":"192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate"},"#,
        r#""request_plane_codec":"msgpack","#,
        r#""sinew":{"v":1,"incarnation":"ffeeddccbbaa9988","#,
        r#""addresses":["tcp://192.0.2.2:34479","#,
        r#""nats://ns1_backend.generate-5315a1fc98a85605"],"#,
        r#""codecs":["msgpack"],"weight":1,"process":"fedcba98","idempotent":false}}"#,
    );
    assert_eq!(shown, format!("{KEY}\n{expected}\n"));
    let (_, lease, _) = server.entry(KEY).unwrap();
    assert_ne!(lease, 0, "it ends with a lease");
    registration.withdraw().await.unwrap();
    assert_eq!(server.etcdctl(&["get", "--prefix", "v1/"]), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_worker_comes_and_goes() {
    let server = Server::start().await;
    let (_caller, mut view) = watching(config(&server.url())).await;
    server.etcdctl(&["put", KEY, STOCK]);
    let came = changes(&mut view).await;
    let [Change::Added(worker)] = &came[..] else { panic!("{came:?}") };
    assert_eq!(worker.id, InstanceId(ID));
    let address = "dynamo-tcp://192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate";
    assert_eq!(worker.addresses[0].as_str(), address);
    server.etcdctl(&["del", KEY]);
    assert!(matches!(&changes(&mut view).await[..], [Change::Removed(one)] if one == worker));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_record_is_passed_over_and_empties_nothing() {
    let server = Server::start().await;
    let beside = |name: &str| format!("v1/instances/ns1/backend/generate/{name}");
    server.etcdctl(&["put", &beside("1"), "not JSON"]);
    server.etcdctl(&["put", &beside("2"), STOCK]);
    server.etcdctl(&["put", &beside("not-an-id"), STOCK]);
    server.etcdctl(&["put", &beside("5315a1fc98a85605/deeper"), STOCK]);
    server.etcdctl(&["put", KEY, STOCK]);
    let (_caller, mut view) = watching(config(&server.url())).await;
    let ids = |view: &sinew_discovery::View| -> Vec<_> {
        view.snapshot().iter().map(|one| one.id.0).collect()
    };
    assert_eq!(ids(&view), [ID]);
    // A good one that goes bad keeps its last good content, and others still come.
    server.etcdctl(&["put", KEY, &STOCK[..40]]);
    server.etcdctl(&["put", &beside("3"), &"x".repeat(100_000)]);
    let third = STOCK.replace("5986869385923941893", "4");
    server.etcdctl(&["put", &beside("4"), &third]);
    until(&mut view, |now| now.len() == 2).await;
    assert_eq!(ids(&view), [4, ID]);
    // And a fresh list sees what is there.
    let (_other, view) = watching(config(&server.url())).await;
    assert_eq!(ids(&view), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sees_the_endpoints_it_wants_and_all_when_it_wants_all() {
    let server = Server::start().await;
    let worker = connect(&server.url()).await;
    let other = Instance { endpoint: "ns1/backend/generate2".parse().unwrap(), ..instance(1) };
    let far = Instance { endpoint: "ns2/backend/generate".parse().unwrap(), ..instance(1) };
    let mut registrations = Vec::new();
    for one in [instance(1), other.clone(), far.clone()] {
        registrations.push(worker.register(one).await.unwrap());
    }
    let caller = connect(&server.url()).await;
    assert!(caller.watch().await.unwrap().snapshot().is_empty(), "nothing is wanted yet");
    let _wanted = caller.want(&endpoint());
    let mut view = caller.watch().await.unwrap();
    let names = |view: &sinew_discovery::View| -> Vec<_> {
        view.snapshot().iter().map(|one| one.endpoint.to_string()).collect()
    };
    assert_eq!(names(&view), ["ns1/backend/generate"]);
    // A view from before wakes, too.
    let _wanted_too = caller.want(&other.endpoint);
    assert!(view.has_instance_of(&other.endpoint).await);
    assert_eq!(names(&view), ["ns1/backend/generate", "ns1/backend/generate2"]);
    caller.want_all();
    until(&mut view, |now| now.len() == 3).await;
    registrations.pop().unwrap().withdraw().await.unwrap();
    until(&mut view, |now| now.len() == 2).await;
    let name = name_of(&instance(1).key());
    server.etcdctl(&["put", &name.replace("/1", "/2"), "rubbish"]);
    registrations.pop().unwrap().withdraw().await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
}
