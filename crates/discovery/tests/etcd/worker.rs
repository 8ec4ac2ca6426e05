//! A worker process that gets no chance to say goodbye.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sinew_discovery::{Change, Discovery as _, DiscoveryError, EtcdDiscovery, Instance, host_id};
use sinew_plane::ProcessId;

use crate::{
    server::Server,
    support::{changes, config, connect, instance, name_of, watching},
};

/// Set for the child: the etcd in which it is to register.
const URL: &str = "SINEW_DISCOVERY_TEST_ETCD_URL";

fn worker() -> Instance {
    Instance { host: host_id(), process: Some(ProcessId(std::process::id().into())), ..instance(7) }
}

struct Worker(Child);

impl Worker {
    fn start(test: &str, url: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(URL, url);
        // It lives until it is killed, or until this process is and the pipe closes.
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True when this is the child: then all is done already.
async fn is_worker(ttl: Duration) -> bool {
    let Some(url) = std::env::var_os(URL) else { return false };
    let config = sinew_discovery::EtcdConfig { lease_ttl: ttl, ..config(url.to_str().unwrap()) };
    let discovery = EtcdDiscovery::connect(config).await.unwrap();
    let _registration = discovery.register(worker()).await.unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_killed_worker_is_gone_after_its_ttl_and_the_grace() {
    if is_worker(crate::support::TTL).await {
        return;
    }
    let server = Server::start().await;
    let (_caller, mut view) = watching(config(&server.url())).await;
    let child =
        Worker::start("worker::a_killed_worker_is_gone_after_its_ttl_and_the_grace", &server.url());
    let came = changes(&mut view).await;
    let [Change::Added(first)] = &came[..] else { panic!("{came:?}") };
    assert_eq!(first.process, Some(ProcessId(child.0.id().into())));
    let killed = Instant::now();
    drop(child);
    let went = changes(&mut view).await;
    // The lease, the grace of 1 s, and what etcd and a busy machine take. An outage would hold it
    // for 30 s.
    assert!(killed.elapsed() < crate::support::TTL + Duration::from_secs(1 + 10));
    assert!(matches!(&went[..], [Change::Removed(one)] if one == first), "{went:?}");
    assert!(server.entry(&name_of(&first.key())).is_none());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_live_workers_key_is_taken_and_a_dead_ones_is_not() {
    // Longer than the test may take, so that only the kernel can have told.
    if is_worker(crate::support::PATIENCE * 10).await {
        return;
    }
    let server = Server::start().await;
    let (_caller, mut view) = watching(config(&server.url())).await;
    let test = "worker::a_live_workers_key_is_taken_and_a_dead_ones_is_not";
    let child = Worker::start(test, &server.url());
    changes(&mut view).await;
    let discovery = connect(&server.url()).await;
    let error = discovery.register(worker()).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "{error}");
    assert!(error.to_string().contains("ns1/backend/generate/7"), "{error}");
    drop(child);
    let _registration = discovery.register(worker()).await.unwrap();
    let changed = changes(&mut view).await;
    assert!(
        matches!(&changed[..], [Change::Changed { new, .. }] if new.process == worker().process),
        "{changed:?}"
    );
}
