//! The policies of several providers: for each endpoint, the one with the largest version.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use sinew_plane::EndpointName;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

use super::{BACKEND, Provider};
use crate::{DiscoveryError, PlanePolicy, PolicyView};

/// The tasks that follow the policies of providers; aborted when this is dropped.
#[derive(Default)]
pub(super) struct Policies(Mutex<JoinSet<()>>);

/// What the providers show.
#[derive(Clone)]
struct Shown {
    views: Arc<[PolicyView]>,
    merged: Arc<watch::Sender<Option<Arc<PlanePolicy>>>>,
}

/// Stores it with the first provider that holds policies.
pub(super) async fn put(
    providers: &[Provider],
    policy: PlanePolicy,
) -> Result<PlanePolicy, DiscoveryError> {
    for provider in providers {
        match provider.discovery.put_policy(policy.clone()).await {
            Err(DiscoveryError::NoPolicies { .. }) => {}
            result => return result,
        }
    }
    Err(DiscoveryError::NoPolicies { backend: BACKEND })
}

/// Removes it from all that hold policies. True if one had any.
pub(super) async fn remove(
    providers: &[Provider],
    endpoint: &EndpointName,
) -> Result<bool, DiscoveryError> {
    let mut removed = Err(DiscoveryError::NoPolicies { backend: BACKEND });
    let mut failed = None;
    for provider in providers {
        match provider.discovery.remove_policy(endpoint).await {
            Ok(was_there) => removed = Ok(was_there || matches!(removed, Ok(true))),
            Err(DiscoveryError::NoPolicies { .. }) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(removed, Err)
}

impl Policies {
    pub(super) fn watch(
        &self,
        providers: &[Provider],
        endpoint: &EndpointName,
    ) -> Result<Option<PolicyView>, DiscoveryError> {
        let mut views = Vec::new();
        for provider in providers {
            views.extend(provider.discovery.watch_policy(endpoint)?);
        }
        if views.len() < 2 {
            return Ok(views.pop());
        }
        let runtime = Handle::try_current().map_err(|_| DiscoveryError::Invalid {
            reason: "policies of several discoveries are watched within a tokio runtime".to_owned(),
        })?;
        let (merged, view) = watch::channel(None);
        let shown = Shown { views: views.into(), merged: Arc::new(merged) };
        shown.publish();
        let mut tasks = self.lock();
        while tasks.try_join_next().is_some() {}
        for at in 0..shown.views.len() {
            tasks.spawn_on(shown.clone().follow(at), &runtime);
        }
        Ok(Some(view))
    }

    /// Ends the tasks, and waits for that. Views keep what they show.
    pub(super) async fn end(&self) {
        let mut tasks = std::mem::take(&mut *self.lock());
        tasks.shutdown().await;
    }

    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    /// Follows one of the views for as long as somebody watches the whole.
    async fn follow(self, at: usize) {
        let Some(mut view) = self.views.get(at).cloned() else { return };
        loop {
            let is_changed = {
                let (mut changed, mut closed) = (pin!(view.changed()), pin!(self.merged.closed()));
                poll_fn(|context| match closed.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(false),
                    Poll::Pending => changed.as_mut().poll(context).map(|result| result.is_ok()),
                })
                .await
            };
            if !is_changed {
                return;
            }
            self.publish();
        }
    }

    fn publish(&self) {
        self.merged.send_if_modified(|shown| {
            // Under the lock of the channel, so that the last to publish has seen all.
            let policies = self.views.iter().filter_map(|view| view.borrow().clone());
            // The first of equals: providers are named best first.
            let best =
                policies.reduce(|best, next| if next.version > best.version { next } else { best });
            let is_changed = *shown != best;
            *shown = best;
            is_changed
        });
    }
}
