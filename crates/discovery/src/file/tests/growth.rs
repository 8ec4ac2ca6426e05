//! What is asked of the file system, counted.

use sinew_plane::ProcessId;

use super::*;
use crate::host_id;

const MANY: u64 = 2_000;

/// Calls since the last time.
fn calls(peer: &Peer) -> [u64; 4] {
    let calls = &peer.directory.calls;
    [&calls.listings, &calls.stamps, &calls.reads, &calls.touches].map(|count| count.replace(0))
}

fn look(peer: &mut Peer, after: Duration) {
    peer.now += after;
    peer.scanner.look(&peer.directory, peer.now).unwrap();
}

#[test]
fn announcing_costs_the_same_for_each() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let mut holds = Vec::new();
    for id in 0..MANY {
        holds.push(peer.register(instance(id)).try_recv().unwrap().unwrap());
    }
    let [listings, stamps, reads, touches] = calls(&peer);
    assert_eq!((listings, touches), (0, 0));
    assert!(stamps <= MANY && reads <= MANY, "{stamps} stamps, {reads} reads");
}

#[test]
fn keeping_costs_one_batch_of_touches_per_heartbeat_and_nothing_between() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let holds: Vec<_> =
        (0..MANY).map(|id| peer.register(instance(id)).try_recv().unwrap().unwrap()).collect();
    peer.reconcile();
    peer.wait(1);
    peer.reconcile();
    calls(&peer);
    for _ in 0..10 {
        peer.now += Duration::from_millis(100);
        peer.reconcile();
    }
    assert_eq!(calls(&peer), [0, 0, 0, 0], "nothing is due");
    peer.wait(HEARTBEAT.as_secs());
    peer.reconcile();
    let [listings, stamps, reads, touches] = calls(&peer);
    assert_eq!((listings, reads, touches), (0, 0, MANY));
    assert_eq!(stamps, 2 * MANY, "before each touch, and after it");
    drop(holds);
}

#[test]
fn watching_many_reads_each_once_and_then_only_what_changes() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let many = MAX_INSTANCES as u64;
    for id in 0..many - 1 {
        peer.put(id);
    }
    look(&mut peer, Duration::ZERO);
    assert_eq!(calls(&peer), [1, many - 1, many - 1, 0]);
    assert!(peer.scanner.take_changed());
    // What may be hidden by coarse times.
    look(&mut peer, Duration::from_millis(100));
    look(&mut peer, Duration::from_millis(100));
    assert_eq!(calls(&peer)[2], 0, "nothing is read again");
    for _ in 0..20 {
        look(&mut peer, Duration::from_millis(100));
    }
    assert_eq!(calls(&peer), [0, 0, 0, 0]);
    assert!(!peer.scanner.take_changed(), "nothing to publish");
    look(&mut peer, TTL / 4);
    assert_eq!(calls(&peer), [0, many - 1, 0, 0], "for touches, four times per TTL");
    assert!(!peer.scanner.take_changed());
    peer.put(many);
    look(&mut peer, Duration::from_millis(200));
    assert_eq!(calls(&peer), [1, many, 1, 0], "the new one is read, alone");
    assert!(peer.scanner.take_changed());
}

#[test]
fn what_runs_on_this_host_is_looked_at_twice_per_ttl_and_listed_once() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = Peer::at(&root);
    for id in 0..MANY {
        let process = Some(ProcessId(std::process::id().into()));
        let instance = Instance { host: host_id(), process, ..instance(id) };
        let owner = crate::process::owner_of(&instance);
        let record = Record { instance, owner };
        fs::write(watcher.path_of(id), record::encode(&record).unwrap()).unwrap();
    }
    watcher.put(MANY);
    // Until the times of the directory can be trusted, and the owner was seen to run.
    for _ in 0..3 {
        look(&mut watcher, Duration::from_millis(200));
    }
    calls(&watcher);
    let (mut listings, mut stamps) = (0, 0);
    for _ in 0..4 {
        look(&mut watcher, TTL / 4);
        let [listed, stamped, reads, touches] = calls(&watcher);
        (listings, stamps) = (listings + listed, stamps + stamped);
        assert_eq!((reads, touches), (0, 0));
    }
    assert_eq!((listings, stamps), (1, 2 * MANY + 4), "and four times what has no owner");
}

#[test]
fn heartbeats_of_others_are_seen_without_reading_their_records() {
    let root = tempfile::tempdir().unwrap();
    let (mut owner, mut watcher) = (Peer::at(&root), Peer::at(&root));
    let holds: Vec<_> =
        (0..MANY).map(|id| owner.register(instance(id)).try_recv().unwrap().unwrap()).collect();
    watcher.scan();
    calls(&watcher);
    for _ in 0..4 {
        owner.wait(HEARTBEAT.as_secs() + 1);
        owner.reconcile();
        watcher.wait(HEARTBEAT.as_secs() + 1);
        assert_eq!(watcher.scan().len() as u64, MANY, "alive");
    }
    assert_eq!(calls(&watcher), [4, 4 * MANY, 0, 0]);
    // What is written in place is read.
    fs::write(watcher.path_of(1), bytes_of(&Instance { weight: 7, ..instance(1) })).unwrap();
    watcher.scan();
    assert_eq!(calls(&watcher), [1, MANY, 1, 0]);
    drop(holds);
}

#[test]
fn withdrawing_many_costs_the_same_for_each() {
    let root = tempfile::tempdir().unwrap();
    let mut peer = Peer::at(&root);
    let holds: Vec<_> =
        (0..MANY).map(|id| peer.register(instance(id)).try_recv().unwrap().unwrap()).collect();
    calls(&peer);
    for hold in &holds {
        peer.claims.withdraw(hold.token, &peer.directory).unwrap().unwrap();
    }
    let [listings, stamps, reads, touches] = calls(&peer);
    assert_eq!((listings, stamps, reads, touches), (0, 0, MANY, 0));
    assert!(peer.claims.is_empty());
}
