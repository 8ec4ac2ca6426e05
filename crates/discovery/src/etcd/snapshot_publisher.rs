//! Publishes the entries of all prefixes together as snapshots.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::members::Fault;
use crate::{Instance, Snapshot, View};

/// The ranges by prefix, and the snapshots made of them.
pub(super) struct SnapshotPublisher {
    ranges: Mutex<BTreeMap<String, RangeState>>,
    /// `None` after the shutdown, which ends the views.
    published: Mutex<Option<watch::Sender<Snapshot>>>,
    /// Told whenever a range has its first answer.
    answers: watch::Sender<()>,
}

/// How far a range has come.
#[derive(Clone)]
enum RangeState {
    /// etcd was not asked yet, or has not answered yet.
    Asked,
    /// It could not be asked.
    Failed(Fault),
    /// What it holds.
    Listed(Vec<Arc<Instance>>),
}

impl SnapshotPublisher {
    pub(super) fn new() -> Self {
        Self {
            ranges: Mutex::default(),
            published: Mutex::new(Some(watch::Sender::default())),
            answers: watch::Sender::default(),
        }
    }

    /// A range that is going to be listed.
    pub(super) fn begin(&self, prefix: &str) {
        let mut ranges = self.lock_ranges();
        // After the shutdown nobody would answer.
        if self.lock_published().is_some() {
            ranges.entry(prefix.to_owned()).or_insert(RangeState::Asked);
        }
    }

    /// A range that could not be listed; once it was, that stays.
    pub(super) fn fail(&self, prefix: &str, why: Fault) {
        if let Some(state) = self.lock_ranges().get_mut(prefix)
            && !matches!(state, RangeState::Listed(_))
        {
            *state = RangeState::Failed(why);
        }
        self.answers.send_replace(());
    }

    /// What a range holds now.
    pub(super) fn show(&self, prefix: &str, instances: Vec<Arc<Instance>>) {
        let mut ranges = self.lock_ranges();
        let Some(state) = ranges.get_mut(prefix) else { return };
        *state = RangeState::Listed(instances);
        self.publish(&ranges);
        drop(ranges);
        self.answers.send_replace(());
    }

    /// A range that is not followed any more.
    pub(super) fn remove(&self, prefix: &str) {
        self.retain(|name| name != prefix);
    }

    /// Keeps one range, of which the others are parts.
    pub(super) fn keep_only(&self, prefix: &str) {
        self.retain(|name| name == prefix);
    }

    fn retain(&self, is_kept: impl Fn(&str) -> bool) {
        let mut ranges = self.lock_ranges();
        ranges.retain(|name, _| is_kept(name));
        self.publish(&ranges);
        drop(ranges);
        self.answers.send_replace(());
    }

    fn publish(&self, ranges: &BTreeMap<String, RangeState>) {
        let listed = ranges.values().flat_map(|state| match state {
            RangeState::Listed(instances) => instances.as_slice(),
            _ => &[],
        });
        if let Some(published) = &*self.lock_published() {
            published.send_if_modified(|snapshot| {
                let next = Snapshot::new(snapshot.revision() + 1, listed.cloned());
                let is_changed = !snapshot.changes_to(&next).is_empty();
                if is_changed {
                    *snapshot = next;
                }
                is_changed
            });
        }
    }

    /// Waits until every range that is known now was listed or could not be.
    ///
    /// # Errors
    /// Why the first one could not be, when none could: with something to show, an outage is no
    /// reason to refuse a view.
    pub(super) async fn answered(&self) -> Result<(), Fault> {
        let mut answers = self.answers.subscribe();
        let asked: Vec<_> = self.lock_ranges().keys().cloned().collect();
        loop {
            let (mut is_open, mut is_listed, mut failure) = (false, false, None);
            for state in asked.iter().filter_map(|one| self.lock_ranges().get(one).cloned()) {
                match state {
                    RangeState::Failed(why) => drop(failure.get_or_insert(why)),
                    RangeState::Asked => is_open = true,
                    RangeState::Listed(_) => is_listed = true,
                }
            }
            if !is_open {
                return failure.filter(|_| !is_listed).map_or(Ok(()), Err);
            }
            if answers.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Why a range could not be listed, when one could not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock_ranges().values().find_map(|state| match state {
            RangeState::Failed(why) => Some(why.to_string()),
            _ => None,
        })
    }

    /// A view of everything; `None` after the shutdown.
    pub(super) fn view(&self) -> Option<View> {
        self.lock_published().as_ref().map(|published| View::new(published.subscribe()))
    }

    /// Ends all views, and the waiting for them.
    pub(super) fn close(&self) {
        let mut ranges = self.lock_ranges();
        ranges.clear();
        *self.lock_published() = None;
        drop(ranges);
        self.answers.send_replace(());
    }

    fn lock_ranges(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, RangeState>> {
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_published(&self) -> std::sync::MutexGuard<'_, Option<watch::Sender<Snapshot>>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
