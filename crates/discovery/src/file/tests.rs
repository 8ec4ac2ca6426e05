//! The rules over a real directory, with time moved by hand.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    process::Command as Program,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime},
};

use sinew_plane::InstanceId;
use tempfile::TempDir;

use super::{claim::*, scan::*, *};
use crate::{InstanceKey, MAX_INSTANCES, record::Owner};

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
        Self::with(Directory::of_store(root.path()))
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
        self.scanner.instances(self.now).iter().map(|one| one.id.0).collect()
    }

    fn tend(&mut self) {
        let (directory, scanner, now) = (&self.directory, &self.scanner, self.now);
        self.claims.tend(&Ground { directory, scanner, heartbeat: HEARTBEAT, now });
    }

    fn register(&mut self, instance: Instance) -> oneshot::Receiver<Result<Hold, DiscoveryError>> {
        let (answer, answered) = oneshot::channel();
        let record = Record { instance, owner: None };
        let key = record.instance.key();
        let bytes = record::encode(&record).unwrap();
        let request = Request { name: name_of(&key), key, record, bytes, answer };
        let (directory, scanner, now) = (&self.directory, &self.scanner, self.now);
        self.claims.add(request, &Ground { directory, scanner, heartbeat: HEARTBEAT, now });
        answered
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
fn a_silent_entry_ends_with_its_ttl_and_a_touch_brings_it_back() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    assert_eq!(peer.scan(), [1]);
    peer.watch_for(9);
    assert_eq!(peer.ids(), [1]);
    peer.watch_for(1);
    assert!(peer.ids().is_empty());
    peer.watch_for(100);
    assert!(peer.ids().is_empty(), "a file that only lies there is no second first sight");
    assert!(peer.path_of(1).exists(), "nobody proved that its owner is dead");
    peer.set_time(1, SystemTime::now());
    assert_eq!(peer.scan(), [1]);
}

#[test]
fn clocks_that_jump_make_no_difference() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    let century = Duration::from_secs(100 * 365 * 86_400);
    let now = SystemTime::now();
    for time in [now + century, SystemTime::UNIX_EPOCH, now + century, now - century / 4] {
        peer.set_time(1, time);
        assert_eq!(peer.scan(), [1]);
        peer.watch_for(9);
        assert_eq!(peer.ids(), [1], "{time:?}");
    }
    peer.watch_for(1);
    assert!(peer.ids().is_empty(), "a time in the future is no sign of life either");
}

#[test]
fn an_entry_that_goes_bad_keeps_its_last_good_content_for_one_ttl() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    peer.scan();
    let whole = fs::read(peer.path_of(1)).unwrap();
    for bad in [&whole[..whole.len() / 2], b"", &bytes_of(&instance(2))] {
        fs::write(peer.path_of(1), bad).unwrap();
        assert_eq!(peer.scan(), [1]);
        peer.watch_for(5);
        fs::write(peer.path_of(1), &whole).unwrap();
        assert_eq!(peer.scan(), [1]);
    }
    for round in 0..10 {
        // Touched, and so alive, but never again a record.
        fs::write(peer.path_of(1), format!("{round}")).unwrap();
        assert_eq!(peer.scan(), [1]);
        peer.watch_for(1);
    }
    assert!(peer.ids().is_empty());
    fs::write(peer.path_of(1), &whole).unwrap();
    assert_eq!(peer.scan(), [1]);
}

#[test]
fn an_entry_that_was_never_good_is_never_shown() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    fs::write(peer.path_of(1), b"{").unwrap();
    fs::write(peer.directory.path().join("README"), bytes_of(&instance(1))).unwrap();
    fs::write(peer.directory.path().join(".tmp_0123456789abcdef"), bytes_of(&instance(1))).unwrap();
    assert!(peer.scan().is_empty());
}

#[test]
fn of_two_files_for_one_key_dynamos_spelling_counts() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let stray = Instance { weight: 9, ..instance(1) };
    for name in ["a%2fb%2fc%2f1", "%61%2Fb%2Fc%2F1"] {
        fs::write(peer.directory.path().join(name), bytes_of(&stray)).unwrap();
    }
    peer.scan();
    let weight = |peer: &Peer| {
        let snapshot = crate::Snapshot::new(1, peer.scanner.instances(peer.now));
        snapshot.get(&instance(1).key()).unwrap().weight
    };
    assert_eq!(weight(&peer), 9);
    peer.put(1);
    peer.scan();
    assert_eq!(weight(&peer), 1);
}

