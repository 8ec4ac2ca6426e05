//! Silence of all at once, and of one.

use sinew_plane::ProcessId;

use super::*;
use crate::host_id;

/// A worker on another machine, or in another container of ours.
fn on(host: &str, id: u64) -> Instance {
    Instance { host: Some(host.to_owned()), process: Some(ProcessId(id)), ..instance(id) }
}

fn put(peer: &Peer, instance: &Instance) {
    fs::write(peer.path_of(instance.id.0), bytes_of(instance)).unwrap();
}

/// Both touch their records, as live owners do.
fn beat(peer: &mut Peer, ids: &[u64], seconds: u64) {
    for second in 0..seconds {
        for id in ids {
            let past = Duration::from_secs(1_000_000 - second);
            peer.set_time(*id, SystemTime::now() - past);
        }
        peer.watch_for(1);
    }
}

#[test]
fn when_all_stand_still_at_once_it_is_the_watcher_who_sees_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    put(&peer, &on("aa-1", 1));
    put(&peer, &on("bb-1", 2));
    beat(&mut peer, &[1, 2], 5);
    // One touches later than the other; from then on nobody can.
    beat(&mut peer, &[2], 3);
    peer.watch_for(600);
    assert_eq!(peer.ids(), [1, 2]);
    assert!(peer.scanner.is_stalled());

    // It can be seen again: whoever does not touch from now on is gone.
    beat(&mut peer, &[1], 5);
    assert!(!peer.scanner.is_stalled());
    assert_eq!(peer.ids(), [1, 2], "not judged by what nobody could see");
    beat(&mut peer, &[1], 10);
    assert_eq!(peer.ids(), [1]);
}

#[test]
fn one_that_falls_silent_while_others_move_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    put(&peer, &on("aa-1", 1));
    put(&peer, &on("bb-1", 2));
    beat(&mut peer, &[1, 2], 5);
    beat(&mut peer, &[1], 9);
    assert_eq!(peer.ids(), [1, 2]);
    beat(&mut peer, &[1], 1);
    assert_eq!(peer.ids(), [1]);
    // And the last one as well: there was nobody to compare it with.
    peer.watch_for(9);
    assert_eq!(peer.ids(), [1]);
    peer.watch_for(1);
    assert!(peer.ids().is_empty() && !peer.scanner.is_stalled());
}

#[test]
fn a_machine_that_crashes_with_all_its_workers_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    for id in 1..=3 {
        put(&peer, &on(&format!("aa-{id}"), id));
    }
    beat(&mut peer, &[1, 2, 3], 5);
    peer.watch_for(10);
    assert!(peer.ids().is_empty());
}

#[test]
fn what_crashed_machines_left_behind_is_gone_after_its_time() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let now = SystemTime::now();
    for (id, days) in [(1, 3), (2, 40)] {
        put(&peer, &on(&format!("a{id}-1"), id));
        peer.set_time(id, now - Duration::from_secs(86_400 * days));
    }
    assert_eq!(peer.scan(), [1, 2]);
    peer.watch_for(10);
    assert!(peer.ids().is_empty() && !peer.scanner.is_stalled());
}

#[cfg(target_os = "linux")]
#[test]
fn who_provably_runs_on_this_host_stays_and_its_end_is_still_seen() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let mut child = Program::new("sleep").arg("1000").spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let owner = Some(Owner { pid: child.id(), start: start.parse().unwrap() });
    let here = Instance { host: host_id(), ..instance(1) };
    let bytes = record::encode(&Record { instance: here, owner }).unwrap();
    fs::write(peer.path_of(1), bytes).unwrap();
    put(&peer, &on("aa-1", 2));
    assert_eq!(peer.scan(), [1, 2]);
    beat(&mut peer, &[2], 30);
    assert_eq!(peer.ids(), [1, 2], "it never touched its record, and runs");
    child.kill().unwrap();
    child.wait().unwrap();
    // Also while the directory cannot be read.
    peer.shut(true);
    let error = peer.scanner.look(&peer.directory, peer.now).unwrap_err();
    assert!(error.is_untrusted(), "{error}");
    assert_eq!(peer.ids(), [2]);
}

#[test]
fn a_directory_that_cannot_be_trusted_any_more_is_an_outage() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    peer.put(1);
    peer.scan();
    peer.shut(true);
    peer.put(2);
    peer.watch_for(3600);
    assert_eq!(peer.ids(), [1], "neither lost nor believed");
    peer.shut(false);
    assert_eq!(peer.scan(), [1, 2]);
}
