//! The rules of a range, without etcd.

use std::{collections::BTreeMap, time::Duration};

use sinew_plane::ProcessId;
use tokio::time::Instant;

use super::{
    range::{Item, List, Range},
    removed_entries::RemovalDelay,
};
use crate::record::{self, Record};

const GUARD: Duration = Duration::from_secs(30);
const EXPIRY: Duration = Duration::from_secs(1);
const GRACE: RemovalDelay = RemovalDelay { expiry: EXPIRY, reset: GUARD };

/// A lease, and whether it lives.
const LIVES: (i64, bool) = (70, true);
const ENDED: (i64, bool) = (71, false);

fn instance(id: u64, weight: u32) -> crate::Instance {
    let here = vec!["tcp://10.0.0.7:9001".parse().unwrap()];
    let mut one = crate::Instance::new("a/b/c".parse().unwrap(), sinew_plane::InstanceId(id), here);
    one.incarnation = sinew_plane::Incarnation(id);
    one.weight = weight;
    one
}

fn name(id: u64) -> Vec<u8> {
    format!("v1/instances/a/b/c/{id:x}").into_bytes()
}

fn item(id: u64, weight: u32, modified: i64) -> Item {
    let value = record::encode(&Record { instance: instance(id, weight), owner: None }).unwrap();
    Item { key: name(id), value, modified, lease: 0 }
}

fn under((lease, _): (i64, bool), item: Item) -> Item {
    Item { lease, ..item }
}

/// As a process writes it.
fn of_process(process: u64, id: u64, modified: i64) -> Item {
    let instance = crate::Instance { process: Some(ProcessId(process)), ..instance(id, 1) };
    let value = record::encode(&Record { instance, owner: None }).unwrap();
    Item { key: name(id), value, modified, lease: 0 }
}

fn rubbish(id: u64, modified: i64) -> Item {
    Item { key: name(id), value: b"{".to_vec(), modified, lease: 0 }
}

fn list(revision: i64, items: impl Into<Vec<Item>>) -> List {
    List { cluster: 7, revision, items: items.into() }
}

fn listed(revision: i64, items: impl Into<Vec<Item>>) -> Range {
    let mut range = Range::default();
    range.list(list(revision, items), false, Instant::now(), GRACE);
    range
}

/// Ids and weights.
fn shown(range: &Range) -> Vec<(u64, u32)> {
    let mut all: Vec<_> = range.instances().iter().map(|one| (one.id.0, one.weight)).collect();
    all.sort_unstable();
    all
}

#[test]
fn events_count_from_the_lists_revision_on() {
    let mut range = listed(10, [item(1, 1, 4), item(2, 1, 9)]);
    range.put_event(&item(1, 5, 10));
    range.delete_event(&name(2), 10);
    assert_eq!(shown(&range), [(1, 1), (2, 1)], "the list has seen these");
    range.put_event(&item(1, 5, 11));
    range.delete_event(&name(2), 11);
    range.delete_event(&name(9), 12);
    range.delete_event(b"v1/elsewhere", 13);
    assert_eq!(shown(&range), [(1, 5)]);
}

#[test]
fn nothing_is_taken_before_the_first_list() {
    let mut range = Range::default();
    range.put_event(&item(1, 1, 1));
    assert!(shown(&range).is_empty());
}

#[test]
fn a_later_list_removes_what_is_gone() {
    let mut range = listed(10, [item(1, 1, 4), item(2, 1, 9)]);
    let missing = range.missing_in(&list(12, [item(2, 1, 9)])).unwrap();
    assert_eq!((missing.name, missing.modified, missing.revision), (name(1), 4, 10));
    range.list(list(12, [item(2, 1, 9)]), false, Instant::now(), GRACE);
    assert_eq!(shown(&range), [(2, 1)]);
    assert!(range.missing_in(&list(13, [item(2, 1, 9)])).is_none());
}

#[test]
fn unchanged_entries_keep_their_allocation() {
    let mut range = listed(10, [item(1, 1, 4)]);
    let before = range.instances();
    range.list(list(12, [item(1, 1, 4)]), false, Instant::now(), GRACE);
    assert!(std::sync::Arc::ptr_eq(&before[0], &range.instances()[0]));
}

/// An etcd without its former data, however it shows.
fn check_reset(change: impl FnOnce(&mut Range, Instant)) {
    let now = Instant::now();
    let mut range = listed(10, [item(1, 1, 4), item(2, 1, 9)]);
    range.put_event(&item(3, 1, 20));
    change(&mut range, now);
    assert_eq!(shown(&range), [(1, 1), (2, 6), (3, 1)]);
    assert_eq!(range.expires(), Some(now + GUARD));
    range.delete_event(&name(3), 1000);
    assert_eq!(shown(&range), [(1, 1), (2, 6)], "who says goodbye goes at once");
    range.expire(now + GUARD - Duration::from_millis(1));
    assert_eq!(shown(&range).len(), 2);
    range.expire(now + GUARD);
    assert_eq!(shown(&range), [(2, 6)]);
    assert_eq!(range.expires(), None);
}

