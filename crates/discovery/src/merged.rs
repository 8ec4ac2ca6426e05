//! Several providers as one.

mod policies;
mod registration_handle;
mod snapshot_publisher;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sinew_plane::{Backoff, BoxFuture, EndpointName, Jitter, Retries};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use self::{
    policies::Policies, registration_handle::RegistrationHandle,
    snapshot_publisher::SnapshotPublisher,
};
use crate::{
    Discovery, DiscoveryError, Instance, Interest, PlanePolicy, PolicyView, Registration, View,
};

const BACKEND: &str = "merged";

/// How long a first view waits for providers that take their time, when another has answered.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Between two tries at a provider that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

fn retries() -> Retries {
    Retries::new(Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE).with_jitter(Jitter::Half))
}

/// Several providers merged into one view, with the [source](Instance::source) of each entry.
///
/// **Watching.** A provider that fails does not affect the others: it is tried again until it
/// works, and its last instances stay. A first view waits 2 s for providers that have not answered
/// yet, and fails only if all have failed. If two providers show an instance with the same key, one
/// that this process can reach is preferred, then one that the worker wrote itself over one that
/// was made for a given address ([`any_id`](Instance::any_id)). If they are equal, the provider
/// named first is used; if they differ, the one that changed last, so that the new incarnation of a
/// restarted worker appears as soon as any provider shows it.
///
/// **Announcing.** An instance is registered with every provider that takes registrations. One
/// success is enough; providers that are not available are tried again until the registration is
/// withdrawn. If the key is taken in one of them, the registration fails, and is withdrawn from
/// all.
///
/// **Policies.** A policy is stored with the first provider that holds policies, and removed from
/// all. Of several for one endpoint, the one with the largest version is shown.
///
/// Its tasks run on the runtimes in which the first view was asked for, an instance was registered
/// or a policy was watched, and end when the last handle (and each registration) is dropped, or with
/// [`shutdown`](Discovery::shutdown), which then shuts the providers down.
#[derive(Clone)]
pub struct MergedDiscovery {
    providers: Arc<[Provider]>,
    publisher: Arc<SnapshotPublisher>,
    followers: Arc<Followers>,
    policies: Arc<Policies>,
}

/// The tasks that follow the providers: aborted with the last handle, `None` after the shutdown.
struct Followers(Mutex<Option<JoinSet<()>>>);

#[derive(Clone)]
struct Provider {
    source: Arc<str>,
    discovery: Arc<dyn Discovery>,
}

