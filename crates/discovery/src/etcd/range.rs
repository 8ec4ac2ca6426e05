//! The entries with one prefix, from lists and events.
//!
//! Contains rules only: it does not access etcd or a clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sinew_plane::{EndpointName, ProcessId};
use tokio::time::Instant;

use super::removed_entries::{AddedEntries, RemovalDelay, RemovedEntries};
use crate::{
    Instance, InstanceKey, MAX_INSTANCES,
    record::{self, RecordError},
};

/// One key and what stands under it.
pub(super) struct Item {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// The revision that wrote it.
    pub(super) modified: i64,
    /// The lease under which it stands; 0 for none.
    pub(super) lease: i64,
}

/// Everything under the prefix at one revision.
pub(super) struct List {
    pub(super) cluster: u64,
    pub(super) revision: i64,
    pub(super) items: Vec<Item>,
}

/// An entry that was there at a revision, in the version of another one.
pub(super) struct Missing {
    pub(super) name: Vec<u8>,
    pub(super) modified: i64,
    pub(super) revision: i64,
}

/// What is known of one prefix.
#[derive(Default)]
pub(super) struct Range {
    /// `None` before the first list.
    at: Option<At>,
    entries: BTreeMap<InstanceKey, Entry>,
    removed: RemovedEntries,
    /// Keys whose values are no records, so that each is reported once.
    bad: BTreeSet<Vec<u8>>,
    is_full: bool,
}

#[derive(Clone, Copy)]
struct At {
    cluster: u64,
    /// Of the last list.
    revision: i64,
    /// The highest of the list and of the events since.
    newest: i64,
}

struct Entry {
    instance: Arc<Instance>,
    modified: i64,
    lease: i64,
}

impl Range {
    /// An entry that is known and not on the list, for asking whether the etcd that wrote the list
    /// remembers it: one that was emptied does not, however far it has come since.
    pub(super) fn missing_in(&self, list: &List) -> Option<Missing> {
        let at = self.at?;
        let listed: BTreeSet<_> = list.items.iter().filter_map(|one| parse_key(&one.key)).collect();
        let (key, entry) = self.entries.iter().find(|(key, _)| !listed.contains(key))?;
        let name = format!("{}/{}", record::BUCKET, record::key(key)).into_bytes();
        let modified = entry.modified;
        Some(Missing { name, modified, revision: at.revision.max(modified) })
    }

    /// Takes a list. What is not on it has left, and waits to be [settled](Self::settle), unless
    /// the list is that of an etcd without its former data (`has_forgotten`, or it can be seen
    /// from the list): then it stays for as long as after a reset.
    pub(super) fn list(
        &mut self,
        list: List,
        has_forgotten: bool,
        now: Instant,
        delay: RemovalDelay,
    ) {
        let List { cluster, revision, items } = list;
        let mut old = std::mem::take(&mut self.entries);
        let mut went_back = false;
        let mut present = BTreeSet::new();
        let mut added = AddedEntries::new();
        for item in items {
            let Some(key) = parse_key(&item.key) else { continue };
            present.insert(key.clone());
            let known = old.remove(&key);
            went_back |= known.as_ref().is_some_and(|known| known.modified > item.modified);
            if let Some(known) = known {
                self.entries.insert(key.clone(), known);
            }
            added.extend(self.put(key, &item));
        }
        self.bad.retain(|bad| parse_key(bad).is_some_and(|key| present.contains(&key)));
        let is_other = has_forgotten
            || self.at.is_some_and(|at| at.cluster != cluster || at.newest > revision);
        self.at = Some(At { cluster, revision, newest: revision });
        if is_other || went_back {
            tracing::warn!(
                missing = old.len(),
                guard = ?delay.reset,
                "etcd has come back without its data: keeping what was there for a while"
            );
            let until = now + delay.reset;
            self.removed.extend(until);
            for (key, entry) in old {
                self.removed.hold(key, entry.instance, entry.lease, until);
            }
        } else {
            for (key, entry) in old {
                self.removed.mark_uncertain(key, entry.instance, entry.lease);
            }
        }
        // After what has left, so that one who has moved is known once, whatever the order.
        self.removed.replace(&added);
    }

