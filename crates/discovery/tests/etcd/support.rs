//! What the tests share.

use std::time::Duration;

use sinew_discovery::{
    Change, Discovery as _, EtcdConfig, EtcdDiscovery, Instance, InstanceKey, Snapshot, View,
    record,
};
use sinew_plane::{EndpointName, InstanceId};

/// Long enough for a busy machine; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at another process, which tells nobody here what it does.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The shortest lease that etcd takes.
pub(crate) const TTL: Duration = Duration::from_secs(2);

pub(crate) fn config(url: &str) -> EtcdConfig {
    EtcdConfig { lease_ttl: TTL, startup_timeout: PATIENCE, ..EtcdConfig::new([url]) }
}

pub(crate) async fn connect(url: &str) -> EtcdDiscovery {
    EtcdDiscovery::connect(config(url)).await.unwrap()
}

/// A backend and a view of the one endpoint of [`instance`].
pub(crate) async fn watching(config: EtcdConfig) -> (EtcdDiscovery, View) {
    let discovery = EtcdDiscovery::connect(config).await.unwrap();
    let wanted = discovery.want(&endpoint());
    let view = discovery.watch().await.unwrap().holding(wanted);
    (discovery, view)
}

pub(crate) fn endpoint() -> EndpointName {
    "ns1/backend/generate".parse().unwrap()
}

pub(crate) fn instance(id: u64) -> Instance {
    let here = vec!["tcp://10.0.0.7:9001".parse().unwrap()];
    Instance::new(endpoint(), InstanceId(id), here)
}

/// The key in etcd.
pub(crate) fn name_of(key: &InstanceKey) -> String {
    format!("v1/instances/{}", record::key(key))
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

/// Asks again and again for something that has no event of its own.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while !is_so() {
        assert!(tokio::time::Instant::now() < limit, "{what}");
        looks.tick().await;
    }
}