impl MergedDiscovery {
    /// Merges these providers, best first. The sources are their [names](Discovery::name), with
    /// `#2`, `#3` appended if there are several of one kind.
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`] when there is none.
    pub fn new(
        providers: impl IntoIterator<Item = Arc<dyn Discovery>>,
    ) -> Result<Self, DiscoveryError> {
        let mut taken = HashSet::new();
        let mut named = Vec::new();
        for discovery in providers {
            let name = discovery.name();
            let mut source = name.to_owned();
            let mut number = 1;
            while !taken.insert(source.clone()) {
                number += 1;
                source = format!("{name}#{number}");
            }
            named.push((source, discovery));
        }
        Self::named(named)
    }

    /// Merges these providers, best first, under the given names.
    ///
    /// # Errors
    /// [`DiscoveryError::Invalid`] when there is none.
    pub fn named<S: Into<Arc<str>>>(
        providers: impl IntoIterator<Item = (S, Arc<dyn Discovery>)>,
    ) -> Result<Self, DiscoveryError> {
        let provider = |(source, discovery): (S, _)| Provider { source: source.into(), discovery };
        let providers: Arc<[_]> = providers.into_iter().map(provider).collect();
        if providers.is_empty() {
            let reason = "merged discovery needs at least one provider".to_owned();
            return Err(DiscoveryError::Invalid { reason });
        }
        let publisher =
            Arc::new(SnapshotPublisher::new(providers.iter().map(|one| Arc::clone(&one.source))));
        let followers = Arc::new(Followers(Mutex::new(Some(JoinSet::new()))));
        Ok(Self { providers, publisher, followers, policies: Arc::default() })
    }

    /// The names of the providers, best first.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|one| &*one.source)
    }

    /// Its own tasks first, so that nobody sees the providers end one by one.
    async fn end(&self) {
        let followers = self.followers.lock().take();
        if let Some(mut followers) = followers {
            followers.shutdown().await;
        }
        self.policies.end().await;
        // Whoever still waits for a first answer.
        for at in 0..self.providers.len() {
            self.publisher.fail(at, "it was shut down".to_owned());
        }
        // All at once: one that hangs takes no time from the others.
        let mut ends = JoinSet::new();
        for provider in self.providers.iter().cloned() {
            ends.spawn(async move { provider.discovery.shutdown().await });
        }
        while ends.join_next().await.is_some() {}
    }

    /// Starts to follow all providers, once.
    fn start(&self) -> Result<(), DiscoveryError> {
        let mut followers = self.followers.lock();
        let followers = followers.as_mut().ok_or_else(has_ended)?;
        if followers.is_empty() {
            for (at, provider) in self.providers.iter().enumerate() {
                followers.spawn(follow(provider.clone(), at, Arc::clone(&self.publisher)));
            }
        }
        Ok(())
    }

    async fn first_view(&self) -> Result<View, DiscoveryError> {
        self.start()?;
        // One that takes its time is waited for longer only when there is nothing else.
        let limit = Instant::now() + FIRST_WAIT;
        if timeout_at(limit, self.publisher.all_have_answered()).await.is_err() {
            self.publisher.one_has_answered().await;
        }
        // What was wanted since they were first asked shows in their views only.
        for (at, provider) in self.providers.iter().enumerate() {
            if let Ok(Ok(view)) = timeout_at(limit, provider.discovery.watch()).await {
                self.publisher.show(at, &view);
            }
        }
        self.publisher.view().map_err(|what| DiscoveryError::Unavailable {
            backend: BACKEND,
            what,
            source: None,
        })
    }

    async fn register_everywhere(
        &self,
        instance: Instance,
    ) -> Result<Registration, DiscoveryError> {
        if self.followers.have_ended() {
            return Err(has_ended());
        }
        let mut hold = RegistrationHandle::default();
        let mut failed = Vec::new();
        let mut is_read_only = true;
        for provider in &*self.providers {
            match provider.discovery.register(instance.clone()).await {
                Ok(registration) => hold.add(registration),
                Err(DiscoveryError::ReadOnly { .. }) => continue,
                Err(error @ DiscoveryError::Unavailable { .. }) => {
                    failed.push((provider, error));
                }
                // Dropping the hold takes the others back.
                Err(error) => return Err(error),
            }
            is_read_only = false;
        }
        if is_read_only {
            return Err(DiscoveryError::ReadOnly { backend: BACKEND });
        }
        if hold.is_empty() {
            let first = failed.into_iter().next().map(|(_, error)| error);
            return Err(first.unwrap_or(DiscoveryError::ReadOnly { backend: BACKEND }));
        }
        for (provider, error) in failed {
            let source = &provider.source;
            tracing::warn!(%source, %error, "not registered there yet: trying again");
            let followers = Arc::downgrade(&self.followers);
            hold.try_again(provider.clone(), instance.clone(), followers);
        }
        Ok(Registration::new(&instance, Box::new(hold)))
    }
}

impl Followers {
    fn have_ended(&self) -> bool {
        self.lock().is_none()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<JoinSet<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_ended() -> DiscoveryError {
    let what = "it was shut down".to_owned();
    DiscoveryError::Unavailable { backend: BACKEND, what, source: None }
}

/// Brings what one provider shows to the board, for ever.
async fn follow(provider: Provider, at: usize, publisher: Arc<SnapshotPublisher>) {
    let mut retries = retries();
    loop {
        let begun = Instant::now();
        match provider.discovery.watch().await {
            Ok(mut view) => {
                publisher.show(at, &view);
                while view.changed().await.is_some() {
                    publisher.show(at, &view);
                }
                tracing::debug!(source = %provider.source, "has ended: keeping what it showed");
            }
            Err(error) => {
                tracing::debug!(source = %provider.source, %error, "cannot be watched");
                publisher.fail(at, error.to_string());
            }
        }
        sleep(retries.pause_after(begun.elapsed())).await;
    }
}

impl Discovery for MergedDiscovery {
    fn name(&self) -> &'static str {
        BACKEND
    }

    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>> {
        Box::pin(self.register_everywhere(instance))
    }

    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>> {
        Box::pin(self.first_view())
    }

    fn put_policy(
        &self,
        policy: PlanePolicy,
    ) -> BoxFuture<'_, Result<PlanePolicy, DiscoveryError>> {
        Box::pin(policies::put(&self.providers, policy))
    }

    fn remove_policy(
        &self,
        endpoint: &EndpointName,
    ) -> BoxFuture<'_, Result<bool, DiscoveryError>> {
        let endpoint = endpoint.clone();
        Box::pin(async move { policies::remove(&self.providers, &endpoint).await })
    }

    fn watch_policy(&self, endpoint: &EndpointName) -> Result<Option<PolicyView>, DiscoveryError> {
        if self.followers.have_ended() {
            return Err(has_ended());
        }
        self.policies.watch(&self.providers, endpoint)
    }

    fn want(&self, endpoint: &EndpointName) -> Interest {
        let wants = self.providers.iter().map(|one| one.discovery.want(endpoint));
        wants.fold(Interest::default(), Interest::and)
    }

    fn want_all(&self) {
        self.providers.iter().for_each(|one| one.discovery.want_all());
    }

    fn trouble(&self) -> Option<String> {
        let troubles = self.providers.iter().filter_map(|one| {
            one.discovery.trouble().map(|trouble| format!("{}: {trouble}", one.source))
        });
        let troubles: Vec<_> = troubles.collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    /// Its own tasks, and then the providers. Views keep what they show.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl fmt::Debug for MergedDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MergedDiscovery({})", self.sources().collect::<Vec<_>>().join(", "))
    }
}
