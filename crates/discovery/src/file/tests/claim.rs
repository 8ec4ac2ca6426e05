//! What an owner keeps.

use std::io::Write as _;

use sinew_plane::ProcessId;

use super::*;

#[test]
fn an_owner_touches_when_it_is_time_and_puts_back_what_was_lost() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let _hold = peer.register(instance(1)).try_recv().unwrap().unwrap();
    let stamp = |peer: &Peer| peer.directory.stamp(&name_of(&instance(1).key())).unwrap();
    let written = stamp(&peer);
    let bytes = fs::read(peer.path_of(1)).unwrap();
    peer.wait(2);
    peer.reconcile();
    assert_eq!(stamp(&peer), written);
    peer.set_time(1, SystemTime::UNIX_EPOCH);
    peer.wait(1);
    peer.reconcile();
    peer.reconcile();
    let touched = File::open(peer.path_of(1)).unwrap().metadata().unwrap().modified().unwrap();
    assert!(touched.elapsed().unwrap() < Duration::from_secs(3600));
    let after = stamp(&peer);
    peer.wait(2);
    peer.reconcile();
    assert_eq!(stamp(&peer), after, "the time begins anew with each touch");

    peer.wait(HEARTBEAT.as_secs());
    for ruin in [
        |path: &Path| fs::remove_file(path).unwrap(),
        |path: &Path| fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap(),
        |path: &Path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        },
        |path: &Path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        |path: &Path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            fs::write(path.join("not ours"), "").unwrap();
        },
    ] {
        ruin(&peer.path_of(1));
        peer.wait(1);
        peer.reconcile();
        assert_eq!(fs::read(peer.path_of(1)).unwrap(), bytes);
        assert!(peer.path_of(1).symlink_metadata().unwrap().is_file());
    }
    // No name changes with this one.
    fs::write(peer.path_of(1), "scribble").unwrap();
    peer.wait(HEARTBEAT.as_secs());
    peer.reconcile();
    assert_eq!(fs::read(peer.path_of(1)).unwrap(), bytes);
}

#[test]
fn what_stands_in_a_records_place_with_something_in_it_is_kept_aside() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    fs::create_dir(peer.path_of(1)).unwrap();
    fs::write(peer.path_of(1).join("treasure"), "").unwrap();
    let _hold = peer.register(instance(1)).try_recv().unwrap().unwrap();
    assert_eq!(peer.scan(), [1]);
    let names = fs::read_dir(peer.directory.path()).unwrap().flatten();
    let aside = names.map(|one| one.path()).find(|path| path.is_dir()).unwrap();
    assert!(aside.join("treasure").exists());
}

#[test]
fn a_record_that_cannot_be_taken_back_is_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let hold = peer.register(instance(1)).try_recv().unwrap().unwrap();
    peer.shut(true);
    let Err(error) = peer.claims.withdraw(hold.token, &peer.directory) else {
        panic!("what is not to be trusted is not written")
    };
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(peer.path_of(1).exists());
    peer.shut(false);
    peer.wait(HEARTBEAT.as_secs() + 1);
    peer.reconcile();
    peer.wait(HEARTBEAT.as_secs() + 1);
    peer.reconcile();
    assert!(!peer.path_of(1).exists() && peer.claims.is_empty());
}

#[test]
fn a_full_disk_fails_a_registration_and_never_loses_one() {
    let root = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let write = move |folder: &Folder, name: &str, bytes: &[u8]| {
        let mut file = folder.create_file(name, 0o644)?;
        if is_full.load(Ordering::Relaxed) {
            // As a full disk does it: the name is there, the content is not.
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        file.write_all(bytes)
    };
    let rules = FolderRules::default();
    let mut peer = Peer::with(Directory::with_writer(root.path(), rules, Box::new(write)));
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
    peer.reconcile();
    assert!(!peer.path_of(1).exists());
    full.store(false, Ordering::Relaxed);
    peer.reconcile();
    assert_eq!(peer.scan(), [1]);
}

#[test]
fn a_key_of_unknown_owner_is_given_when_its_time_is_over() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    let mut answered = peer.register(instance(1));
    for _ in 0..10 {
        peer.reconcile();
        assert!(answered.try_recv().is_err(), "too early to tell");
        peer.watch_for(1);
    }
    peer.watch_for(1);
    peer.reconcile();
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
    peer.reconcile();
    let error = answered.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "{error}");
    assert!(peer.claims.is_empty());
}

#[test]
fn a_key_is_taken_also_by_an_owner_that_nobody_here_can_reach() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let elsewhere = Instance {
        host: Some("00000000000000aa-00000000000000bb".to_owned()),
        addresses: vec!["tcp://127.0.0.1:9000".parse().unwrap()],
        ..instance(1)
    };
    let bytes = bytes_of(&elsewhere);
    fs::write(peer.path_of(1), &bytes).unwrap();
    let mut answered = peer.register(instance(1));
    peer.watch_for(3);
    peer.set_time(1, SystemTime::now());
    peer.scan();
    peer.reconcile();
    let error = answered.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "{error}");
    assert_eq!(fs::read(peer.path_of(1)).unwrap(), bytes);
}

#[test]
fn an_owner_that_stirs_at_the_last_moment_keeps_its_key() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    let bytes = fs::read(peer.path_of(1)).unwrap();
    let mut answered = peer.register(instance(1));
    peer.watch_for(11);
    // After the look that found it silent, and before the key is taken.
    peer.set_time(1, SystemTime::now());
    peer.reconcile();
    assert_eq!(fs::read(peer.path_of(1)).unwrap(), bytes);
    peer.scan();
    peer.reconcile();
    assert!(matches!(answered.try_recv().unwrap(), Err(DiscoveryError::Taken { .. })));
}

#[test]
fn a_record_that_is_not_ours_any_more_is_not_taken_back() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let hold = peer.register(instance(1)).try_recv().unwrap().unwrap();
    peer.put(1);
    drop(hold);
    peer.reconcile();
    assert!(peer.claims.is_empty() && peer.path_of(1).exists());
}

#[test]
fn whoever_gives_up_asking_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    drop(peer.register(instance(1)));
    assert!(peer.claims.is_waiting());
    peer.reconcile();
    assert!(peer.claims.is_empty());
    // Given up after the claim was granted.
    drop(peer.register(instance(2)));
    peer.reconcile();
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
    new.reconcile();
    let new_hold = answered.try_recv().unwrap().unwrap();
    let successor = fs::read(&first).unwrap();
    assert_ne!(successor, second);

    old.wait(11);
    for _ in 0..8 {
        old.reconcile();
        old.watch_for(1);
        assert_eq!(fs::read(&first).unwrap(), successor);
        new.wait(HEARTBEAT.as_secs());
        new.reconcile();
    }
    drop(new_hold);
    new.reconcile();
    assert!(!first.exists());
    old.reconcile();
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
    peer.reconcile();
    peer.scan();
    assert_eq!(*peer.scanner.instances()[0], changed);

    let of = |process| Instance { process: Some(ProcessId(process)), ..instance(2) };
    let _first = peer.register(of(1)).try_recv().unwrap().unwrap();
    let second = peer.register(of(1)).try_recv().unwrap().unwrap();
    drop(second);
    peer.reconcile();
    peer.reconcile();
    assert!(!peer.path_of(2).exists(), "what was replaced does not come back");

    let _held = peer.register(of(1)).try_recv().unwrap().unwrap();
    let error = peer.register(of(2)).try_recv().unwrap().unwrap_err();
    assert!(matches!(error, DiscoveryError::Taken { .. }), "two runtimes in one process");
}
