//! The table of the instances that this process serves.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sinew_plane::InstanceId;

use crate::instance::Instance;

/// Instances by the name of the endpoint, and by the subject if there is one.
type Entries = HashMap<Arc<str>, Vec<Arc<Instance>>>;

/// Number of parts of the table. A change copies one part, so a process that serves thousands of
/// instances copies some dozens of entries for each change.
const PARTS: usize = 64;

/// Instances by the name that requests call. Every request reads it without waiting. It is written
/// when an instance is added or removed.
pub(crate) struct Table {
    /// The parts, chosen by the end of the key, where names differ most.
    parts: [ArcSwap<Entries>; PARTS],
    writing: Mutex<()>,
    /// Every instance that exists, also one that a later one has replaced, because it may still
    /// have requests in flight.
    living: Mutex<Vec<Weak<Instance>>>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| ArcSwap::default()),
            writing: Mutex::default(),
            living: Mutex::default(),
        }
    }
}

impl Table {
    /// Adds an instance. Of two with the same name and id, lookups find the later one, and the
    /// earlier one when the later one is removed.
    pub(crate) fn insert(&self, instance: &Arc<Instance>) {
        self.add(instance, |of_key| of_key.push(Arc::clone(instance)));
    }

    /// Adds an instance. Lookups find it only if there is no other one with its name and id.
    pub(crate) fn insert_beneath(&self, instance: &Arc<Instance>) {
        self.add(instance, |of_key| of_key.insert(0, Arc::clone(instance)));
    }

    /// From now on lookups find this one, of those with its name and id.
    pub(crate) fn take_over(&self, instance: &Arc<Instance>) {
        for key in instance.keys() {
            self.change(&key, |entries| {
                let of_key = entries.get_mut(&key);
                let place = of_key.as_ref().and_then(|all| place_of(all, instance));
                if let (Some(of_key), Some(place)) = (of_key, place) {
                    of_key[place..].rotate_left(1);
                }
            });
        }
    }

    fn add(&self, instance: &Arc<Instance>, add: impl Fn(&mut Vec<Arc<Instance>>)) {
        {
            let mut living = self.living.lock();
            // Swept when it is full, so that the next one costs no more than the last.
            if living.len() == living.capacity() {
                living.retain(|other| other.strong_count() > 0);
            }
            living.push(Arc::downgrade(instance));
        }
        for key in instance.keys() {
            self.change(&Arc::clone(&key), |entries| {
                add(entries.entry(key).or_default());
            });
        }
    }

    /// Removes this instance, and not a later one with the same name and id.
    pub(crate) fn remove(&self, instance: &Arc<Instance>) {
        for key in instance.keys() {
            self.change(&key, |entries| {
                if let Some(of_key) = entries.get_mut(&key) {
                    of_key.retain(|other| !Arc::ptr_eq(other, instance));
                    if of_key.is_empty() {
                        entries.remove(&key);
                    }
                }
            });
        }
    }

    /// Finds the instance that a request names. Id 0 means any: the one with the fewest requests in
    /// flight of those that do not drain.
    pub(crate) fn find(&self, endpoint: &str, id: InstanceId) -> Option<Arc<Instance>> {
        let entries = self.part(endpoint).load();
        let of_key = entries.get(endpoint)?;
        let load = |instance: &Arc<Instance>| {
            (instance.in_flight.is_draining(), instance.in_flight.count())
        };
        if id != InstanceId(0) {
            return of_key.iter().rfind(|instance| instance.id == id).cloned();
        }
        // Of those with one id only the last gets requests. The few that are the best so far are
        // looked at, as there may be thousands.
        let is_last = |place: usize, id| !of_key[place + 1..].iter().any(|later| later.id == id);
        let mut best = None;
        for (place, instance) in of_key.iter().enumerate() {
            let load = load(instance);
            let is_better = best.is_none_or(|(least, _)| load < least);
            if is_better && is_last(place, instance.id) {
                best = Some((load, instance));
            }
        }
        best.map(|(_, instance)| Arc::clone(instance))
    }

    /// Every instance that exists.
    pub(crate) fn all(&self) -> Vec<Arc<Instance>> {
        self.living.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn part(&self, key: &str) -> &ArcSwap<Entries> {
        let last = key.as_bytes().last_chunk::<2>().map_or(0, |last| {
            // Digits and letters differ in their low bits.
            usize::from(last[0]) * 31 + usize::from(last[1])
        });
        &self.parts[last % PARTS]
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Entries)) {
        let writing = self.writing.lock();
        let part = self.part(key);
        let mut entries = Entries::clone(&part.load());
        change(&mut entries);
        let before = part.swap(Arc::new(entries));
        // Unlocked before old handlers go: one of them may own an endpoint of this table.
        drop(writing);
        drop(before);
    }
}

fn place_of(of_key: &[Arc<Instance>], instance: &Arc<Instance>) -> Option<usize> {
    of_key.iter().position(|other| Arc::ptr_eq(other, instance))
}
