//! Discovery of instances within one process.

use std::sync::Arc;

use sinew_plane::{BoxFuture, Incarnation};
use tokio::sync::watch;

use crate::{
    Discovery, DiscoveryError, Instance, InstanceKey, MAX_INSTANCES, Registration, Snapshot, View,
    Withdraw,
};

const BACKEND: &str = "memory";

/// Discovery within one process: tests, examples, and programs that hold both ends. Clones share
/// their content, which lasts as long as a clone or a registration.
///
/// A second registration with the same key replaces the first, unless both name a
/// [`process`](Instance::process) and these differ; then it fails as taken.
#[derive(Debug, Clone)]
pub struct MemoryDiscovery {
    published: Arc<watch::Sender<Snapshot>>,
}

impl MemoryDiscovery {
    /// Makes a discovery without instances.
    pub fn new() -> Self {
        Self { published: Arc::new(watch::Sender::new(Snapshot::default())) }
    }

    fn add(&self, instance: Instance) -> Result<Registration, DiscoveryError> {
        let instance = Arc::new(instance);
        let mut checked = Ok(());
        self.published.send_if_modified(|snapshot| {
            checked = check(snapshot, &instance);
            if checked.is_ok() {
                let all = snapshot.iter().chain([&instance]).cloned();
                *snapshot = Snapshot::new(snapshot.revision() + 1, all);
            }
            checked.is_ok()
        });
        checked?;
        let published = Arc::clone(&self.published);
        let entry = Entry { published, key: instance.key(), incarnation: instance.incarnation };
        Ok(Registration::new(&instance, Box::new(entry)))
    }
}

fn check(snapshot: &Snapshot, new: &Instance) -> Result<(), DiscoveryError> {
    let key = new.key();
    match snapshot.get(&key) {
        Some(old) if old.process.zip(new.process).is_some_and(|(old, new)| old != new) => {
            Err(DiscoveryError::Taken { key })
        }
        None if snapshot.len() >= MAX_INSTANCES => Err(DiscoveryError::Unavailable {
            backend: BACKEND,
            what: format!("it holds {MAX_INSTANCES} instances and takes no more"),
            source: None,
        }),
        _ => Ok(()),
    }
}

impl Default for MemoryDiscovery {
    fn default() -> Self {
        Self::new()
    }
}

impl Discovery for MemoryDiscovery {
    fn name(&self) -> &'static str {
        BACKEND
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(async move { self.add(instance) })
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(async move { Ok(View::new(self.published.subscribe())) })
    }
}

/// What a registration takes back.
struct Entry {
    published: Arc<watch::Sender<Snapshot>>,
    key: InstanceKey,
    incarnation: Incarnation,
}

impl Entry {
    fn remove(&self) {
        self.published.send_if_modified(|snapshot| {
            // A later registration may stand under the key by now; it is not ours to remove.
            let is_ours = |one: &Arc<Instance>| one.incarnation == self.incarnation;
            if !snapshot.get(&self.key).is_some_and(is_ours) {
                return false;
            }
            let rest = snapshot.iter().filter(|one| one.key() != self.key).cloned();
            *snapshot = Snapshot::new(snapshot.revision() + 1, rest);
            true
        });
    }
}

impl Withdraw for Entry {
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, Result<(), DiscoveryError>> {
        self.remove();
        Box::pin(async { Ok(()) })
    }

    fn abandon(self: Box<Self>) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::{InstanceId, ProcessId};

    use super::*;
    use crate::Change;

    fn instance(id: u64) -> Instance {
        Instance::new("a/b/c".parse().unwrap(), InstanceId(id), Vec::new())
    }

    #[tokio::test]
    async fn a_view_follows_registrations_and_both_ways_of_ending_them() {
        let discovery = MemoryDiscovery::new();
        let mut view = discovery.clone().watch().await.unwrap();
        let first = discovery.register(instance(1)).await.unwrap();
        assert!(matches!(&view.changed().await.unwrap()[..], [Change::Added(_)]));
        let second = discovery.register(instance(2)).await.unwrap();
        first.withdraw().await.unwrap();
        assert_eq!(view.snapshot().len(), 1);
        drop(second);
        assert!(view.snapshot().is_empty());
        drop(discovery);
        while let Some(changes) = view.changed().await {
            assert!(!changes.is_empty());
        }
    }

    #[tokio::test]
    async fn a_replaced_registration_does_not_take_its_successor_down() {
        let discovery = MemoryDiscovery::new();
        let old = discovery.register(instance(1)).await.unwrap();
        let new = discovery.register(instance(1)).await.unwrap();
        drop(old);
        let snapshot = discovery.watch().await.unwrap().snapshot();
        assert_eq!(snapshot.iter().next().unwrap().incarnation, new.incarnation());
    }

    #[tokio::test]
    async fn another_process_under_the_same_key_is_refused() {
        let discovery = MemoryDiscovery::new();
        let of = |process| Instance { process: Some(ProcessId(process)), ..instance(1) };
        let _held = discovery.register(of(7)).await.unwrap();
        let error = discovery.register(of(8)).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Taken { .. }), "{error}");
        assert!(discovery.register(of(7)).await.is_ok());
    }
}
