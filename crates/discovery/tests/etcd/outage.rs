//! etcd that is stopped, killed, emptied or cut off, and entries that others take away.

use std::time::Duration;

use sinew_discovery::{
    Discovery as _, DiscoveryError, EtcdConfig, EtcdDiscovery, Instance, Registration, View,
};
use sinew_plane::ProcessId;

use crate::{
    server::Server,
    support::{
        PATIENCE, TTL, changes, config, connect, eventually, instance, name_of, until, watching,
    },
    wire::Wire,
};

fn key() -> String {
    name_of(&instance(1).key())
}

fn worker() -> Instance {
    Instance { process: Some(ProcessId(1)), ..instance(1) }
}

/// Waits until the entry stands under another lease than before.
async fn until_registered_anew(server: &Server, before: &(i64, i64, String)) {
    eventually("registered again", || {
        server.entry(&key()).is_some_and(|now| now.1 != before.1 && now.2 == before.2)
    })
    .await;
}

/// Waits until etcd does not answer any more as far as a client can tell, which takes longer than
/// the shortest lease.
async fn until_nobody_answers(discovery: &EtcdDiscovery) {
    let asked = discovery.register(Instance { process: Some(ProcessId(1)), ..instance(99) });
    let error = asked.await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{error}");
}

/// Watches in the background that the one entry never leaves the view.
fn watch_for_a_gap(view: &View) -> tokio::task::JoinHandle<bool> {
    let mut view = view.clone();
    tokio::spawn(async move {
        loop {
            if view.snapshot().get(&instance(1).key()).is_none() {
                return true;
            }
            if view.changed().await.is_none() {
                return false;
            }
        }
    })
}

