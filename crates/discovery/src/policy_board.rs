//! The policies of one backend, as its views show them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sinew_plane::EndpointName;
use tokio::sync::watch;

use crate::{PlanePolicy, PolicyView};

/// The policies of the endpoints that somebody watches.
#[derive(Debug, Default)]
pub(crate) struct PolicyBoard {
    watched: Mutex<HashMap<EndpointName, watch::Sender<Option<Arc<PlanePolicy>>>>>,
}

impl PolicyBoard {
    /// A view, and whether it is the first of its endpoint: whoever keeps the board then begins to
    /// watch the endpoint.
    pub(crate) fn view(&self, endpoint: &EndpointName) -> (PolicyView, bool) {
        let mut watched = self.lock();
        match watched.get(endpoint) {
            Some(sender) => (sender.subscribe(), false),
            None => {
                let (sender, view) = watch::channel(None);
                watched.insert(endpoint.clone(), sender);
                (view, true)
            }
        }
    }

    /// Shows what is there now.
    pub(crate) fn show(&self, endpoint: &EndpointName, policy: Option<PlanePolicy>) {
        if let Some(sender) = self.lock().get(endpoint) {
            sender.send_if_modified(|shown| {
                let is_changed = shown.as_deref() != policy.as_ref();
                if is_changed {
                    *shown = policy.map(Arc::new);
                }
                is_changed
            });
        }
    }

    /// The endpoints that somebody watches; the others are forgotten.
    #[cfg(feature = "file")]
    pub(crate) fn watched(&self) -> std::collections::HashSet<EndpointName> {
        let mut watched = self.lock();
        watched.retain(|_, one| one.receiver_count() > 0);
        watched.keys().cloned().collect()
    }

    /// Forgets all endpoints that nobody watches, for a backend whose watches cost nothing.
    pub(crate) fn forget_all_unwatched(&self) {
        self.lock().retain(|_, one| one.receiver_count() > 0);
    }

    /// True while nobody has asked for any, or all have gone.
    #[cfg(feature = "file")]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().values().all(|one| one.receiver_count() == 0)
    }

    /// Forgets the endpoint if nobody watches it. True if so.
    #[cfg(feature = "etcd")]
    pub(crate) fn forget_unwatched(&self, endpoint: &EndpointName) -> bool {
        let mut watched = self.lock();
        let is_unwatched = watched.get(endpoint).is_none_or(|one| one.receiver_count() == 0);
        if is_unwatched {
            watched.remove(endpoint);
        }
        is_unwatched
    }

    fn lock(
        &self,
    ) -> MutexGuard<'_, HashMap<EndpointName, watch::Sender<Option<Arc<PlanePolicy>>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_watches_is_forgotten() {
        let board = PolicyBoard::default();
        let name = |number: usize| format!("a/b/c{number}").parse::<EndpointName>().unwrap();
        let (kept, is_first) = board.view(&name(0));
        assert!(is_first);
        for number in 1..9 {
            drop(board.view(&name(number)));
        }
        board.forget_all_unwatched();
        assert_eq!(board.lock().len(), 1);
        assert!(!board.view(&name(0)).1 && board.view(&name(1)).1);
        assert!(kept.has_changed().is_ok());
    }
}
