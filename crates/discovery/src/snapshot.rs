//! Snapshots of all instances, and the changes between two of them.

use std::{collections::BTreeMap, sync::Arc};

use sinew_plane::{EndpointName, InstanceId};

use crate::{Instance, InstanceKey};

/// All instances at one revision. Clones share the content.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    revision: u64,
    instances: Arc<BTreeMap<InstanceKey, Arc<Instance>>>,
}

impl Snapshot {
    /// Makes a snapshot of the given instances. Of two with the same key the later one is used.
    pub fn new(revision: u64, instances: impl IntoIterator<Item = Arc<Instance>>) -> Self {
        let instances = instances.into_iter().map(|one| (one.key(), one)).collect();
        Self { revision, instances: Arc::new(instances) }
    }

    /// A number that grows with every change of the source, and starts again if the source does.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// All instances, by endpoint and then by id, including those that this process cannot
    /// [reach](Instance::is_reachable).
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values()
    }

    /// The instances of one endpoint, by id, including those that this process cannot reach.
    pub fn of(&self, endpoint: &EndpointName) -> impl Iterator<Item = &Arc<Instance>> {
        let first = InstanceKey { endpoint: endpoint.clone(), id: InstanceId(0) };
        let last = InstanceKey { endpoint: endpoint.clone(), id: InstanceId(u64::MAX) };
        self.instances.range(first..=last).map(|(_, instance)| instance)
    }

    /// One instance.
    pub fn get(&self, key: &InstanceKey) -> Option<&Arc<Instance>> {
        self.instances.get(key)
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// The changes from this snapshot to `next`, by content and incarnation and not by key alone.
    /// Removals come first, so that a reader frees what it holds before it adds more.
    pub fn changes_to(&self, next: &Self) -> Vec<Change> {
        let gone = self.instances.iter().filter(|(key, _)| !next.instances.contains_key(*key));
        let mut changes: Vec<_> = gone.map(|(_, old)| Change::Removed(Arc::clone(old))).collect();
        for (key, new) in next.instances.iter() {
            match self.instances.get(key) {
                None => changes.push(Change::Added(Arc::clone(new))),
                // Most are the very same.
                Some(old) if !Arc::ptr_eq(old, new) && old != new => {
                    changes.push(Change::Changed { old: Arc::clone(old), new: Arc::clone(new) })
                }
                Some(_) => {}
            }
        }
        changes
    }
}

/// One difference between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An instance was added.
    Added(Arc<Instance>),
    /// An instance has other content or another incarnation under the same key.
    Changed {
        /// The instance in the old snapshot.
        old: Arc<Instance>,
        /// The instance in the new snapshot.
        new: Arc<Instance>,
    },
    /// An instance was removed.
    Removed(Arc<Instance>),
}

#[cfg(test)]
mod tests {
    use sinew_plane::Incarnation;

    use super::*;

    fn instance(name: &str, id: u64) -> Instance {
        let mut one = Instance::new(name.parse().unwrap(), InstanceId(id), Vec::new());
        one.incarnation = Incarnation(1);
        one
    }

    fn snapshot(instances: impl IntoIterator<Item = Instance>) -> Snapshot {
        Snapshot::new(1, instances.into_iter().map(Arc::new))
    }

    #[test]
    fn an_endpoint_sees_its_own_instances_only() {
        let all =
            snapshot([instance("a/b/c", 2), instance("a/b/c", u64::MAX), instance("a/b/cc", 1)]);
        let ids: Vec<_> = all.of(&"a/b/c".parse().unwrap()).map(|one| one.id.0).collect();
        assert_eq!(ids, [2, u64::MAX]);
    }

    #[test]
    fn a_new_incarnation_under_an_old_key_is_a_change() {
        let before = snapshot([instance("a/b/c", 1), instance("a/b/c", 2)]);
        let mut reborn = instance("a/b/c", 2);
        reborn.incarnation = Incarnation(7);
        let after = snapshot([reborn, instance("a/b/c", 3)]);
        let changes = before.changes_to(&after);
        assert!(matches!(&changes[0], Change::Removed(one) if one.id.0 == 1));
        assert!(matches!(&changes[1], Change::Changed { new, .. } if new.incarnation.0 == 7));
        assert!(matches!(&changes[2], Change::Added(one) if one.id.0 == 3));
        assert_eq!(changes.len(), 3);
        assert!(after.changes_to(&after).is_empty());
    }
}
