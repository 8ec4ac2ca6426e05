//! The trait that every backend implements, and the types that it returns.

use sinew_plane::{BoxFuture, EndpointName, Incarnation, InstanceId};
use tokio::sync::watch;

use crate::{Change, DiscoveryError, Instance, Interest, PlanePolicy, PolicyView, Snapshot};

/// A discovery backend: a source of instances, where a process also registers its own.
pub trait Discovery: Send + Sync {
    /// One word for logs and listings: `memory`, `static`, `file`, ...
    fn name(&self) -> &'static str;

    /// Announces an instance until the [`Registration`] is dropped or withdrawn. The backend keeps
    /// it registered, also after outages of its server.
    ///
    /// # Errors
    /// The backend cannot be reached or does not take registrations, or another live process
    /// holds the same endpoint and id.
    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>>;

    /// Returns a view that follows the source. The view begins with the backend's first answer, so
    /// an empty view means that there is no instance.
    ///
    /// # Errors
    /// The backend cannot be reached. Once a view exists, it keeps its last good content during an
    /// outage.
    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>>;

    /// Registers that a caller in this process is going to call `endpoint`. A source that cannot
    /// list endpoints (a list of addresses) then shows instances of it in every view before this
    /// method returns. A source that queries a server (etcd, DNS) shows them when the answer
    /// arrives, as a change; [`View::has_instance_of`] waits for it. All others have the instances
    /// already and ignore the call. Never blocks.
    ///
    /// Keep the [`Interest`] as long as the endpoint is called. When the last one is dropped, a
    /// source whose watch costs something (etcd) ends it, and removes the instances from every
    /// view.
    fn want(&self, _endpoint: &EndpointName) -> Interest {
        Interest::default()
    }

    /// Asks for every endpoint from now on, as a listing does. A source that shows only
    /// [wanted](Self::want) endpoints then shows all that it can find, as a change; all others
    /// ignore the call. Never blocks.
    fn want_all(&self) {}

    /// Why the source cannot be read now, as a text for people; views then keep their last content.
    /// Also why it has no instances, if the source says so (a name that does not exist in DNS).
    /// `None` if there is no problem, or if the source was not read yet.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Stores a policy for its endpoint, in the place of any that is there, and returns it with the
    /// [`version`](PlanePolicy::version) that it has got. If the future is dropped, it may be
    /// stored or not. The default, for backends without a store, refuses.
    ///
    /// # Errors
    /// [`DiscoveryError::NoPolicies`] if the backend holds none, [`DiscoveryError::Invalid`] if a
    /// field is out of its bounds; the backend cannot be reached or written.
    fn put_policy(
        &self,
        policy: PlanePolicy,
    ) -> BoxFuture<'_, Result<PlanePolicy, DiscoveryError>> {
        drop(policy);
        let backend = self.name();
        Box::pin(std::future::ready(Err(DiscoveryError::NoPolicies { backend })))
    }

    /// Removes the policy of an endpoint. False if there was none. If the future is dropped, it may be
    /// removed or not. The default refuses.
    ///
    /// # Errors
    /// As [`put_policy`](Self::put_policy).
    fn remove_policy(
        &self,
        endpoint: &EndpointName,
    ) -> BoxFuture<'_, Result<bool, DiscoveryError>> {
        let _ = endpoint;
        let backend = self.name();
        Box::pin(std::future::ready(Err(DiscoveryError::NoPolicies { backend })))
    }

    /// The policy of an endpoint, and what becomes of it while the view is kept. A backend with a
    /// server may show the first content a moment later, as a change. Never waits for a server.
    /// `None` if the backend holds no policies, as the default says.
    ///
    /// # Errors
    /// The backend was shut down.
    fn watch_policy(&self, endpoint: &EndpointName) -> Result<Option<PolicyView>, DiscoveryError> {
        let _ = endpoint;
        Ok(None)
    }

    /// Ends the backend for all its handles: withdraws all registrations, and ends and joins its
    /// tasks. It waits for at most 5 s, also if a server or a file system does not answer. Views
    /// end or keep their content; later calls fail as unavailable. A backend without tasks does
    /// nothing and stays usable. If the future of a first call was dropped, a second call waits for
    /// the rest of the work.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A view of the instances that follows its source. Each clone tracks by itself which changes it
/// has seen.
#[derive(Debug, Clone)]
pub struct View {
    receiver: watch::Receiver<Snapshot>,
    seen: Snapshot,
    wanted: Interest,
}

impl View {
    /// Makes a view over the snapshots that a backend publishes. The current one counts as seen.
    pub fn new(mut receiver: watch::Receiver<Snapshot>) -> Self {
        let seen = receiver.borrow_and_update().clone();
        Self { receiver, seen, wanted: Interest::default() }
    }

    /// Makes the view and its clones hold `want` until they are dropped.
    #[must_use]
    pub fn holding(self, want: Interest) -> Self {
        Self { wanted: self.wanted.and(want), ..self }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.receiver.borrow().clone()
    }

    /// Waits for a snapshot that differs from the last one seen, and returns what changed. Several
    /// changes of the source may be combined. `None` after the backend has shut down. Cancel-safe.
    pub async fn changed(&mut self) -> Option<Vec<Change>> {
        loop {
            self.receiver.changed().await.ok()?;
            let next = self.receiver.borrow_and_update().clone();
            let changes = self.seen.changes_to(&next);
            self.seen = next;
            if !changes.is_empty() {
                return Some(changes);
            }
        }
    }

    /// Waits until the view has an instance of `endpoint` that this process can
    /// [reach](Instance::is_reachable). Has no time limit. False if the backend has shut down
    /// before. Cancel-safe.
    pub async fn has_instance_of(&mut self, endpoint: &EndpointName) -> bool {
        let found =
            |snapshot: &Snapshot| snapshot.of(endpoint).any(|instance| instance.is_reachable());
        self.receiver.wait_for(found).await.is_ok()
    }
}

/// A registered instance. [`withdraw`](Self::withdraw) removes it and waits for that; dropping it
/// removes it without waiting.
pub struct Registration {
    id: InstanceId,
    incarnation: Incarnation,
    withdraw: Option<Box<dyn Withdraw>>,
}

/// How a backend withdraws a registration.
pub trait Withdraw: Send + Sync {
    /// Withdraws the registration. The future is ready when other processes can no longer find the
    /// instance through the backend.
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, Result<(), DiscoveryError>>;

    /// Withdraws the registration without waiting. Called in `Drop`, so it must not block.
    fn abandon(self: Box<Self>);
}

impl Registration {
    /// Makes a registration of `instance` that `withdraw` ends.
    pub fn new(instance: &Instance, withdraw: Box<dyn Withdraw>) -> Self {
        Self { id: instance.id, incarnation: instance.incarnation, withdraw: Some(withdraw) }
    }

    /// The instance's id.
    pub fn id(&self) -> InstanceId {
        self.id
    }

    /// The instance's incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Withdraws the registration. If the future is dropped, the backend still withdraws it, later.
    ///
    /// # Errors
    /// The backend could not be reached; the entry then ends with its lease.
    pub async fn withdraw(mut self) -> Result<(), DiscoveryError> {
        match self.withdraw.take() {
            Some(withdraw) => withdraw.withdraw().await,
            None => Ok(()),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(withdraw) = self.withdraw.take() {
            withdraw.abandon();
        }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registration({})", self.id)
    }
}
