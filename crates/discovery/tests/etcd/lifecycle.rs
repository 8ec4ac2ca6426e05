//! Registrations and views of several backends over one etcd that works.

use std::time::Duration;

use sinew_discovery::{
    Change, Discovery as _, DiscoveryError, EtcdConfig, EtcdDiscovery, Instance,
};
use sinew_plane::ProcessId;

use crate::{
    server::Server,
    support::{
        PATIENCE, changes, config, connect, endpoint, eventually, instance, name_of, until,
        watching,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sees_what_the_other_adds_changes_and_withdraws() {
    let server = Server::start().await;
    let worker = connect(&server.url()).await;
    let (_caller, mut view) = watching(config(&server.url())).await;
    assert!(view.snapshot().is_empty());

    let first = Instance { process: Some(ProcessId(1)), ..instance(1) };
    let old = worker.register(first.clone()).await.unwrap();
    assert!(matches!(&changes(&mut view).await[..], [Change::Added(one)] if **one == first));

    let second = Instance { weight: 5, ..first.clone() };
    let new = worker.register(second.clone()).await.unwrap();
    let changed = changes(&mut view).await;
    assert!(
        matches!(&changed[..], [Change::Changed { old, new }] if **old == first && **new == second),
        "{changed:?}"
    );
    old.withdraw().await.unwrap();
    assert!(server.entry(&name_of(&second.key())).is_some(), "the former has no say any more");
    new.withdraw().await.unwrap();
    assert!(server.entry(&name_of(&second.key())).is_none(), "gone when withdraw returns");
    assert!(matches!(&changes(&mut view).await[..], [Change::Removed(one)] if **one == second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_outlives_the_handle_and_a_view_does_not() {
    let server = Server::start().await;
    let (_caller, mut view) = watching(config(&server.url())).await;
    let long = EtcdConfig { lease_ttl: PATIENCE * 10, ..config(&server.url()) };
    let (worker, mut workers_view) = watching(long).await;
    let registration = worker.register(instance(1)).await.unwrap();
    let dropped = worker.register(instance(2)).await.unwrap();
    drop(worker);
    until(&mut view, |now| now.len() == 2).await;
    drop(dropped);
    until(&mut view, |now| now.len() == 1).await;
    drop(registration);
    until(&mut view, |now| now.is_empty()).await;
    let end = async { while workers_view.changed().await.is_some() {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
    let no_lease = || server.etcdctl(&["lease", "list"]).contains("found 0 leases");
    eventually("the lease is given back", no_lease).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_takes_everything_back_and_refuses_more() {
    let server = Server::start().await;
    let long = EtcdConfig { lease_ttl: PATIENCE * 10, ..config(&server.url()) };
    let discovery = EtcdDiscovery::connect(long).await.unwrap();
    let registration = discovery.register(instance(1)).await.unwrap();
    discovery.clone().shutdown().await;
    assert!(server.entry(&name_of(&instance(1).key())).is_none());
    assert!(server.etcdctl(&["lease", "list"]).contains("found 0 leases"));
    assert!(registration.withdraw().await.is_ok());
    let error = discovery.register(instance(1)).await.unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    assert!(discovery.watch().await.is_err());
    discovery.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_registrations_at_once_are_seen_by_fifty_watchers() {
    let server = Server::start().await;
    let mut watchers = Vec::new();
    for _ in 0..50 {
        watchers.push(watching(config(&server.url())).await);
    }
    let lasting = EtcdConfig { lease_ttl: PATIENCE, ..config(&server.url()) };
    let worker = EtcdDiscovery::connect(lasting).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for id in 0..1000 {
        let worker = worker.clone();
        tasks.spawn(async move { worker.register(instance(id)).await.unwrap() });
    }
    let registrations = tasks.join_all().await;
    for (_, view) in &mut watchers {
        until(view, |now| now.len() == 1000).await;
    }
    drop(registrations);
    for (_, view) in &mut watchers {
        until(view, |now| now.is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_wanted_endpoints_become_one_watch() {
    let server = Server::start().await;
    let worker = connect(&server.url()).await;
    let _registration = worker.register(instance(1)).await.unwrap();
    let caller = connect(&server.url()).await;
    let of = |number| caller.want(&format!("ns1/backend/{number}").parse().unwrap());
    let _wanted: Vec<_> = (0..300).map(of).collect();
    let _wanted_too = caller.want(&endpoint());
    let mut view = caller.watch().await.unwrap();
    until(&mut view, |now| now.len() == 1).await;
    let _more = worker.register(instance(2)).await.unwrap();
    until(&mut view, |now| now.len() == 2).await;
    // The caller's one, and the worker's on its own two keys.
    eventually("the single watches end", || server.watches() <= 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_who_wants_it_ends_the_watch() {
    let server = Server::start().await;
    let quick = EtcdConfig { unwatch_after: Duration::from_millis(100), ..config(&server.url()) };
    let (caller, view) = watching(quick).await;
    let worker = connect(&server.url()).await;
    let _registration = worker.register(instance(1)).await.unwrap();
    let mut other = caller.watch().await.unwrap();
    until(&mut other, |now| now.len() == 1).await;
    let clone = view.clone();
    drop(view);
    // The caller's, and the worker's on its own key.
    eventually("both watches stand", || server.watches() == 2).await;
    drop(clone);
    until(&mut other, |now| now.is_empty()).await;
    eventually("one is left", || server.watches() == 1).await;
    // Anew, and no answer counts that is not of now.
    let _more = worker.register(instance(2)).await.unwrap();
    let wanted = caller.want(&endpoint());
    let view = caller.watch().await.unwrap().holding(wanted);
    assert_eq!(view.snapshot().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_wakes_who_waits_for_a_view() {
    let server = Server::start().await;
    let discovery = connect(&server.url()).await;
    server.pause();
    let _wanted = discovery.want(&endpoint());
    let watching = tokio::spawn({
        let discovery = discovery.clone();
        async move { discovery.watch().await }
    });
    tokio::task::yield_now().await;
    tokio::time::timeout(PATIENCE, discovery.shutdown()).await.unwrap();
    let watched = tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap();
    assert!(watched.is_err());
    let _wanted_late = discovery.want(&endpoint());
    let late = tokio::time::timeout(PATIENCE, discovery.watch()).await.unwrap();
    assert!(late.unwrap_err().to_string().contains("shut down"));
    server.resume();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_does_not_wait_for_an_etcd_that_hangs() {
    let mut servers = Server::cluster(3).await;
    let urls: Vec<_> = servers.iter().map(Server::url).collect();
    let many = EtcdConfig { endpoints: urls, ..config(&servers[0].url()) };
    let discovery = EtcdDiscovery::connect(many).await.unwrap();
    let _registration = discovery.register(instance(1)).await.unwrap();
    servers.iter().for_each(Server::pause);
    let begun = std::time::Instant::now();
    discovery.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    servers.iter_mut().for_each(|server| server.resume());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_a_members_address_is_refused() {
    let error = EtcdDiscovery::connect(config("http://bob:hunter2@127.0.0.1:1")).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Invalid { .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_says_why() {
    let server = Server::start().await;
    let discovery = connect(&server.url()).await;
    let nowhere = Instance { addresses: Vec::new(), ..instance(1) };
    let error = discovery.register(nowhere).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Invalid { .. }), "{error}");

    let short = Duration::from_millis(100);
    let nobody = EtcdConfig { startup_timeout: short, ..EtcdConfig::new(["127.0.0.1:1"]) };
    let error = EtcdDiscovery::connect(nobody).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { backend: "etcd", .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");

    // One that is silent is given up when the time is over, not when its answer is overdue.
    server.pause();
    let silent = EtcdConfig { startup_timeout: short, ..config(&server.url()) };
    let limit = silent.request_timeout;
    let error = tokio::time::timeout(limit, EtcdDiscovery::connect(silent)).await;
    server.resume();
    let error = error.expect("within the time of one answer").unwrap_err().to_string();
    assert!(error.contains("no answer") && error.contains(&server.url()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_at_once_and_a_right_one_works() {
    let server = Server::start().await;
    server.etcdctl(&["user", "add", "root:secret"]);
    server.etcdctl(&["user", "grant-role", "root", "root"]);
    server.etcdctl(&["auth", "enable"]);
    let as_root = |password: &str| EtcdConfig {
        user: Some(("root".to_owned(), password.to_owned())),
        ..config(&server.url())
    };
    let refused = EtcdDiscovery::connect(as_root("guess"));
    let error = tokio::time::timeout(PATIENCE / 2, refused).await.unwrap().unwrap_err();
    assert!(matches!(error, DiscoveryError::Denied { backend: "etcd", .. }), "{error}");
    assert!(!error.to_string().contains("guess"), "{error}");
    let nobody = EtcdDiscovery::connect(config(&server.url()));
    let error = tokio::time::timeout(PATIENCE / 2, nobody).await.unwrap().unwrap_err();
    assert!(matches!(error, DiscoveryError::Denied { .. }), "{error}");
    let (discovery, mut view) = watching(as_root("secret")).await;
    let _registration = discovery.register(instance(1)).await.unwrap();
    until(&mut view, |now| now.len() == 1).await;

    // Who may not look is let in, for what it may do elsewhere, and told when it looks.
    server.etcdctl(&["--user", "root:secret", "user", "add", "bob:secret"]);
    let bob = Some(("bob".to_owned(), "secret".to_owned()));
    let bob = EtcdConfig { user: bob, ..config(&server.url()) };
    let blind = EtcdDiscovery::connect(bob).await.unwrap();
    let _wanted = blind.want(&endpoint());
    let error = blind.watch().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Denied { backend: "etcd", .. }), "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");
    assert!(blind.trouble().unwrap().contains("permission denied"));
}
