//! Policies in a folder, which several processes write and read.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use sinew_discovery::{Discovery as _, DiscoveryError, PlanePolicy, PolicyView};
use sinew_plane::{EndpointName, TransportId};

use crate::support::{PATIENCE, instance, open, until};

fn endpoint() -> EndpointName {
    "ns1/backend/generate".parse().unwrap()
}

fn policy(percent: u8) -> PlanePolicy {
    PlanePolicy::new(endpoint(), TransportId::from_static("unix")).by("ann@x").percent(percent)
}

async fn next(view: &mut PolicyView) -> Option<Arc<PlanePolicy>> {
    tokio::time::timeout(PATIENCE, view.changed()).await.unwrap().unwrap();
    view.borrow_and_update().clone()
}

#[tokio::test]
async fn what_one_process_stores_another_sees_and_instances_are_not_concerned() {
    let root = tempfile::tempdir().unwrap();
    let (operator, router) = (open(root.path()), open(root.path()));
    let mut view = router.watch_policy(&endpoint()).unwrap().unwrap();
    assert_eq!(*view.borrow(), None);
    let first = operator.put_policy(policy(10)).await.unwrap();
    assert_eq!(next(&mut view).await.as_deref(), Some(&first));
    let second = operator.put_policy(policy(20)).await.unwrap();
    assert!(second.version > first.version);
    assert_eq!(next(&mut view).await.as_deref(), Some(&second));
    // A process that begins now sees it as well, and the instances and nothing else.
    let late = open(root.path());
    let mut at_once = late.watch_policy(&endpoint()).unwrap().unwrap();
    assert_eq!(next(&mut at_once).await.as_deref(), Some(&second));
    let _registration = operator.register(instance(1)).await.unwrap();
    let mut instances = late.watch().await.unwrap();
    until(&mut instances, |now| now.len() == 1).await;
    assert!(operator.remove_policy(&endpoint()).await.unwrap());
    assert_eq!(next(&mut view).await, None);
    assert!(!operator.remove_policy(&endpoint()).await.unwrap());
}

#[tokio::test]
async fn a_file_that_is_no_policy_or_that_others_may_write_is_as_none() {
    let root = tempfile::tempdir().unwrap();
    let discovery = open(root.path());
    let mut view = discovery.watch_policy(&endpoint()).unwrap().unwrap();
    discovery.put_policy(policy(10)).await.unwrap();
    assert!(next(&mut view).await.is_some());
    let folder = root.path().join("sinew/policies");
    let file = folder.join("ns1%2Fbackend%2Fgenerate");
    let text = std::fs::read(&file).unwrap();
    std::fs::write(&file, "{").unwrap();
    assert_eq!(next(&mut view).await, None);
    std::fs::write(&file, &text).unwrap();
    assert!(next(&mut view).await.is_some());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(next(&mut view).await, None);
    // It is replaced all the same.
    discovery.put_policy(policy(30)).await.unwrap();
    assert_eq!(next(&mut view).await.map(|policy| policy.percent), Some(30));
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(next(&mut view).await, None);
}

#[tokio::test]
async fn what_cannot_be_stored_says_why_and_a_store_that_has_ended_too() {
    let root = tempfile::tempdir().unwrap();
    let discovery = open(root.path());
    let error = discovery.put_policy(policy(0)).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Invalid { .. }), "{error}");
    std::fs::write(root.path().join("sinew"), "in the way").unwrap();
    let error = discovery.put_policy(policy(1)).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unavailable { .. }), "{error}");
    discovery.shutdown().await;
    assert!(discovery.put_policy(policy(1)).await.is_err());
    assert!(discovery.remove_policy(&endpoint()).await.is_err());
    assert!(discovery.watch_policy(&endpoint()).is_err());
}

#[tokio::test]
async fn a_view_that_follows_one_that_was_dropped_at_once_sees_what_is_stored() {
    let root = tempfile::tempdir().unwrap();
    let (operator, router) = (open(root.path()), open(root.path()));
    // The thread sleeps between two looks, and for good while nobody watches.
    for percent in 1..20 {
        drop(router.watch_policy(&endpoint()).unwrap());
        let mut view = router.watch_policy(&endpoint()).unwrap().unwrap();
        let stored = operator.put_policy(policy(percent)).await.unwrap();
        while next(&mut view).await.as_deref() != Some(&stored) {}
    }
}
