//! The instances of each provider, and which of several entries with one key is used.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{Instance, InstanceKey, MAX_INSTANCES, Snapshot, View};

/// All providers' entries, and the snapshots made of them.
pub(super) struct SnapshotPublisher {
    state: Mutex<State>,
    published: watch::Sender<Snapshot>,
    /// Told whenever a provider answers for the first time, or differently.
    answers: watch::Sender<()>,
}

struct State {
    providers: Vec<Shown>,
    /// Counts changes, so that the later one can be told.
    clock: u64,
}

struct Shown {
    source: Arc<str>,
    entries: BTreeMap<InstanceKey, Entry>,
    answer: Option<Result<(), String>>,
}

struct Entry {
    instance: Arc<Instance>,
    /// As the provider gave it, for telling quickly that it is still the same.
    given: Arc<Instance>,
    /// When it came to be as it is.
    since: u64,
}

impl SnapshotPublisher {
    pub(super) fn new(sources: impl Iterator<Item = Arc<str>>) -> Self {
        let shown = |source| Shown { source, entries: BTreeMap::new(), answer: None };
        let state = State { providers: sources.map(shown).collect(), clock: 0 };
        Self {
            state: Mutex::new(state),
            published: watch::Sender::default(),
            answers: watch::Sender::default(),
        }
    }

    /// What a provider shows now. Two views of one provider may be told of at once: each is read
    /// under the lock, so the last one is the newest.
    pub(super) fn show(&self, at: usize, view: &View) {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        if let Some(provider) = state.providers.get_mut(at) {
            provider.take(&view.snapshot(), clock);
            provider.answer = Some(Ok(()));
        }
        self.publish(&state);
        drop(state);
        self.answers.send_replace(());
    }

    /// A provider cannot be watched. What it showed before stays.
    pub(super) fn fail(&self, at: usize, why: String) {
        if let Some(provider) = self.lock().providers.get_mut(at)
            && provider.answer != Some(Ok(()))
        {
            provider.answer = Some(Err(format!("{}: {why}", provider.source)));
        }
        self.answers.send_replace(());
    }

    fn publish(&self, state: &State) {
        let mut best: BTreeMap<&InstanceKey, &Entry> = BTreeMap::new();
        for (key, entry) in state.providers.iter().flat_map(|one| &one.entries) {
            let is_full = best.len() >= MAX_INSTANCES;
            match best.get_mut(key) {
                Some(known) if entry.counts_before(known) => *known = entry,
                None if !is_full => drop(best.insert(key, entry)),
                _ => {}
            }
        }
        let instances: Vec<_> = best.values().map(|one| Arc::clone(&one.instance)).collect();
        self.published.send_if_modified(|snapshot| {
            let next = Snapshot::new(snapshot.revision() + 1, instances.iter().cloned());
            let is_changed = !snapshot.changes_to(&next).is_empty();
            // The same from another source wakes nobody, and is shown all the same.
            let revision = snapshot.revision() + u64::from(is_changed);
            *snapshot = Snapshot::new(revision, instances);
            is_changed
        });
    }

    pub(super) async fn all_have_answered(&self) {
        self.wait_until(|answers| answers.iter().all(Option::is_some)).await;
    }

    /// One has something to show, or all have failed.
    pub(super) async fn one_has_answered(&self) {
        self.wait_until(|answers| {
            answers.contains(&Some(Ok(()))) || answers.iter().all(Option::is_some)
        })
        .await;
    }

    async fn wait_until(&self, is_so: impl Fn(&[Option<Result<(), String>>]) -> bool) {
        let mut told = self.answers.subscribe();
        loop {
            let answers: Vec<_> =
                self.lock().providers.iter().map(|one| one.answer.clone()).collect();
            // The sender is ours, so it does not go away.
            if is_so(&answers) || told.changed().await.is_err() {
                return;
            }
        }
    }

    /// A view, if at least one provider has something to show; else why not.
    pub(super) fn view(&self) -> Result<View, String> {
        let state = self.lock();
        if state.providers.iter().any(|one| one.answer == Some(Ok(()))) {
            return Ok(View::new(self.published.subscribe()));
        }
        let failures = state.providers.iter().filter_map(|one| one.answer.clone()?.err());
        Err(failures.collect::<Vec<_>>().join("; "))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn take(&mut self, snapshot: &Snapshot, clock: u64) {
        let mut old = std::mem::take(&mut self.entries);
        for given in snapshot.iter() {
            let key = given.key();
            let known = old
                .remove(&key)
                .filter(|known| Arc::ptr_eq(&known.given, given) || known.given == *given);
            let entry = known.unwrap_or_else(|| {
                let source = Some(Arc::clone(&self.source));
                let instance = Arc::new(Instance { source, ..Instance::clone(given) });
                Entry { instance, given: Arc::clone(given), since: clock }
            });
            self.entries.insert(key, entry);
        }
    }
}

impl Entry {
    /// True when this one, of a later provider, counts more than the other under the same key.
    fn counts_before(&self, other: &Self) -> bool {
        let merit = |one: &Self| (one.instance.is_reachable(), !one.instance.any_id);
        match merit(self).cmp(&merit(other)) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.since > other.since && self.instance != other.instance,
        }
    }
}
