//! Discovery of instances within one process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sinew_plane::{BoxFuture, EndpointName, Incarnation};
use tokio::sync::watch;

use crate::{
    Discovery, DiscoveryError, Instance, InstanceKey, MAX_INSTANCES, PlanePolicy, PolicyView,
    Registration, Snapshot, View, Withdraw, policy_board::PolicyBoard,
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
    policies: Arc<Policies>,
}

/// The policies, and those who watch them.
#[derive(Debug, Default)]
struct Policies {
    stored: Mutex<BTreeMap<EndpointName, PlanePolicy>>,
    board: PolicyBoard,
}

impl Policies {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointName, PlanePolicy>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, policy: PlanePolicy) -> Result<PlanePolicy, DiscoveryError> {
        policy.check()?;
        let mut stored = self.lock();
        let former = stored.get(&policy.endpoint).map(|former| former.version);
        if former.is_none() && stored.len() >= MAX_INSTANCES {
            return Err(full(format!("it holds {MAX_INSTANCES} policies and takes no more")));
        }
        let policy = policy.replacing(former);
        stored.insert(policy.endpoint.clone(), policy.clone());
        self.board.show(&policy.endpoint, Some(policy.clone()));
        Ok(policy)
    }

    fn remove(&self, endpoint: &EndpointName) -> bool {
        let mut stored = self.lock();
        self.board.show(endpoint, None);
        stored.remove(endpoint).is_some()
    }

    fn watch(&self, endpoint: &EndpointName) -> PolicyView {
        let stored = self.lock();
        self.board.forget_all_unwatched();
        let (view, _) = self.board.view(endpoint);
        self.board.show(endpoint, stored.get(endpoint).cloned());
        view
    }
}

impl MemoryDiscovery {
    /// Makes a discovery without instances.
    pub fn new() -> Self {
        let published = Arc::new(watch::Sender::new(Snapshot::default()));
        Self { published, policies: Arc::default() }
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
        None if snapshot.len() >= MAX_INSTANCES => {
            Err(full(format!("it holds {MAX_INSTANCES} instances and takes no more")))
        }
        _ => Ok(()),
    }
}

fn full(what: String) -> DiscoveryError {
    DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
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

    fn put_policy(
        &self,
        policy: PlanePolicy,
    ) -> BoxFuture<'_, Result<PlanePolicy, DiscoveryError>> {
        Box::pin(std::future::ready(self.policies.put(policy)))
    }

    fn remove_policy(
        &self,
        endpoint: &EndpointName,
    ) -> BoxFuture<'_, Result<bool, DiscoveryError>> {
        Box::pin(std::future::ready(Ok(self.policies.remove(endpoint))))
    }

    fn watch_policy(&self, endpoint: &EndpointName) -> Result<Option<PolicyView>, DiscoveryError> {
        Ok(Some(self.policies.watch(endpoint)))
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
    use sinew_plane::{InstanceId, ProcessId, TransportId};

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

    #[tokio::test]
    async fn a_policy_is_seen_by_those_who_watch_before_and_after_until_it_is_removed() {
        let discovery = MemoryDiscovery::new();
        let endpoint: EndpointName = "a/b/c".parse().unwrap();
        let mut before = discovery.watch_policy(&endpoint).unwrap().unwrap();
        let policy = PlanePolicy::new(endpoint.clone(), TransportId::from_static("tcp"));
        let stored = discovery.clone().put_policy(policy.clone()).await.unwrap();
        before.changed().await.unwrap();
        assert_eq!(before.borrow_and_update().as_deref(), Some(&stored));
        let after = discovery.watch_policy(&endpoint).unwrap().unwrap();
        assert_eq!(after.borrow().as_deref(), Some(&stored));
        let newer = discovery.put_policy(policy.clone().percent(5)).await.unwrap();
        assert!(newer.version > stored.version);
        assert!(discovery.put_policy(policy.percent(0)).await.is_err());
        assert_eq!(after.borrow().as_deref(), Some(&newer));
        let other = discovery.watch_policy(&"a/b/d".parse().unwrap()).unwrap().unwrap();
        assert_eq!(other.borrow().as_deref(), None);
        assert!(discovery.remove_policy(&endpoint).await.unwrap());
        assert_eq!(before.borrow().as_deref(), None);
        assert!(!discovery.remove_policy(&endpoint).await.unwrap());
    }
}
