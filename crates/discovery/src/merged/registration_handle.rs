//! One instance registered with several providers.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use sinew_plane::BoxFuture;
use tokio::{task::JoinSet, time::sleep};

use super::{Followers, Provider, retries};
use crate::{DiscoveryError, Instance, Registration, Withdraw};

/// The registrations, and the tries at those that are still to come.
#[derive(Default)]
pub(super) struct RegistrationHandle {
    registrations: Arc<Mutex<Vec<Registration>>>,
    tries: JoinSet<()>,
}

impl RegistrationHandle {
    pub(super) fn add(&self, registration: Registration) {
        lock(&self.registrations).push(registration);
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.registrations).is_empty()
    }

    /// Registers with a provider that was not available, as soon as it is. After the shutdown
    /// (not: the end of the last handle) none is any more.
    pub(super) fn try_again(
        &mut self,
        provider: Provider,
        instance: Instance,
        followers: Weak<Followers>,
    ) {
        let registrations = Arc::clone(&self.registrations);
        self.tries.spawn(async move {
            let mut retries = retries();
            loop {
                sleep(retries.pause()).await;
                if followers.upgrade().is_some_and(|followers| followers.have_ended()) {
                    return;
                }
                match provider.discovery.register(instance.clone()).await {
                    Ok(registration) => {
                        tracing::info!(source = %provider.source, "registered there, too");
                        return lock(&registrations).push(registration);
                    }
                    Err(DiscoveryError::Unavailable { .. }) => {}
                    Err(error) => {
                        tracing::error!(source = %provider.source, %error, "not registered there");
                        return;
                    }
                }
            }
        });
    }
}

impl Withdraw for RegistrationHandle {
    fn withdraw(mut self: Box<Self>) -> BoxFuture<'static, Result<(), DiscoveryError>> {
        Box::pin(async move {
            self.tries.shutdown().await;
            let all = std::mem::take(&mut *lock(&self.registrations));
            // All at once: one that hangs must not keep the others announced.
            let mut withdrawals = JoinSet::new();
            for registration in all {
                withdrawals.spawn(registration.withdraw());
            }
            let mut result = Ok(());
            while let Some(ended) = withdrawals.join_next().await {
                result = result.and(ended.unwrap_or(Ok(())));
            }
            result
        })
    }

    fn abandon(self: Box<Self>) {
        // Dropping ends the tries and takes every registration back.
        drop(self);
    }
}

fn lock(registrations: &Mutex<Vec<Registration>>) -> std::sync::MutexGuard<'_, Vec<Registration>> {
    registrations.lock().unwrap_or_else(PoisonError::into_inner)
}
