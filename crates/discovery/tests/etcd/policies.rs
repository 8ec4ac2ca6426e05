//! Policies in etcd, across outages and beside stock Dynamo peers.

use std::{sync::Arc, time::Duration};

use sinew_discovery::{
    Discovery as _, DiscoveryError, EtcdConfig, EtcdDiscovery, PlanePolicy, PolicyView,
};
use sinew_plane::TransportId;

use crate::{
    server::Server,
    support::{PATIENCE, config, connect, endpoint, eventually, instance, until, watching},
};

const KEY: &str = "sinew/policies/ns1/backend/generate";

fn policy(percent: u8) -> PlanePolicy {
    PlanePolicy::new(endpoint(), TransportId::from_static("unix")).by("ann@x").percent(percent)
}

async fn next(view: &mut PolicyView) -> Option<Arc<PlanePolicy>> {
    tokio::time::timeout(PATIENCE, view.changed()).await.unwrap().unwrap();
    view.borrow_and_update().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_stores_another_sees_also_after_an_outage() {
    let mut server = Server::start().await;
    let operator = connect(&server.url()).await;
    let (router, mut instances) = watching(config(&server.url())).await;
    let mut view = router.watch_policy(&endpoint()).unwrap().unwrap();
    let first = operator.put_policy(policy(10)).await.unwrap();
    assert_eq!(next(&mut view).await.as_deref(), Some(&first));
    // Who lists instances sees no more than those.
    let _registration = operator.register(instance(1)).await.unwrap();
    until(&mut instances, |now| now.len() == 1).await;
    server.kill();
    assert_eq!(view.borrow().as_deref(), Some(&first), "an outage ends no policy");
    server.spawn();
    server.ready().await;
    let second = operator.put_policy(policy(20)).await.unwrap();
    assert!(second.version > first.version);
    assert_eq!(next(&mut view).await.as_deref(), Some(&second));
    assert!(operator.remove_policy(&endpoint()).await.unwrap());
    assert_eq!(next(&mut view).await, None);
    assert!(!operator.remove_policy(&endpoint()).await.unwrap());
    router.shutdown().await;
    assert!(router.watch_policy(&endpoint()).is_err());
    assert!(router.put_policy(policy(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_store_at_once_both_succeed_one_after_the_other() {
    let server = Server::start().await;
    let (one, other) = (connect(&server.url()).await, connect(&server.url()).await);
    let (first, second) = tokio::join!(one.put_policy(policy(1)), other.put_policy(policy(2)));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.version, second.version);
    let newest = if first.version > second.version { first } else { second };
    let mut view = one.watch_policy(&endpoint()).unwrap().unwrap();
    assert_eq!(next(&mut view).await.as_deref(), Some(&newest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_policy_whose_time_is_over_and_nonsense_is_as_none() {
    let server = Server::start().await;
    let discovery = connect(&server.url()).await;
    let mut view = discovery.watch_policy(&endpoint()).unwrap().unwrap();
    discovery.put_policy(policy(1).lasting(Duration::from_secs(1))).await.unwrap();
    assert!(next(&mut view).await.is_some());
    assert_eq!(next(&mut view).await, None);
    eventually("the key to go", || server.entry(KEY).is_none()).await;
    let stored = discovery.put_policy(policy(2)).await.unwrap();
    assert_eq!(next(&mut view).await.as_deref(), Some(&stored));
    server.etcdctl(&["put", KEY, "nonsense"]);
    assert_eq!(next(&mut view).await, None);
    discovery.put_policy(policy(3)).await.unwrap();
    assert_eq!(next(&mut view).await.map(|policy| policy.percent), Some(3));
    let ended = policy(1).lasting(Duration::ZERO);
    assert!(discovery.put_policy(ended).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_the_right_is_told_the_key_and_sees_the_policy_once_it_has_it() {
    let server = Server::start().await;
    for name in ["root", "bob"] {
        server.etcdctl(&["user", "add", &format!("{name}:secret")]);
    }
    server.etcdctl(&["user", "grant-role", "root", "root"]);
    server.etcdctl(&["role", "add", "reader"]);
    server.etcdctl(&["role", "grant-permission", "reader", "read", "--prefix", "v1/instances/"]);
    server.etcdctl(&["user", "grant-role", "bob", "reader"]);
    server.etcdctl(&["auth", "enable"]);
    let connect_as = async |name: &str| {
        let user = Some((name.to_owned(), "secret".to_owned()));
        EtcdDiscovery::connect(EtcdConfig { user, ..config(&server.url()) }).await.unwrap()
    };
    let (operator, router) = (connect_as("root").await, connect_as("bob").await);
    let mut view = router.watch_policy(&endpoint()).unwrap().unwrap();
    let stored = operator.put_policy(policy(10)).await.unwrap();
    for error in [
        router.put_policy(policy(20)).await.unwrap_err(),
        router.remove_policy(&endpoint()).await.unwrap_err(),
    ] {
        assert!(matches!(error, DiscoveryError::Denied { .. }), "{error}");
        assert!(error.to_string().contains(KEY), "{error}");
    }
    assert_eq!(*view.borrow(), None);
    let as_root = ["--user", "root:secret", "role", "grant-permission", "reader"];
    server.etcdctl(&[&as_root[..], &["read", "--prefix", "sinew/policies/"]].concat());
    assert_eq!(next(&mut view).await.as_deref(), Some(&stored));
}
