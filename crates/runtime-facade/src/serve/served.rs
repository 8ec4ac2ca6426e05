//! An endpoint while it is served.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::join_all;
use sinew_discovery::Registration;
use sinew_ingress::{Drained, ServedEndpoint};
use sinew_plane::{Address, EndpointName, InstanceId};
use tokio::{
    sync::{Mutex, OnceCell},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{Announcement, assembly::Listeners, control::EndpointStatus, runtime::LAST_WORDS};

/// An endpoint that is served and announced.
pub(crate) struct Announced {
    pub(super) served: ServedEndpoint,
    pub(super) announcements: Vec<Box<dyn Announcement>>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) registration: Mutex<Option<Registration>>,
    /// How long a drain waits for requests in flight.
    pub(super) grace: Duration,
    /// Set when the listeners have released the endpoint.
    pub(super) left: OnceCell<()>,
    /// What became of the requests, once the drain has ended.
    pub(super) drained: OnceCell<Drained>,
    /// Cancelled when the drain has ended.
    pub(super) closed: CancellationToken,
}

impl Announced {
    pub(crate) fn endpoint(&self) -> &EndpointName {
        self.served.endpoint()
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.served.instance()
    }

    /// True once the drain has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    pub(crate) fn status(&self) -> EndpointStatus {
        EndpointStatus {
            endpoint: self.endpoint().clone(),
            instance: self.instance(),
            in_flight: self.served.in_flight(),
            draining: self.served.is_draining(),
        }
    }

    /// Drains the endpoint, once, whoever asks for it.
    pub(crate) async fn drain(&self) -> Drained {
        let drained = self.drained.get_or_init(|| async {
            let Self { served, listeners, grace, .. } = self;
            // A discovery that does not answer in time ends the entry with its lease.
            let _ = timeout((*grace).max(LAST_WORDS), self.withdraw()).await;
            tokio::time::sleep(listeners.withdrawal_delay().min(*grace)).await;
            let drained = served.drain_within(*grace).await;
            self.leave((*grace).max(LAST_WORDS)).await;
            self.closed.cancel();
            drained
        });
        *drained.await
    }

    /// Withdraws the endpoint from discovery. It is still served to callers that have its address.
    pub(crate) async fn withdraw(&self) {
        if let Some(registration) = self.registration.lock().await.take()
            && let Err(error) = registration.withdraw().await
        {
            tracing::warn!(endpoint = %self.served.endpoint(), %error, "could not withdraw; the entry ends with its lease");
        }
    }

    /// Lets the listeners release the endpoint, once, for at most `limit`.
    pub(crate) async fn leave(&self, limit: Duration) {
        let leaving = self.left.get_or_init(|| async {
            join_all(self.announcements.iter().map(|one| one.leave())).await;
        });
        if timeout(limit, leaving).await.is_err() {
            let endpoint = self.served.endpoint();
            tracing::warn!(%endpoint, "a listener did not release an endpoint in time");
        }
    }
}

/// A served endpoint. Dropping it withdraws the endpoint and cuts its requests; call
/// [`drain`](Self::drain) first to lose none.
#[must_use = "the endpoint is withdrawn when this is dropped"]
pub struct Served {
    pub(super) announced: Arc<Announced>,
    pub(super) addresses: Vec<Address>,
}

impl Served {
    /// The name it is served under.
    pub fn endpoint(&self) -> &EndpointName {
        self.announced.served.endpoint()
    }

    /// Which instance it is.
    pub fn instance(&self) -> InstanceId {
        self.announced.served.instance()
    }

    /// Where it can be reached.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Its requests in flight.
    pub fn in_flight(&self) -> usize {
        self.announced.served.in_flight()
    }

    /// Withdraws the endpoint from discovery, refuses new requests, waits for those in flight for
    /// at most [`Config::grace`](crate::Config::grace), and cuts the rest. Returns what became of
    /// them. If discovery does not answer, the withdrawal may take as long again, and so may the
    /// listeners until they have released the endpoint. A response that a caller in this process
    /// holds unread counts as in flight, because its engine runs only while the caller reads. If
    /// Dynamo callers can reach the endpoint, it takes new requests for another half second, until
    /// the withdrawal has reached them, because Dynamo does not send a refused request to another
    /// instance. Cancel-safe: if the future is dropped, the endpoint stays withdrawn.
    pub async fn drain(&self) -> Drained {
        self.announced.drain().await
    }

    /// Waits until the endpoint is drained, whoever asked for it: [`drain`](Self::drain) or
    /// `sinew drain`. A process that serves nothing else may end then. Cancel-safe.
    pub async fn closed(&self) {
        self.announced.closed.cancelled().await;
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("endpoint", self.endpoint())
            .field("instance", &self.instance())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