async fn had_gap(watch: tokio::task::JoinHandle<bool>, discovery: EtcdDiscovery) -> bool {
    discovery.shutdown().await;
    tokio::time::timeout(PATIENCE, watch).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_lease_is_replaced_at_once_by_the_same_entry() {
    let server = Server::start().await;
    // Renewed too seldom to be the reason.
    let seldom = EtcdConfig { lease_ttl: PATIENCE * 6, ..config(&server.url()) };
    let (discovery, mut view) = watching(seldom).await;
    let registration = discovery.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    let before = server.entry(&key()).unwrap();
    server.etcdctl(&["lease", "revoke", &format!("{:x}", before.1)]);
    until_registered_anew(&server, &before).await;
    until(&mut view, |now| now.len() == 1).await;
    let snapshot = view.snapshot();
    let now = snapshot.iter().next().unwrap();
    assert_eq!((now.id, now.incarnation), (registration.id(), registration.incarnation()));
    registration.withdraw().await.unwrap();
    assert!(server.entry(&key()).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_somebody_deletes_comes_back() {
    let server = Server::start().await;
    let seldom = EtcdConfig { lease_ttl: PATIENCE * 6, ..config(&server.url()) };
    let discovery = EtcdDiscovery::connect(seldom).await.unwrap();
    let _registration = discovery.register(worker()).await.unwrap();
    let before = server.entry(&key()).unwrap();
    for _ in 0..3 {
        server.etcdctl(&["del", &key()]);
        let is_back = || server.entry(&key()).is_some_and(|now| now.2 == before.2);
        eventually("registered again", is_back).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_hangs_loses_nothing() {
    let server = Server::start().await;
    let (discovery, mut view) = watching(config(&server.url())).await;
    let _registration = discovery.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    server.pause();
    until_nobody_answers(&discovery).await;
    assert_eq!(view.snapshot().len(), 1, "an outage is no goodbye");
    let trouble = discovery.trouble().unwrap();
    assert!(trouble.contains("cannot be reached") && trouble.contains("no answer"), "{trouble}");
    assert_eq!(discovery.watch().await.unwrap().snapshot().len(), 1, "nor is it for a new view");
    server.resume();
    // Whether or not the lease has survived.
    eventually("registered again", || server.entry(&key()).is_some()).await;
    let more =
        discovery.register(Instance { process: Some(ProcessId(1)), ..instance(2) }).await.unwrap();
    until(&mut view, |now| now.len() == 2).await;
    assert_eq!(discovery.trouble(), None);
    more.withdraw().await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    assert!(server.entry(&name_of(&instance(99).key())).is_none(), "nobody waits for it any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_killed_and_comes_back_with_its_data_loses_nothing() {
    let mut server = Server::start().await;
    let worker_side = connect(&server.url()).await;
    let (caller, mut view) = watching(config(&server.url())).await;
    let _registration = worker_side.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    let watch = watch_for_a_gap(&view);
    server.kill();
    until_nobody_answers(&worker_side).await;
    assert_eq!(view.snapshot().len(), 1);
    server.spawn();
    server.ready().await;
    // The other instance shows that the watch goes on.
    let _other = connect(&server.url()).await.register(instance(2)).await.unwrap();
    until(&mut view, |now| now.len() == 2).await;
    assert!(server.entry(&key()).is_some());
    assert!(!had_gap(watch, caller).await, "it was never out of the view");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_comes_back_empty_is_not_believed_at_once() {
    let mut server = Server::start().await;
    let worker_side = connect(&server.url()).await;
    let guarded = EtcdConfig { reset_guard: TTL * 2, ..config(&server.url()) };
    let (caller, mut view) = watching(guarded).await;
    let _registration = worker_side.register(worker()).await.unwrap();
    let _gone = connect(&server.url()).await.register(instance(3)).await.unwrap();
    until(&mut view, |now| now.len() == 2).await;
    let before = server.entry(&key()).unwrap();
    let watch = watch_for_a_gap(&view);
    server.kill();
    server.wipe();
    // Its owner is gone for good.
    drop(_gone);
    server.spawn();
    server.ready().await;
    eventually("registered again", || server.entry(&key()).is_some()).await;
    assert_eq!(server.entry(&key()).unwrap().2, before.2, "the same id and incarnation");
    // What nobody registers again goes when the guard time is over.
    until(&mut view, |now| now.len() == 1).await;
    assert!(!had_gap(watch, caller).await, "it was never out of the view");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_no_entry() {
    let mut servers = Server::cluster(3).await;
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let leader = servers.iter().position(Server::is_leader).unwrap();
    // The leader first, so that everybody uses it.
    let mut order = urls.clone();
    order.rotate_left(leader);
    let over = EtcdConfig { endpoints: order, ..config("") };
    let (caller, mut view) = watching(over.clone()).await;
    let worker_side = EtcdDiscovery::connect(EtcdConfig {
        // As long as an election takes on a busy machine.
        lease_ttl: TTL * 5,
        ..over
    });
    let worker_side = worker_side.await.unwrap();
    let _registration = worker_side.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    let survivor = (leader + 1) % 3;
    let before = servers[survivor].entry(&key()).unwrap();
    let watch = watch_for_a_gap(&view);
    servers[leader].kill();
    // Both go on with the other members.
    let other = Instance { process: Some(ProcessId(1)), ..instance(2) };
    let _other = eventually_registers(&worker_side, other).await;
    until(&mut view, |now| now.len() == 2).await;
    let now = servers[survivor].entry(&key()).unwrap();
    assert_eq!(now, before, "the same lease all along");
    assert!(!had_gap(watch, caller).await, "it was never out of the view");
}

async fn eventually_registers(discovery: &EtcdDiscovery, instance: Instance) -> Registration {
    let limit = tokio::time::Instant::now() + PATIENCE;
    loop {
        match discovery.register(instance.clone()).await {
            Ok(registration) => return registration,
            Err(error) => assert!(tokio::time::Instant::now() < limit, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_hangs_is_left_for_the_next() {
    let servers = Server::cluster(3).await;
    let follower = servers.iter().position(|server| !server.is_leader()).unwrap();
    let mut order: Vec<_> = servers.iter().map(Server::url).collect();
    order.rotate_left(follower);
    let over = EtcdConfig { endpoints: order, lease_ttl: TTL * 5, ..config("") };
    let (caller, mut view) = watching(over.clone()).await;
    let worker_side = EtcdDiscovery::connect(over).await.unwrap();
    let registration = worker_side.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    servers[follower].pause();
    // Through another member the withdrawal arrives, and on another watch it is seen.
    registration.withdraw().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), until(&mut view, |now| now.is_empty()))
        .await
        .unwrap();
    caller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_while_cut_off_hides_nothing() {
    let server = Server::start().await;
    let wire = Wire::to(server.port()).await;
    let (caller, mut view) = watching(config(&wire.url())).await;
    let worker_side = connect(&server.url()).await;
    let staying = worker_side.register(worker()).await.unwrap();
    let leaving = worker_side
        .register(Instance { process: Some(ProcessId(1)), ..instance(2) })
        .await
        .unwrap();
    until(&mut view, |now| now.len() == 2).await;
    let mut view = caller.watch().await.unwrap();
    wire.cut().await;
    leaving.withdraw().await.unwrap();
    let _coming = worker_side
        .register(Instance { process: Some(ProcessId(1)), ..instance(3) })
        .await
        .unwrap();
    let changed = Instance { weight: 9, ..worker() };
    let _changed = worker_side.register(changed.clone()).await.unwrap();
    staying.withdraw().await.unwrap();
    let revision: serde_json::Value =
        serde_json::from_str(&server.etcdctl(&["get", "x", "-w", "json"])).unwrap();
    server.etcdctl(&["compact", &revision["header"]["revision"].to_string()]);
    assert_eq!(view.snapshot().len(), 2, "as it was when it was cut off");
    wire.mend();
    let seen = changes(&mut view).await;
    assert_eq!(seen.len(), 3, "{seen:?}");
    let snapshot = view.snapshot();
    let ids: Vec<_> = snapshot.iter().map(|one| (one.id.0, one.weight)).collect();
    assert_eq!(ids, [(1, 9), (3, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_cut_off_for_longer_than_its_lease_is_there_again() {
    let server = Server::start().await;
    let wire = Wire::to(server.port()).await;
    let worker_side = connect(&wire.url()).await;
    let (_caller, mut view) = watching(config(&server.url())).await;
    let registration = worker_side.register(worker()).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    let before = server.entry(&key()).unwrap();
    wire.cut().await;
    until(&mut view, |now| now.is_empty()).await;
    wire.mend();
    until(&mut view, |now| now.len() == 1).await;
    until_registered_anew(&server, &before).await;
    // A withdrawal that cannot be told fails, and is made up for.
    wire.cut().await;
    registration.withdraw().await.unwrap_err();
    wire.mend();
    until(&mut view, |now| now.is_empty()).await;
}
