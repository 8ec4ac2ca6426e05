//! One directory shared with stock Dynamo peers, in both directions.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use sinew_discovery::{Change, Discovery as _, InstanceKey};
use sinew_plane::InstanceId;

use crate::support::{changes, instance, open, path_of};

const NAME: &str = "v1/instances/ns1%2Fbackend%2Fgenerate%2F6e383eedbd9ea705";
const VALUE: &str = concat!(
    r#"{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"ns1","#,
    r#""instance_id":7942167133677332229,"#,
    r#""transport":{"tcp":"192.0.2.2:34479/6e383eedbd9ea705/ns1/backend/generate"},"#,
    r#""device_type":"cuda","request_plane_codec":"msgpack"}"#
);

/// As a stock worker does it: aside, then linked.
fn stock_worker_registers(root: &Path) {
    let temporary = root.join("v1/instances/.tmp_00112233445566ff");
    fs::create_dir_all(temporary.parent().unwrap()).unwrap();
    fs::write(&temporary, VALUE).unwrap();
    fs::hard_link(&temporary, root.join(NAME)).unwrap();
    fs::remove_file(&temporary).unwrap();
}

#[tokio::test]
async fn a_stock_worker_comes_and_goes() {
    let root = tempfile::tempdir().unwrap();
    let discovery = open(root.path());
    let mut view = discovery.watch().await.unwrap();
    stock_worker_registers(root.path());
    let came = changes(&mut view).await;
    let [Change::Added(worker)] = &came[..] else { panic!("{came:?}") };
    assert_eq!(worker.id, InstanceId(0x6e38_3eed_bd9e_a705));
    assert_eq!(
        worker.addresses[0].as_str(),
        "dynamo-tcp://192.0.2.2:34479/6e383eedbd9ea705/ns1/backend/generate"
    );
    assert_eq!((worker.codecs[0].as_str(), &worker.host), ("msgpack", &None));
    fs::remove_file(root.path().join(NAME)).unwrap();
    assert!(matches!(&changes(&mut view).await[..], [Change::Removed(one)] if one == worker));
}

#[tokio::test]
async fn our_worker_is_a_file_that_stock_peers_read() {
    let root = tempfile::tempdir().unwrap();
    let discovery = open(root.path());
    let mut ours = instance(0x6e38_3eed_bd9e_a705);
    ours.addresses = vec!["tcp://192.0.2.2:34479".parse().unwrap()];
    ours.codecs = vec!["msgpack".to_owned()];
    ours.serves_dynamo = true;
    let registration = discovery.register(ours).await.unwrap();

    let path = root.path().join(NAME);
    let value: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let stock: serde_json::Value = serde_json::from_str(VALUE).unwrap();
    for field in ["type", "component", "endpoint", "namespace", "instance_id", "transport"] {
        assert_eq!(value[field], stock[field], "{field}");
    }
    assert_eq!(value["request_plane_codec"], "msgpack");
    assert_eq!(value["sinew"]["v"], 1);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!((mode & 0o600, mode & 0o022), (0o600, 0), "{mode:o}");

    registration.withdraw().await.unwrap();
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn entries_that_are_not_endpoints_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    stock_worker_registers(root.path());
    let directory = root.path().join("v1/instances");
    fs::write(directory.join("ns1%2Fbackend%2Fgenerate%2F1"), VALUE).unwrap();
    fs::write(directory.join("ns1%2Fbackend%2Fgenerate%2F2"), r#"{"type":"Model"}"#).unwrap();
    fs::write(directory.join("ns1%2Fbackend%2Fgenerate%2F3"), "\0\0\0").unwrap();
    std::os::unix::fs::symlink(NAME, directory.join("ns1%2Fbackend%2Fgenerate%2F4")).unwrap();
    let snapshot = open(root.path()).watch().await.unwrap().snapshot();
    let ids: Vec<_> = snapshot.iter().map(|one| one.id).collect();
    assert_eq!(ids, [InstanceId(0x6e38_3eed_bd9e_a705)]);
}

#[test]
fn keys_become_the_names_that_stock_peers_use() {
    let key = InstanceKey {
        endpoint: "ns1/backend/generate".parse().unwrap(),
        id: InstanceId(0x6e38_3eed_bd9e_a705),
    };
    assert_eq!(path_of(Path::new("/x"), &key), Path::new("/x").join(NAME));
}