#[test]
fn a_vanished_directory_is_an_outage_and_a_vanished_file_is_a_goodbye() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    peer.put(2);
    peer.put(3);
    assert_eq!(peer.scan(), [1, 2, 3]);
    fs::remove_file(peer.path_of(3)).unwrap();
    assert_eq!(peer.scan(), [1, 2]);

    fs::rename(peer.directory.path(), root.path().join("away")).unwrap();
    let error = peer.scanner.scan(&peer.directory, peer.now).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    peer.watch_for(5);
    assert_eq!(peer.ids(), [1, 2]);

    // One owner is back before the other, who must not be taken for gone.
    peer.directory.create().unwrap();
    peer.put(1);
    assert_eq!(peer.scan(), [1, 2]);
    peer.watch_for(5);
    assert_eq!(peer.ids(), [1], "its time is over");
    peer.put(2);
    assert_eq!(peer.scan(), [1, 2]);
    fs::remove_file(peer.path_of(2)).unwrap();
    assert_eq!(peer.scan(), [1]);
}

#[test]
fn a_directory_replaced_between_two_looks_is_an_outage_too() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    peer.scan();
    fs::rename(peer.directory.path(), root.path().join("away")).unwrap();
    peer.directory.create().unwrap();
    assert_eq!(peer.scan(), [1]);
    peer.watch_for(10);
    assert!(peer.ids().is_empty());
}

#[test]
fn a_watcher_that_was_stopped_does_not_take_its_own_silence_for_theirs() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    peer.scan();
    peer.wait(3600);
    assert_eq!(peer.scan(), [1]);
    peer.watch_for(10);
    assert!(peer.ids().is_empty());
}

#[test]
fn more_files_than_the_limit_are_not_taken() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let bytes = bytes_of(&instance(1));
    peer.put(1);
    assert_eq!(peer.scan(), [1]);
    for stray in 0..MAX_INSTANCES + 3 {
        // Not under their own key, and so quick to refuse.
        fs::write(peer.directory.path().join(format!("a%2Fb%2Fc%2Ff{stray:x}")), &bytes).unwrap();
    }
    assert_eq!(peer.scan(), [1], "who was there before stays");
    fs::remove_file(peer.path_of(1)).unwrap();
    assert!(peer.scan().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_ended_on_this_host_is_gone_at_once_and_its_file_too() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let mut child = Program::new("sleep").arg("1000").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let owner = Some(Owner { pid: child.id(), start: start.parse().unwrap() });
    let write = |id, host: Option<String>| {
        let instance = Instance { host, ..instance(id) };
        let bytes = record::encode(&Record { instance, owner }).unwrap();
        fs::write(peer.path_of(id), bytes).unwrap();
    };
    write(1, host_id());
    write(2, Some("0123456789abcdef-0123456789abcdef".to_owned()));
    assert_eq!(peer.scan(), [1, 2]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(peer.scan(), [2], "the same process id elsewhere is another process");
    assert!(!peer.path_of(1).exists() && peer.path_of(2).exists());
}

#[test]
fn an_owner_touches_when_it_is_time_and_puts_back_what_was_lost() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let _hold = peer.register(instance(1)).try_recv().unwrap().unwrap();
    let stamp = |peer: &Peer| peer.directory.stamp(&name_of(&instance(1).key())).unwrap();
    let written = stamp(&peer);
    let bytes = fs::read(peer.path_of(1)).unwrap();
    peer.wait(2);
    peer.tend();
    assert_eq!(stamp(&peer), written);
    peer.set_time(1, SystemTime::UNIX_EPOCH);
    peer.wait(1);
    peer.tend();
    peer.tend();
    let touched = File::open(peer.path_of(1)).unwrap().metadata().unwrap().modified().unwrap();
    assert!(touched.elapsed().unwrap() < Duration::from_secs(3600));

    for ruin in [
        |path: &Path| fs::remove_file(path).unwrap(),
        |path: &Path| fs::write(path, "scribble").unwrap(),
        |path: &Path| fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap(),
        |path: &Path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        },
    ] {
        ruin(&peer.path_of(1));
        peer.tend();
        assert_eq!(fs::read(peer.path_of(1)).unwrap(), bytes);
        assert!(peer.path_of(1).symlink_metadata().unwrap().is_file());
    }
}