    /// Takes the event of a value that was written.
    pub(super) fn put_event(&mut self, item: &Item) {
        if self.is_news(item.modified)
            && let Some(key) = parse_key(&item.key)
        {
            let added = self.put(key, item).into_iter().collect();
            self.removed.replace(&added);
        }
    }

    /// Takes the event of a key that was deleted at a revision. The entry waits to be
    /// [settled](Self::settle).
    pub(super) fn delete_event(&mut self, key: &[u8], revision: i64) {
        if !self.is_news(revision) {
            return;
        }
        self.bad.remove(key);
        if let Some(key) = parse_key(key) {
            match self.entries.remove(&key) {
                Some(entry) => self.removed.mark_uncertain(key, entry.instance, entry.lease),
                None => drop(self.removed.remove(&key)),
            }
        }
    }

    /// The leases to be asked for before [`settle`](Self::settle).
    pub(super) fn doubted(&self) -> BTreeSet<i64> {
        self.removed.doubted()
    }

    /// Decides on what has left, by whether its lease lives, as far as that is known.
    pub(super) fn settle(
        &mut self,
        lives: &BTreeMap<i64, bool>,
        had_outage: bool,
        now: Instant,
        delay: RemovalDelay,
    ) {
        self.removed.settle(lives, had_outage, now, delay);
    }

    /// False for the event of a revision that the list has seen already.
    fn is_news(&mut self, revision: i64) -> bool {
        self.at.as_mut().is_some_and(|at| {
            at.newest = at.newest.max(revision);
            revision > at.revision
        })
    }

    /// Says when it is a process under an id that was not known.
    fn put(&mut self, key: InstanceKey, item: &Item) -> Option<((EndpointName, ProcessId), i64)> {
        let known = self.entries.get_mut(&key);
        match (record::decode(&key, &item.value), known) {
            (Ok(record), Some(known)) => {
                self.bad.remove(&item.key);
                (known.modified, known.lease) = (item.modified, item.lease);
                // Most lists bring what was there before; it keeps the allocation.
                if *known.instance != record.instance {
                    known.instance = Arc::new(record.instance);
                }
            }
            (Ok(record), None) => {
                self.bad.remove(&item.key);
                if self.entries.len() < MAX_INSTANCES {
                    let was_known = self.removed.remove(&key);
                    let name = record.instance.process.map(|one| (key.endpoint.clone(), one));
                    let (instance, lease) = (Arc::new(record.instance), item.lease);
                    self.entries.insert(key, Entry { instance, modified: item.modified, lease });
                    return name.filter(|_| !was_known).map(|name| (name, lease));
                } else if !std::mem::replace(&mut self.is_full, true) {
                    tracing::warn!(limit = MAX_INSTANCES, "too many entries: the rest is not seen");
                }
            }
            // Of a key that held a record before, that one still counts.
            (Err(error), known) => {
                if let Some(known) = known {
                    (known.modified, known.lease) = (item.modified, item.lease);
                }
                self.note_bad(item, &error);
            }
        }
        None
    }

    fn note_bad(&mut self, item: &Item, error: &RecordError) {
        if self.bad.len() < MAX_INSTANCES && self.bad.insert(item.key.clone()) {
            let key = String::from_utf8_lossy(&item.key);
            tracing::warn!(%key, %error, "passed over: not a record");
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.removed.expires()
    }

    /// Believes etcd about those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.removed.expire(now);
    }

    /// What is there, and what is shown for a while longer; of two under one key the later one
    /// counts.
    pub(super) fn instances(&self) -> Vec<Arc<Instance>> {
        let entries = self.entries.values().map(|entry| &entry.instance);
        self.removed.instances().chain(entries).cloned().collect()
    }
}

fn parse_key(key: &[u8]) -> Option<InstanceKey> {
    let text = std::str::from_utf8(key).ok()?.strip_prefix(record::BUCKET)?;
    record::parse_key(text.strip_prefix('/')?)
}
