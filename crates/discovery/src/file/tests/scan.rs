//! What a watcher sees.

use super::*;
use crate::host_id;

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
        let snapshot = crate::Snapshot::new(1, peer.scanner.instances());
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
    assert!(error.is_missing(), "{error}");
    peer.watch_for(3600);
    assert_eq!(peer.ids(), [1, 2], "an outage takes nobody's time");

    // One owner is back before the other, who must not be taken for gone.
    peer.directory.create().unwrap();
    peer.put(1);
    assert_eq!(peer.scan(), [1, 2]);
    peer.watch_for(9);
    assert_eq!(peer.ids(), [1, 2]);
    peer.set_time(1, SystemTime::now());
    peer.watch_for(1);
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