#[test]
fn a_full_disk_fails_a_registration_and_never_loses_one() {
    let root = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let write = move |path: &Path, bytes: &[u8]| {
        if is_full.load(Ordering::Relaxed) {
            // As a full disk does it: the name is there, the content is not.
            fs::write(path, &bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        fs::write(path, bytes)
    };
    let mut peer = Peer::with(Directory::with_writer(root.path(), Box::new(write)));
    let error = peer.register(instance(1)).try_recv().unwrap().unwrap_err();
    assert!(
        matches!(&error, DiscoveryError::Unavailable { source: Some(source), .. }
            if source.kind() == ErrorKind::StorageFull),
        "{error}"
    );
    assert_eq!(fs::read_dir(peer.directory.path()).unwrap().count(), 0, "no half record");
    assert!(peer.claims.is_empty());

    full.store(false, Ordering::Relaxed);
    let _hold = peer.register(instance(1)).try_recv().unwrap().unwrap();
    full.store(true, Ordering::Relaxed);
    fs::remove_file(peer.path_of(1)).unwrap();
    peer.tend();
    assert!(!peer.path_of(1).exists());
    full.store(false, Ordering::Relaxed);
    peer.tend();
    assert_eq!(peer.scan(), [1]);
}

#[test]
fn a_key_of_unknown_owner_is_given_when_its_time_is_over() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    let mut answered = peer.register(instance(1));
    for _ in 0..10 {
        peer.tend();
        assert!(answered.try_recv().is_err(), "too early to tell");
        peer.watch_for(1);
    }
    peer.watch_for(1);
    peer.tend();
    assert!(answered.try_recv().unwrap().is_ok());
    assert_eq!(peer.scan(), [1]);
}

#[test]
fn a_key_whose_owner_shows_life_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    let mut answered = peer.register(instance(1));
    peer.watch_for(3);
    peer.set_time(1, SystemTime::now());
    peer.scan();
    peer.tend();
    let error = answered.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "{error}");
    assert!(peer.claims.is_empty());
}

#[test]
fn whoever_gives_up_asking_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    drop(peer.register(instance(1)));
    assert!(peer.claims.is_waiting());
    peer.tend();
    assert!(peer.claims.is_empty());
    // Given up after the claim was granted.
    drop(peer.register(instance(2)));
    peer.tend();
    assert!(!peer.path_of(2).exists() && peer.claims.is_empty());
}

#[test]
fn an_owner_back_from_a_long_stop_does_not_fight_its_successor() {
    let root = tempfile::tempdir().unwrap();
    let (mut old, mut new) = (Peer::at(&root), Peer::at(&root));
    let _old_hold = old.register(instance(1)).try_recv().unwrap().unwrap();
    let (first, second) = (old.path_of(1), fs::read(old.path_of(1)).unwrap());
    old.scan();

    let mut answered = new.register(instance(1));
    new.watch_for(11);
    new.tend();
    let new_hold = answered.try_recv().unwrap().unwrap();
    let successor = fs::read(&first).unwrap();
    assert_ne!(successor, second);

    old.wait(11);
    for _ in 0..8 {
        old.tend();
        old.watch_for(1);
        assert_eq!(fs::read(&first).unwrap(), successor);
        new.wait(HEARTBEAT.as_secs());
        new.tend();
    }
    drop(new_hold);
    new.tend();
    assert!(!first.exists());
    old.tend();
    assert_eq!(fs::read(&first).unwrap(), second, "free again");
}

#[test]
fn the_same_process_replaces_its_own_registration() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let old = peer.register(instance(1)).try_recv().unwrap().unwrap();
    let changed = Instance { weight: 7, ..instance(1) };
    let _new = peer.register(changed.clone()).try_recv().unwrap().unwrap();
    drop(old);
    peer.tend();
    peer.scan();
    assert_eq!(*peer.scanner.instances(peer.now)[0], changed);

    let of = |process| Instance { process: Some(process), ..instance(2) };
    let _held = peer.register(of(1)).try_recv().unwrap().unwrap();
    let error = peer.register(of(2)).try_recv().unwrap().unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "two runtimes in one process");
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
        peer.tend();
        proptest::prop_assert_eq!(peer.scan(), [1, 2]);
        fs::write(peer.path_of(2), &content).unwrap();
        proptest::prop_assert_eq!(peer.scan(), [1, 2]);
    }
}
