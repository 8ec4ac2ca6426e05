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

    fn lock(
        &self,
    ) -> MutexGuard<'_, HashMap<EndpointName, watch::Sender<Option<Arc<PlanePolicy>>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
