//! Files and directories that somebody else removes.

use std::{fs, path::Path};

use sinew_discovery::{Discovery as _, Snapshot};

use crate::support::{PATIENCE, instance, open, path_of, until};

fn is_there(snapshot: &Snapshot) -> bool {
    snapshot.len() == 1
}

/// Waits until the file exists and looks at something all the while.
async fn until_back(path: &Path, look: impl Fn()) {
    let back = async {
        while !path.exists() {
            look();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
}

#[tokio::test]
async fn a_record_that_somebody_deletes_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let (worker, caller) = (open(root.path()), open(root.path()));
    let registration = worker.register(instance(1)).await.unwrap();
    let mut view = caller.watch().await.unwrap();
    let path = path_of(root.path(), &instance(1).key());
    let before = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    until_back(&path, || ()).await;
    // Whether or not the absence was long enough to be seen.
    until(&mut view, is_there).await;
    assert_eq!(fs::read(&path).unwrap(), before, "the same life as before");
    registration.withdraw().await.unwrap();
}

#[tokio::test]
async fn a_store_that_vanishes_is_made_anew_by_its_owners() {
    let root = tempfile::tempdir().unwrap();
    let (worker, caller) = (open(root.path()), open(root.path()));
    let registration = worker.register(instance(1)).await.unwrap();
    let mut view = caller.watch().await.unwrap();
    let path = path_of(root.path(), &instance(1).key());
    fs::rename(root.path().join("v1"), root.path().join("away")).unwrap();
    until_back(&path, || assert!(is_there(&view.snapshot()), "an outage is no goodbye")).await;
    drop(registration);
    until(&mut view, Snapshot::is_empty).await;
}
