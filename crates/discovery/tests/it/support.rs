//! What the tests share.

use std::{path::Path, time::Duration};

use sinew_discovery::{
    Change, FileConfig, FileDiscovery, Instance, InstanceKey, Snapshot, View, record,
};
use sinew_plane::InstanceId;

/// Long enough for a busy machine; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A store that looks often and forgets soon.
pub(crate) fn open(root: &Path) -> FileDiscovery {
    let config = FileConfig {
        ttl: Duration::from_secs(3),
        scan_interval: Duration::from_millis(10),
        ..FileConfig::default()
    };
    FileDiscovery::with_config(root, config).unwrap()
}

pub(crate) fn instance(id: u64) -> Instance {
    let here = vec!["tcp://10.0.0.7:9001".parse().unwrap()];
    Instance::new("ns1/backend/generate".parse().unwrap(), InstanceId(id), here)
}

pub(crate) fn path_of(root: &Path, key: &InstanceKey) -> std::path::PathBuf {
    root.join(record::BUCKET).join(record::file_name(&record::key(key)))
}

/// The next changes.
pub(crate) async fn changes(view: &mut View) -> Vec<Change> {
    tokio::time::timeout(PATIENCE, view.changed()).await.unwrap().unwrap()
}

/// Waits until the view is as it should be.
pub(crate) async fn until(view: &mut View, is_so: impl Fn(&Snapshot) -> bool) {
    while !is_so(&view.snapshot()) {
        changes(view).await;
    }
}
