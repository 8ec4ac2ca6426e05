//! Entries that were removed from etcd and are still shown, because it is not known yet why they
//! were removed, or because their owners may register again.
//!
//! Contains rules only: it does not access etcd or a clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use sinew_plane::{EndpointName, ProcessId};
use tokio::time::Instant;

use crate::{Instance, InstanceKey, MAX_INSTANCES};

/// How long what has left is still shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct RemovalDelay {
    /// When its lease has ended.
    pub(super) expiry: Duration,
    /// When etcd has lost its data, or did not answer a short while ago.
    pub(super) reset: Duration,
}

/// Processes that have registered under ids that were not known, and the leases of these.
pub(super) type AddedEntries = HashMap<(EndpointName, ProcessId), i64>;

/// At most [`MAX_INSTANCES`]; what leaves beyond that is not shown any more.
#[derive(Default)]
pub(super) struct RemovedEntries(BTreeMap<InstanceKey, RemovedEntry>);

struct RemovedEntry {
    instance: Arc<Instance>,
    lease: i64,
    /// `None` as long as it is not known why it left.
    until: Option<Instant>,
}

impl RemovedEntries {
    /// Takes what has left for a reason that its lease will tell. What stood under none was taken
    /// away by somebody, and is not kept.
    pub(super) fn mark_uncertain(&mut self, key: InstanceKey, instance: Arc<Instance>, lease: i64) {
        if lease != 0 {
            self.add(key, RemovedEntry { instance, lease, until: None });
        }
    }

    /// Takes what is to be shown until then, whatever the reason.
    pub(super) fn hold(
        &mut self,
        key: InstanceKey,
        instance: Arc<Instance>,
        lease: i64,
        until: Instant,
    ) {
        self.add(key, RemovedEntry { instance, lease, until: Some(until) });
    }

    fn add(&mut self, key: InstanceKey, entry: RemovedEntry) {
        if self.0.len() < MAX_INSTANCES {
            self.0.insert(key, entry);
        }
    }

    /// Shows everything that it has until then at least.
    pub(super) fn extend(&mut self, until: Instant) {
        for entry in self.0.values_mut() {
            entry.until = entry.until.max(Some(until));
        }
    }

    /// Forgets what is back under its key, or was taken away for good. False when it was not here.
    pub(super) fn remove(&mut self, key: &InstanceKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// Forgets what is back under another id: the same process, with another lease.
    pub(super) fn replace(&mut self, added: &AddedEntries) {
        if added.is_empty() {
            return;
        }
        self.0.retain(|key, entry| {
            let name = entry.instance.process.map(|process| (key.endpoint.clone(), process));
            let lease = name.and_then(|name| added.get(&name));
            lease.is_none_or(|lease| *lease == entry.lease)
        });
    }

    /// The leases that are to be asked for.
    pub(super) fn doubted(&self) -> BTreeSet<i64> {
        let is_open = |entry: &&RemovedEntry| entry.until.is_none();
        self.0.values().filter(is_open).map(|entry| entry.lease).collect()
    }

    /// Decides on everything in doubt. `lives` tells of each lease whether it does; what is not in
    /// there could not be asked, and may have ended. After an outage a lease most often ended with
    /// it, and not with its owner.
    pub(super) fn settle(
        &mut self,
        lives: &BTreeMap<i64, bool>,
        had_outage: bool,
        now: Instant,
        delay: RemovalDelay,
    ) {
        self.0.retain(|_, entry| {
            if entry.until.is_some() {
                return true;
            }
            let wait = match (lives.get(&entry.lease), had_outage) {
                (Some(true), _) => return false,
                (Some(false) | None, false) => delay.expiry,
                (Some(false) | None, true) => delay.reset.max(delay.expiry),
            };
            entry.until = Some(now + wait);
            true
        });
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.0.values().filter_map(|entry| entry.until).min()
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, entry| entry.until.is_none_or(|until| until > now));
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.0.values().map(|entry| &entry.instance)
    }
}
