//! The trait that every backend implements, and what it hands out.

use sinew_plane::{BoxFuture, EndpointName, Incarnation, InstanceId};
use tokio::sync::watch;

use crate::{Change, DiscoveryError, Instance, Interest, Snapshot};

/// A source of instances, and a place to announce one's own.
pub trait Discovery: Send + Sync {
    /// One word for logs and listings: `memory`, `static`, `file`, ...
    fn name(&self) -> &'static str;

    /// Announces an instance for as long as the [`Registration`] lives. The backend keeps it
    /// alive by itself, also across its own outages.
    ///
    /// # Errors
    /// The backend cannot be reached or does not take registrations, or another live process
    /// holds the same endpoint and id.
    fn register(&self, instance: Instance) -> BoxFuture<'_, Result<Registration, DiscoveryError>>;

    /// A view that follows the source. It begins with what the backend knew when it answered,
    /// never with an empty view that means "not asked yet".
    ///
    /// # Errors
    /// The backend cannot be reached at all. Once a view exists, an outage keeps the last good
    /// content.
    fn watch(&self) -> BoxFuture<'_, Result<View, DiscoveryError>>;

    /// Tells the source that a caller in this process is going to call `endpoint`. Sources that
    /// cannot list endpoints by themselves (a plain list of addresses) then show instances of it in
    /// every view before this returns. Sources that first query a server (etcd, DNS) show them when
    /// the answer arrives, as a change: [`View::has_instance_of`] waits for it. All others know
    /// already and ignore it. Never blocks.
    ///
    /// The interest lasts as long as the [`Interest`]. When nobody has one any more, a source for
    /// which going on costs something (etcd) ends that, and its instances leave every view.
    fn want(&self, _endpoint: &EndpointName) -> Interest {
        Interest::default()
    }

    /// Says that somebody wants to see every endpoint, as a listing does, from now on. Sources
    /// that show only what was wanted then show all they can find, as a change; all others ignore
    /// it. Never blocks.
    fn want_all(&self) {}

    /// What keeps the source from being seen now, in words for a person: then views show what was
    /// there before. Also why nothing is seen, where the source says that (a name that does not
    /// exist in DNS). `None` when all is well, or when nobody has looked yet.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Ends the backend, for all handles of it: takes back what was registered through it, and ends
    /// and joins its tasks. The call waits at most 5 s for that: it does not wait longer for a
    /// server or a file system that does not answer (an etcd that is down, a file system that
    /// hangs). Views end or stay as they are; later calls fail as unavailable. Backends without
    /// tasks of their own do nothing and go on. A second call waits for what a dropped first one
    /// has left to do.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A snapshot that follows its source. Clones follow on their own.
#[derive(Debug, Clone)]
pub struct View {
    receiver: watch::Receiver<Snapshot>,
    seen: Snapshot,
    wanted: Interest,
}

impl View {
    /// A view over the snapshots that a backend publishes. The current one counts as seen.
    pub fn new(mut receiver: watch::Receiver<Snapshot>) -> Self {
        let seen = receiver.borrow_and_update().clone();
        Self { receiver, seen, wanted: Interest::default() }
    }

    /// The same view, which keeps `want` as long as it lives, as its clones do.
    #[must_use]
    pub fn holding(self, want: Interest) -> Self {
        Self { wanted: self.wanted.and(want), ..self }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.receiver.borrow().clone()
    }

    /// Waits for a snapshot that differs from the last one seen here and returns what changed;
    /// several changes of the source may come as one. `None` when the backend has shut down.
    /// Cancel-safe.
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

    /// Waits until at least one instance of `endpoint` is known that can be
    /// [reached](Instance::is_reachable) from here. Cancel-safe; has no time limit of its own.
    /// False when the backend has shut down without one.
    pub async fn has_instance_of(&mut self, endpoint: &EndpointName) -> bool {
        let found =
            |snapshot: &Snapshot| snapshot.of(endpoint).any(|instance| instance.is_reachable());
        self.receiver.wait_for(found).await.is_ok()
    }
}

/// An announced instance. [`withdraw`](Self::withdraw) takes it back and waits for that;
/// dropping it takes it back without waiting.
pub struct Registration {
    id: InstanceId,
    incarnation: Incarnation,
    withdraw: Option<Box<dyn Withdraw>>,
}

/// How a backend takes a registration back.
pub trait Withdraw: Send + Sync {
    /// Takes it back. The future ends when others can no longer learn of the instance from the
    /// backend.
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, Result<(), DiscoveryError>>;

    /// Takes it back without waiting; called from `Drop`, so it must not block.
    fn abandon(self: Box<Self>);
}

impl Registration {
    /// A registration of `instance` that `withdraw` takes back.
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

    /// Takes the registration back. Dropping the future midway still takes it back, later.
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
