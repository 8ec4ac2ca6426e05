//! An endpoint while it is served.

use std::{fmt, sync::Arc, time::Duration};

use sinew_plane::{AsyncEngine, EndpointName, InstanceId};
use sinew_registry::{LocalEndpoint, LocalGuard};
use tokio::time::timeout;

use crate::{Drained, SystemHealth, ingress::Shared, instance::Instance};

/// A served instance of an endpoint. Dropping it withdraws the endpoint and kills its requests in
/// flight, with the reason `Shutdown`; call [`drain`](Self::drain) first to lose none.
#[must_use = "the endpoint is withdrawn when this is dropped"]
pub struct ServedEndpoint {
    instance: Arc<Instance>,
    ingress: Arc<Shared>,
    local: LocalEndpoint,
    /// The entry for callers in this process, removed when this is dropped.
    announced: Option<LocalGuard>,
    health: Option<Arc<dyn SystemHealth>>,
}

impl ServedEndpoint {
    pub(crate) fn new(
        instance: Arc<Instance>,
        ingress: Arc<Shared>,
        local: LocalEndpoint,
        announced: Option<LocalGuard>,
        health: Option<Arc<dyn SystemHealth>>,
    ) -> Self {
        Self { instance, ingress, local, announced, health }
    }

    /// From now on this instance gets the requests, instead of any other with the same name and id.
    /// For an instance that was [prepared](crate::Ingress::prepare).
    pub fn take_over(&self) {
        self.ingress.table.take_over(&self.instance);
        if let Some(announced) = &self.announced {
            announced.take_over();
        }
        self.report(true);
    }

    pub(crate) fn report(&self, ready: bool) {
        if let Some(health) = &self.health {
            health.set_ready(&self.instance.name, self.instance.id, ready);
        }
    }

    /// The name it is served under.
    pub fn endpoint(&self) -> &EndpointName {
        &self.instance.name
    }

    /// Which instance it is.
    pub fn instance(&self) -> InstanceId {
        self.instance.id
    }

    /// The number of its requests in flight.
    pub fn in_flight(&self) -> usize {
        self.instance.in_flight.count()
    }

    /// True once new requests are refused.
    pub fn is_draining(&self) -> bool {
        self.instance.in_flight.is_draining()
    }

    /// Refuses new requests, as `Draining`, and waits until none is in flight. A drain cannot be
    /// undone. Cancel-safe: if the future is dropped, new requests stay refused.
    pub async fn drain(&self) {
        self.report(false);
        self.instance.in_flight.drain();
        self.instance.in_flight.drained().await;
    }

    /// As [`drain`](Self::drain), for at most `limit`. First it hands over the responses that routers
    /// can continue at other instances, as [`EndpointConfig::continuation`] says; at the end it kills
    /// the rest with the reason `Shutdown`. A caller in this process that holds its stream unread gets the cancel at its
    /// next read. Returns what became of the requests that were in flight.
    ///
    /// [`EndpointConfig::continuation`]: crate::EndpointConfig::continuation
    pub async fn drain_within(&self, limit: Duration) -> Drained {
        self.instance.in_flight.drain();
        let count = self.in_flight();
        let Instance { hand_overs, checkpoint_wait, .. } = &*self.instance;
        let handing = hand_overs.hand_over(*checkpoint_wait, limit);
        let over = async { tokio::join!(handing, self.drain()) };
        // Over or not: what is left is counted next.
        let _ = timeout(limit, over).await;
        let left = self.in_flight();
        if left > 0 {
            self.instance.contexts.cut();
        }
        let cut = left.saturating_sub(hand_overs.ending());
        Drained::of(count, hand_overs.take_count(), cut).counted()
    }

    /// The entry that callers in this process use without a transport.
    pub fn local(&self) -> &LocalEndpoint {
        &self.local
    }

    /// The typed engine for callers in this process, with the same admission, deadlines and metrics
    /// as over a transport. `None` if the engine has other types, or the handler has no engine.
    pub fn local_engine<Req: 'static, Resp: 'static>(
        &self,
    ) -> Option<Arc<dyn AsyncEngine<Req, Resp>>> {
        self.local.engine()
    }
}

impl Drop for ServedEndpoint {
    fn drop(&mut self) {
        self.report(false);
        self.ingress.table.remove(&self.instance);
        self.instance.in_flight.drain();
        self.instance.contexts.cut();
    }
}

impl fmt::Debug for ServedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedEndpoint")
            .field("endpoint", &self.instance.name)
            .field("instance", &self.instance.id)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
