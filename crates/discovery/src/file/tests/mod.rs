//! The rules over a real directory, with time moved by hand.

mod blind;
mod claim;
mod directory;
mod growth;
mod policies;
mod scan;

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    process::Command as Program,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use sinew_folder::Folder;
use sinew_plane::InstanceId;
use tempfile::TempDir;

use super::{claims::*, scan::*, *};
use crate::{FolderRules, InstanceKey, MAX_INSTANCES, record::Owner};

const TTL: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(3);

/// One process's part of the backend, without its thread.
struct Peer {
    directory: Directory,
    scanner: Scanner,
    claims: Claims,
    now: Instant,
}

impl Peer {
    fn at(root: &TempDir) -> Self {
        Self::with(Directory::of_store(root.path(), FolderRules::default()))
    }

    fn with(directory: Directory) -> Self {
        directory.create().unwrap();
        Self {
            directory,
            scanner: Scanner::new(TTL),
            claims: Claims::default(),
            now: Instant::now(),
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Waits in steps short enough that nothing goes unseen.
    fn watch_for(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.wait(1);
            let _ = self.scanner.scan(&self.directory, self.now);
        }
    }

    fn scan(&mut self) -> Vec<u64> {
        self.scanner.scan(&self.directory, self.now).unwrap();
        self.ids()
    }

    fn ids(&self) -> Vec<u64> {
        self.scanner.instances().iter().map(|one| one.id.0).collect()
    }

    fn reconcile(&mut self) {
        let (directory, scanner, now) = (&self.directory, &self.scanner, self.now);
        let edition = directory.check(false).ok();
        self.claims.reconcile(
            edition,
            &ClaimEnvironment { directory, scanner, heartbeat: HEARTBEAT, now },
        );
    }

    fn register(
        &mut self,
        instance: Instance,
    ) -> oneshot::Receiver<Result<RegistrationHandle, DiscoveryError>> {
        let (answer, answered) = oneshot::channel();
        let record = Record { instance, owner: None };
        let key = record.instance.key();
        let bytes = record::encode(&record).unwrap();
        let request = Request { name: name_of(&key), key, record, bytes, answer };
        let (directory, scanner, now) = (&self.directory, &self.scanner, self.now);
        self.claims
            .add(request, &ClaimEnvironment { directory, scanner, heartbeat: HEARTBEAT, now });
        answered
    }

    /// Makes the directory one that cannot be used, or usable again.
    fn shut(&self, is_shut: bool) {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if is_shut { 0o777 } else { 0o700 };
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let _ = self.directory.check(true);
    }

    fn path_of(&self, id: u64) -> PathBuf {
        self.directory.path().join(name_of(&instance(id).key()))
    }

    /// Writes the record of a worker elsewhere.
    fn put(&self, id: u64) {
        fs::write(self.path_of(id), bytes_of(&instance(id))).unwrap();
    }

    fn set_time(&self, id: u64, time: SystemTime) {
        File::options().write(true).open(self.path_of(id)).unwrap().set_modified(time).unwrap();
    }
}

fn instance(id: u64) -> Instance {
    let here = vec!["tcp://10.0.0.7:9001".parse().unwrap()];
    Instance::new("a/b/c".parse().unwrap(), InstanceId(id), here)
}

fn name_of(key: &InstanceKey) -> String {
    record::file_name(&record::key(key))
}

fn bytes_of(instance: &Instance) -> Vec<u8> {
    record::encode(&Record { instance: instance.clone(), owner: None }).unwrap()
}

#[test]
fn a_shutdown_does_not_wait_for_a_file_system_that_hangs() {
    let root = tempfile::tempdir().unwrap();
    let (begins, begun) = std_mpsc::channel();
    let (release, released) = std_mpsc::channel::<()>();
    let hang = move |_: &Folder, _: &str, _: &[u8]| {
        let _ = begins.send(());
        let _ = released.recv();
        Err(io::Error::from(ErrorKind::TimedOut))
    };
    let directory = Directory::with_writer(root.path(), FolderRules::default(), Box::new(hang));
    let path = root.path().to_owned();
    let discovery = FileDiscovery::start(path, directory, FileConfig::default()).unwrap();
    // No time in it: the backend has to do without.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let registering = discovery.clone();
        let registering = tokio::spawn(async move { registering.register(instance(1)).await });
        tokio::task::yield_now().await;
        begun.recv().unwrap();
        let started = Instant::now();
        discovery.shutdown().await;
        assert!(started.elapsed() >= STOP_LIMIT, "it hangs");
        assert!(started.elapsed() < STOP_LIMIT * 3, "{:?}", started.elapsed());
        drop(release);
        discovery.shutdown().await;
        assert!(registering.await.unwrap().is_err());
    });
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_names_and_contents_harm_nobody(
        name in "[a-z0-9%_-]{1,30}",
        content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        over_ours: bool,
    ) {
        let root = tempfile::tempdir().unwrap();
        let mut peer = Peer::at(&root);
        let _hold = peer.register(instance(1)).try_recv().unwrap().unwrap();
        peer.put(2);
        fs::write(peer.directory.path().join(name), &content).unwrap();
        if over_ours {
            fs::write(peer.path_of(1), &content).unwrap();
        }
        peer.reconcile();
        proptest::prop_assert_eq!(peer.scan(), [1, 2]);
        fs::write(peer.path_of(2), &content).unwrap();
        proptest::prop_assert_eq!(peer.scan(), [1, 2]);
    }
}
