//! The rules of a range, without etcd.

use std::time::Duration;

use tokio::time::Instant;

use super::range::{Item, List, Range};
use crate::record::{self, Record};

const GUARD: Duration = Duration::from_secs(30);

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
    Item { key: name(id), value, modified }
}

fn rubbish(id: u64, modified: i64) -> Item {
    Item { key: name(id), value: b"{".to_vec(), modified }
}

fn list(revision: i64, items: impl Into<Vec<Item>>) -> List {
    List { cluster: 7, revision, items: items.into() }
}

fn listed(revision: i64, items: impl Into<Vec<Item>>) -> Range {
    let mut range = Range::default();
    range.list(list(revision, items), false, Instant::now(), GUARD);
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
    range.list(list(12, [item(2, 1, 9)]), false, Instant::now(), GUARD);
    assert_eq!(shown(&range), [(2, 1)]);
    assert!(range.missing_in(&list(13, [item(2, 1, 9)])).is_none());
}

#[test]
fn unchanged_entries_keep_their_allocation() {
    let mut range = listed(10, [item(1, 1, 4)]);
    let before = range.instances();
    range.list(list(12, [item(1, 1, 4)]), false, Instant::now(), GUARD);
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
    check_reset(|range, now| range.list(list(19, [item(2, 6, 9)]), false, now, GUARD));
}

#[test]
fn another_cluster_is_a_reset() {
    let other = List { cluster: 8, ..list(90, [item(2, 6, 12)]) };
    check_reset(|range, now| range.list(other, false, now, GUARD));
}

#[test]
fn an_entry_that_is_older_than_it_was_is_a_reset() {
    check_reset(|range, now| range.list(list(90, [item(2, 6, 8)]), false, now, GUARD));
}

#[test]
fn a_history_without_what_was_seen_is_a_reset() {
    check_reset(|range, now| range.list(list(90, [item(2, 6, 12)]), true, now, GUARD));
}

#[test]
fn a_second_reset_prolongs_the_guard_of_all() {
    let now = Instant::now();
    let mut range = listed(10, [item(1, 1, 4)]);
    range.list(list(2, [item(2, 1, 2)]), false, now, GUARD);
    range.list(list(1, []), false, now + GUARD / 2, GUARD);
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
    range.list(list(12, [rubbish(1, 11), item(2, 3, 12)]), false, Instant::now(), GUARD);
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