#[test]
fn a_revision_that_went_back_is_a_reset_even_behind_an_event() {
    check_reset(|range, now| range.list(list(19, [item(2, 6, 9)]), false, now, GRACE));
}

#[test]
fn another_cluster_is_a_reset() {
    let other = List { cluster: 8, ..list(90, [item(2, 6, 12)]) };
    check_reset(|range, now| range.list(other, false, now, GRACE));
}

#[test]
fn an_entry_that_is_older_than_it_was_is_a_reset() {
    check_reset(|range, now| range.list(list(90, [item(2, 6, 8)]), false, now, GRACE));
}

#[test]
fn a_history_without_what_was_seen_is_a_reset() {
    check_reset(|range, now| range.list(list(90, [item(2, 6, 12)]), true, now, GRACE));
}

#[test]
fn a_second_reset_prolongs_the_guard_of_all() {
    let now = Instant::now();
    let mut range = listed(10, [item(1, 1, 4)]);
    range.list(list(2, [item(2, 1, 2)]), false, now, GRACE);
    range.list(list(1, []), false, now + GUARD / 2, GRACE);
    assert_eq!(shown(&range), [(1, 1), (2, 1)]);
    range.expire(now + GUARD);
    assert_eq!(shown(&range).len(), 2);
    range.expire(now + GUARD + GUARD / 2);
    assert!(shown(&range).is_empty());
}

#[test]
fn rubbish_is_passed_over_and_does_not_replace_what_was_good() {
    let mut range = listed(10, [item(1, 1, 4), rubbish(2, 5)]);
    assert_eq!(shown(&range), [(1, 1)]);
    range.put_event(&rubbish(1, 11));
    assert_eq!(shown(&range), [(1, 1)]);
    range.list(list(12, [rubbish(1, 11), item(2, 3, 12)]), false, Instant::now(), GRACE);
    assert_eq!(shown(&range), [(1, 1), (2, 3)]);
    range.delete_event(&name(1), 13);
    assert_eq!(shown(&range), [(2, 3)]);
}

#[test]
fn more_than_can_be_kept_is_not_kept() {
    let most = crate::MAX_INSTANCES as u64;
    let items: Vec<_> = (0..most + 5).map(|id| item(id, 1, 1)).collect();
    let mut range = listed(10, items);
    assert_eq!(shown(&range).len() as u64, most);
    range.delete_event(&name(0), 11);
    range.put_event(&item(most, 1, 12));
    assert_eq!(shown(&range).len() as u64, most);
}

/// Settles what has left, with what is known of these leases.
fn settle(range: &mut Range, leases: &[(i64, bool)], had_outage: bool, now: Instant) {
    let lives: BTreeMap<_, _> = leases.iter().copied().collect();
    range.settle(&lives, had_outage, now, GRACE);
}

/// An entry that has left is shown for so long after its lease was asked for; `by_list` when it is
/// a list and no event that tells.
fn check_leaving(lease: (i64, bool), is_known: bool, had_outage: bool, shown_for: Duration) {
    for by_list in [false, true] {
        let case = format!("{lease:?} {is_known} {had_outage} {by_list}");
        let now = Instant::now();
        let mut range = listed(10, [under(lease, item(1, 1, 4)), item(2, 1, 9)]);
        if by_list {
            range.list(list(12, [item(2, 1, 9)]), false, now, GRACE);
        } else {
            range.delete_event(&name(1), 11);
        }
        assert_eq!(shown(&range), [(1, 1), (2, 1)], "not before it is known why: {case}");
        assert_eq!(range.expires(), None, "{case}");
        assert_eq!(range.doubted().into_iter().collect::<Vec<_>>(), [lease.0], "{case}");
        let known = if is_known { &[lease][..] } else { &[] };
        settle(&mut range, known, had_outage, now);
        assert!(range.doubted().is_empty(), "{case}");
        if !shown_for.is_zero() {
            assert_eq!(range.expires(), Some(now + shown_for), "{case}");
            // What is decided stays, whatever comes later.
            settle(&mut range, &[(lease.0, true)], false, now);
            range.expire(now + shown_for - Duration::from_millis(1));
            assert_eq!(shown(&range), [(1, 1), (2, 1)], "{case}");
            range.expire(now + shown_for);
        }
        assert_eq!(shown(&range), [(2, 1)], "{case}");
        assert_eq!(range.expires(), None, "{case}");
    }
}

