//! A worker process that gets no chance to say goodbye.

use std::{
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use sinew_discovery::{
    Change, Discovery as _, DiscoveryError, FileConfig, FileDiscovery, Instance, host_id,
};
use sinew_plane::ProcessId;

use crate::support::{PATIENCE, changes, instance, path_of};

/// Set for the child: the store in which it is to register.
const ROOT: &str = "SINEW_DISCOVERY_TEST_ROOT";
const TEST: &str = "killed::a_killed_worker_is_gone_long_before_its_ttl";

/// Longer than the test may take, so that only the kernel can have told.
fn open(root: &Path) -> FileDiscovery {
    let config = FileConfig {
        ttl: PATIENCE * 10,
        scan_interval: Duration::from_millis(10),
        ..FileConfig::default()
    };
    FileDiscovery::with_config(root, config).unwrap()
}

fn worker() -> Instance {
    Instance { host: host_id(), process: Some(process_number()), ..instance(7) }
}

/// Differs between the processes of this test.
fn process_number() -> ProcessId {
    ProcessId(std::process::id().into())
}

struct Worker(Child);

impl Worker {
    fn start(root: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", TEST]).env(ROOT, root);
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_worker_is_gone_long_before_its_ttl() {
    if let Some(root) = std::env::var_os(ROOT) {
        let _registration = open(root.as_ref()).register(worker()).await.unwrap();
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let discovery = open(root.path());
    let mut view = discovery.watch().await.unwrap();
    let child = Worker::start(root.path());
    let came = changes(&mut view).await;
    let [Change::Added(first)] = &came[..] else { panic!("{came:?}") };
    assert_eq!(first.process, Some(ProcessId(child.0.id().into())));

    let error = discovery.register(worker()).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "{error}");

    drop(child);
    let went = changes(&mut view).await;
    assert!(matches!(&went[..], [Change::Removed(one)] if Arc::ptr_eq(one, first)), "{went:?}");
    assert!(!path_of(root.path(), &first.key()).exists());
    // And the key is free again.
    discovery.register(worker()).await.unwrap().withdraw().await.unwrap();
}
