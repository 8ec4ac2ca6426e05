//! An endpoint while it is served.

use std::{fmt, sync::Arc, time::Duration};

use sinew_plane::{AsyncEngine, EndpointName, InstanceId};
use sinew_registry::{LocalEndpoint, LocalGuard};
use tokio::time::timeout;

use crate::{SystemHealth, ingress::Shared, instance::Instance};

/// A served instance of an endpoint. Dropping it withdraws the endpoint and kills what is in
/// flight, with the reason `Shutdown`; [`drain`](Self::drain) first to lose nothing.
#[must_use = "the endpoint is withdrawn when this is dropped"]
pub struct ServedEndpoint {
    instance: Arc<Instance>,
    ingress: Arc<Shared>,
    local: LocalEndpoint,
    /// Dropped together with this.
    _announced: Option<LocalGuard>,
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
        let served = Self { instance, ingress, local, _announced: announced, health };
        served.report(true);
        served
    }

    fn report(&self, ready: bool) {
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

    /// Its requests in flight.
    pub fn in_flight(&self) -> usize {
        self.instance.in_flight.count()
    }

    /// Refuses new requests, as `Draining`, and waits until none is in flight. It cannot be
    /// undone. Cancel-safe: dropped midway, new requests stay refused.
    pub async fn drain(&self) {
        self.report(false);
        self.instance.in_flight.drain();
        self.instance.in_flight.drained().await;
    }

    /// The same for no longer than `limit`; then it kills what is left, with the reason `Shutdown`,
    /// and says how much that was. A caller in this process that holds its stream unread learns of it
    /// when it reads on.
    pub async fn drain_within(&self, limit: Duration) -> usize {
        // Over or not: what is left is counted next.
        let _ = timeout(limit, self.drain()).await;
        let cut = self.in_flight();
        if cut > 0 {
            self.instance.contexts.cut();
        }
        cut
    }

    /// What callers in this process use, past every transport.
    pub fn local(&self) -> &LocalEndpoint {
        &self.local
    }

    /// The typed engine for callers in this process, behind the same admission, deadlines and
    /// metrics as over a transport. `None` when the types are not the engine's, or the handler
    /// has none.
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