#[test]
fn what_leaves_while_its_lease_lives_leaves_at_once() {
    check_leaving(LIVES, true, false, Duration::ZERO);
    check_leaving(LIVES, true, true, Duration::ZERO);
}

#[test]
fn what_leaves_with_its_lease_stays_for_a_moment_and_after_an_outage_for_longer() {
    check_leaving(ENDED, true, false, EXPIRY);
    check_leaving(ENDED, true, true, GUARD);
}

#[test]
fn what_leaves_with_a_lease_that_cannot_be_asked_for_stays_as_if_the_lease_had_ended() {
    check_leaving(ENDED, false, false, EXPIRY);
    check_leaving(ENDED, false, true, GUARD);
}

#[test]
fn the_lease_that_counts_is_that_of_the_last_write() {
    let mut range = listed(10, [under(LIVES, item(1, 1, 4)), under(LIVES, item(2, 1, 4))]);
    range.put_event(&under(ENDED, item(1, 1, 11)));
    range.put_event(&under(ENDED, rubbish(2, 12)));
    range.delete_event(&name(1), 13);
    range.delete_event(&name(2), 13);
    assert_eq!(range.doubted().into_iter().collect::<Vec<_>>(), [ENDED.0]);
}

#[test]
fn an_entry_that_is_back_is_held_no_longer() {
    for by_list in [false, true] {
        let now = Instant::now();
        let mut range = listed(10, [under(ENDED, item(1, 1, 4))]);
        range.delete_event(&name(1), 11);
        settle(&mut range, &[ENDED], false, now);
        let back = under(LIVES, item(1, 1, 12));
        if by_list {
            range.list(list(12, [back]), false, now, GRACE);
        } else {
            range.put_event(&back);
        }
        assert_eq!(range.expires(), None);
        range.expire(now + GUARD);
        assert_eq!(shown(&range), [(1, 1)]);
        // It is as any other again.
        range.delete_event(&name(1), 13);
        settle(&mut range, &[LIVES], false, now);
        assert!(shown(&range).is_empty());
    }
}

#[test]
fn a_process_that_is_back_under_another_id_is_shown_once() {
    for by_list in [false, true] {
        let now = Instant::now();
        let old = [of_process(5, 1, 4), of_process(6, 2, 4)].map(|item| under(ENDED, item));
        let mut range = listed(10, old);
        let new = under(LIVES, of_process(5, 3, 12));
        if by_list {
            range.list(list(12, [new]), false, now, GRACE);
        } else {
            range.delete_event(&name(1), 11);
            range.delete_event(&name(2), 11);
            range.put_event(&new);
        }
        settle(&mut range, &[ENDED], false, now);
        assert_eq!(shown(&range), [(2, 1), (3, 1)], "the other process may be back yet");
    }
}

#[test]
fn a_process_that_is_back_with_one_of_its_ids_is_awaited_with_the_other() {
    let now = Instant::now();
    let old = [of_process(5, 1, 4), of_process(5, 2, 4)].map(|item| under(ENDED, item));
    let mut range = listed(10, old);
    range.delete_event(&name(1), 11);
    range.delete_event(&name(2), 11);
    settle(&mut range, &[ENDED], false, now);
    range.put_event(&under(LIVES, of_process(5, 1, 12)));
    assert_eq!(shown(&range), [(1, 1), (2, 1)]);
    range.put_event(&under(ENDED, of_process(5, 3, 13)));
    assert_eq!(shown(&range), [(1, 1), (2, 1), (3, 1)], "the lease that has ended is no news");
}

#[test]
fn a_reset_holds_what_is_in_doubt_too() {
    let now = Instant::now();
    let mut range = listed(10, [under(ENDED, item(1, 1, 4)), under(ENDED, item(2, 1, 4))]);
    range.delete_event(&name(1), 11);
    range.list(list(2, []), false, now, GRACE);
    assert!(range.doubted().is_empty());
    range.expire(now + GUARD - Duration::from_millis(1));
    assert_eq!(shown(&range), [(1, 1), (2, 1)]);
    range.expire(now + GUARD);
    assert!(shown(&range).is_empty());
}

#[test]
fn no_more_are_held_than_can_be_kept() {
    let most = crate::MAX_INSTANCES as u64;
    let now = Instant::now();
    let of = |first: u64, revision| {
        let items: Vec<_> =
            (first..first + most).map(|id| under(ENDED, item(id, 1, revision))).collect();
        list(revision, items)
    };
    let mut range = Range::default();
    for round in 0..3 {
        range.list(of(round * most, 10 + round as i64), false, now, GRACE);
        settle(&mut range, &[ENDED], true, now);
    }
    assert_eq!(shown(&range).len() as u64, 2 * most);
}
