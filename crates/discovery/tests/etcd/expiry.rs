//! Entries that leave etcd with their lease, and those that are withdrawn from under one.

use std::time::{Duration, Instant};

use sinew_discovery::{
    Discovery as _, DiscoveryError, EtcdConfig, EtcdDiscovery, Instance, View,
    record::{self, Record},
};
use sinew_plane::ProcessId;

use crate::{
    server::Server,
    support::{PATIENCE, TTL, config, connect, eventually, instance, name_of, until, watching},
    wire::Wire,
};

/// Longer than any test waits: what is held for it, is held for ever.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn key() -> String {
    name_of(&instance(1).key())
}

fn worker() -> Instance {
    Instance { process: Some(ProcessId(1)), ..instance(1) }
}

/// The view sees another instance come and go, and with it everything that happened before. It has
/// not changed before that: any change would count, however short it was.
async fn has_changed_once(server: &Server, worker_side: &EtcdDiscovery, view: &mut View) {
    let revision = view.snapshot().revision();
    let other = worker_side
        .register(Instance { process: Some(ProcessId(1)), ..instance(2) })
        .await
        .unwrap();
    until(view, |now| now.len() == 2).await;
    assert_eq!(view.snapshot().revision(), revision + 1, "the other one, and nothing before");
    assert!(server.entry(&key()).is_some());
    other.withdraw().await.unwrap();
    until(view, |now| now.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_workers_lease_is_revoked_and_no_view_loses_it() {
    let server = Server::start().await;
    // Renewed too seldom to be the reason.
    let seldom = EtcdConfig { lease_ttl: PATIENCE * 6, ..config(&server.url()) };
    let worker_side = EtcdDiscovery::connect(seldom).await.unwrap();
    let (_caller, mut view) = watching(config(&server.url())).await;
    let _registration = worker_side.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    for _ in 0..5 {
        let revision = view.snapshot().revision();
        let before = server.entry(&key()).unwrap();
        server.etcdctl(&["lease", "revoke", &format!("{:x}", before.1)]);
        eventually("registered again", || {
            server.entry(&key()).is_some_and(|now| now.1 != before.1 && now.2 == before.2)
        })
        .await;
        assert_eq!(view.snapshot().revision(), revision, "it was never out of the view");
        has_changed_once(&server, &worker_side, &mut view).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_hangs_for_longer_than_the_lease_takes_nobody_out_of_a_view() {
    let server = Server::start().await;
    let worker_side = connect(&server.url()).await;
    // The outage alone is the reason to hold anything.
    let hasty = EtcdConfig { expiry_grace: Duration::ZERO, ..config(&server.url()) };
    let (_caller, mut view) = watching(hasty).await;
    let _registration = worker_side.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    let (revision, before) = (view.snapshot().revision(), server.entry(&key()).unwrap());
    server.pause();
    // Takes longer than a lease and than the watch needs to notice; nobody watches this endpoint.
    let elsewhere = "ns1/backend/other".parse().unwrap();
    let unheard = Instance { endpoint: elsewhere, process: Some(ProcessId(1)), ..instance(99) };
    let hung = Instant::now();
    let error = worker_side.register(unheard).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{error}");
    assert!(hung.elapsed() > TTL * 4);
    server.resume();
    eventually("registered again", || {
        server.entry(&key()).is_some_and(|now| now.1 != before.1 && now.2 == before.2)
    })
    .await;
    assert_eq!(view.snapshot().revision(), revision, "it was never out of the view");
    has_changed_once(&server, &worker_side, &mut view).await;
}

/// An entry that its owner takes away with its lease, as a stock Dynamo worker does when it shuts
/// down. Says its lease.
fn put_under_a_lease(server: &Server) -> String {
    let granted = server.etcdctl(&["lease", "grant", "600"]);
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    let value = record::encode(&Record { instance: instance(1), owner: None }).unwrap();
    let value = String::from_utf8(value).unwrap();
    server.etcdctl(&["put", &key(), &value, &format!("--lease={lease}")]);
    lease
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_come_back_after_a_revoked_lease_is_seen_for_the_grace_only() {
    let grace = Duration::from_secs(3);
    let server = Server::start().await;
    let patient = EtcdConfig { expiry_grace: grace, ..config(&server.url()) };
    let (_caller, mut view) = watching(patient).await;
    let lease = put_under_a_lease(&server);
    until(&mut view, |now| now.len() == 1).await;
    let revoked = Instant::now();
    server.etcdctl(&["lease", "revoke", &lease]);
    assert!(server.entry(&key()).is_none());
    until(&mut view, |now| now.is_empty()).await;
    assert!(revoked.elapsed() >= grace, "{:?}", revoked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_list_lacks_is_seen_for_the_grace_too_when_its_lease_has_ended() {
    let grace = Duration::from_secs(3);
    let server = Server::start().await;
    let wire = Wire::to(server.port()).await;
    // However long the machine takes to mend the wire.
    let patient = EtcdConfig { expiry_grace: grace, reset_guard: grace, ..config(&wire.url()) };
    let (_caller, mut view) = watching(patient).await;
    let lease = put_under_a_lease(&server);
    until(&mut view, |now| now.len() == 1).await;
    wire.cut().await;
    server.etcdctl(&["lease", "revoke", &lease]);
    wire.mend();
    let mended = Instant::now();
    until(&mut view, |now| now.is_empty()).await;
    assert!(mended.elapsed() >= grace, "{:?}", mended.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_withdraws_leaves_at_once_even_when_the_process_ends_with_it() {
    let server = Server::start().await;
    let holding =
        EtcdConfig { expiry_grace: FOR_EVER, reset_guard: FOR_EVER, ..config(&server.url()) };
    let (_caller, mut view) = watching(holding).await;
    let long = EtcdConfig { lease_ttl: PATIENCE * 10, ..config(&server.url()) };
    let worker_side = EtcdDiscovery::connect(long).await.unwrap();
    let staying = worker_side.register(worker()).await.unwrap();
    let leaving = worker_side.register(instance(2)).await.unwrap();
    until(&mut view, |now| now.len() == 2).await;
    leaving.withdraw().await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    staying.withdraw().await.unwrap();
    worker_side.shutdown().await;
    until(&mut view, |now| now.is_empty()).await;
}
