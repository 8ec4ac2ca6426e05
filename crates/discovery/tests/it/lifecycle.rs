//! Registrations and views of several backends over one directory.

use std::{fs, time::Duration};

use sinew_discovery::{
    Change, Discovery as _, DiscoveryError, FileConfig, FileDiscovery, Instance,
};
use sinew_plane::ProcessId;

use crate::support::{PATIENCE, changes, instance, open, path_of, until};

#[tokio::test]
async fn one_sees_what_the_other_adds_changes_and_withdraws() {
    let root = tempfile::tempdir().unwrap();
    let (worker, caller) = (open(root.path()), open(root.path()));
    let mut view = caller.watch().await.unwrap();
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
    new.withdraw().await.unwrap();
    assert!(!path_of(root.path(), &second.key()).exists(), "gone when withdraw returns");
    assert!(matches!(&changes(&mut view).await[..], [Change::Removed(one)] if **one == second));
}

#[tokio::test]
async fn ones_own_view_knows_at_once() {
    let root = tempfile::tempdir().unwrap();
    let slow = FileConfig { scan_interval: Duration::from_secs(2), ..FileConfig::default() };
    let discovery = FileDiscovery::with_config(root.path(), slow).unwrap();
    let registration = discovery.register(instance(1)).await.unwrap();
    let view = discovery.watch().await.unwrap();
    assert_eq!(view.snapshot().len(), 1, "a view never begins as not asked yet");
    registration.withdraw().await.unwrap();
    assert!(view.snapshot().is_empty());
}

#[tokio::test]
async fn dropping_a_registration_takes_it_back_without_waiting() {
    let root = tempfile::tempdir().unwrap();
    let (worker, caller) = (open(root.path()), open(root.path()));
    let registration = worker.register(instance(1)).await.unwrap();
    let mut view = caller.watch().await.unwrap();
    assert_eq!(view.snapshot().len(), 1);
    drop(registration);
    until(&mut view, |now| now.is_empty()).await;
}

#[tokio::test]
async fn a_registration_outlives_the_handle_and_a_view_does_not() {
    let root = tempfile::tempdir().unwrap();
    let caller = open(root.path());
    let mut view = caller.watch().await.unwrap();
    let worker = open(root.path());
    let mut workers_view = worker.watch().await.unwrap();
    let registration = worker.register(instance(1)).await.unwrap();
    drop(worker);
    until(&mut view, |now| now.len() == 1).await;
    let path = path_of(root.path(), &instance(1).key());
    drop(registration);
    assert!(!path.exists(), "the last to go joins the thread, which takes everything back");
    let end = async { while workers_view.changed().await.is_some() {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_takes_everything_back_and_refuses_more() {
    let root = tempfile::tempdir().unwrap();
    let discovery = open(root.path());
    let registration = discovery.register(instance(1)).await.unwrap();
    discovery.clone().shutdown().await;
    let path = path_of(root.path(), &instance(1).key());
    assert!(!path.exists());
    assert!(registration.withdraw().await.is_ok());
    let error = discovery.register(instance(1)).await.unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    discovery.shutdown().await;
}

#[tokio::test]
async fn a_thousand_registrations_at_once_all_arrive() {
    let root = tempfile::tempdir().unwrap();
    let (worker, caller) = (open(root.path()), open(root.path()));
    let mut view = caller.watch().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for id in 0..1000 {
        let worker = worker.clone();
        tasks.spawn(async move { worker.register(instance(id)).await.unwrap() });
    }
    let registrations = tasks.join_all().await;
    until(&mut view, |now| now.len() == 1000).await;
    drop(registrations);
    until(&mut view, |now| now.is_empty()).await;
}

#[tokio::test]
async fn what_cannot_be_registered_says_why() {
    let root = tempfile::tempdir().unwrap();
    let discovery = open(root.path());
    let nowhere = Instance { addresses: Vec::new(), ..instance(1) };
    let long = format!("a/b/{}", "-".repeat(100));
    let long = Instance { endpoint: long.parse().unwrap(), ..instance(1) };
    for (bad, needle) in [(nowhere, "no address"), (long, "bytes")] {
        let error = discovery.register(bad).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains(needle), "{error}");
    }
    assert!(!root.path().join("v1").exists(), "nothing was written");
}

#[tokio::test]
async fn a_root_that_cannot_be_used_is_unavailable() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let discovery = open(&file);
    for error in [
        discovery.watch().await.map(drop).unwrap_err(),
        discovery.register(instance(1)).await.map(drop).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{text}");
        assert!(text.contains(file.to_str().unwrap()), "{text}");
    }
}
