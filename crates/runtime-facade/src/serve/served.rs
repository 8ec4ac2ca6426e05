//! An endpoint while it is served.

use std::{fmt, sync::Arc, time::Duration};

use sinew_discovery::Registration;
use sinew_ingress::ServedEndpoint;
use sinew_plane::{Address, EndpointName, InstanceId, Shutdown};
use tokio::{sync::Mutex, time::timeout};

use crate::{Announcement, assembly::Listeners, health::HealthEntry, runtime::LAST_WORDS};

/// An endpoint that is served and announced.
pub(crate) struct Announced {
    pub(super) served: ServedEndpoint,
    pub(super) announcements: Vec<Box<dyn Announcement>>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) registration: Mutex<Option<Registration>>,
    /// How long a drain lets requests finish.
    pub(super) grace: Duration,
    /// After `served`, whose end is reported there.
    pub(super) _health: HealthEntry,
}

impl Announced {
    /// Takes it out of discovery; it is still served to who knows of it.
    pub(crate) async fn withdraw(&self) {
        if let Some(registration) = self.registration.lock().await.take()
            && let Err(error) = registration.withdraw().await
        {
            tracing::warn!(endpoint = %self.served.endpoint(), %error, "could not withdraw; the entry ends with its lease");
        }
    }
}

/// A served endpoint. Dropping it withdraws it and cuts its requests; [`drain`](Self::drain)
/// first to lose nothing.
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

    /// Takes it out of discovery, refuses new requests, and waits for those in flight as long as
    /// [`Config::grace`](crate::Config::grace) says; then it cuts the rest. The withdrawal may take
    /// as long again, where the discovery does not answer. Says what it had to cut: nothing, when
    /// all have ended. A caller in this process that holds its stream unread counts as one in
    /// flight, because the engine runs only while that caller reads. Where Dynamo callers were
    /// served, new requests are taken for half a second more: until the withdrawal has reached them
    /// they would fail, because Dynamo does not send them elsewhere. Cancel-safe: dropped midway,
    /// it stays withdrawn.
    pub async fn drain(&self) -> Shutdown {
        let Announced { served, announcements, listeners, grace, .. } = &*self.announced;
        // A discovery that does not answer in time ends the entry with its lease.
        let _ = timeout((*grace).max(LAST_WORDS), self.announced.withdraw()).await;
        tokio::time::sleep(listeners.withdrawal_delay()).await;
        let cut_streams = served.drain_within(*grace).await;
        for one in announcements {
            one.leave().await;
        }
        Shutdown { cut_streams, cut_tasks: 0 }
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
