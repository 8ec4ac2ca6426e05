//! Limits of what is admitted.

use std::{fmt, sync::Arc, time::Duration};

use sinew_plane::{Budget, Continuation};

use crate::{Retain, SystemHealth};

/// Settings of the ingress of a process.
#[derive(Clone)]
pub struct IngressConfig {
    /// Most requests in flight over all endpoints. Further requests are refused as `Overloaded`.
    /// Default 8,192. The memory budget of the transport bounds the items that are kept for slow
    /// callers. Without a budget each request may keep one window (256 KiB, or 1 MiB if its caller
    /// asks for more).
    pub max_in_flight: usize,
    /// Where every served endpoint reports whether it takes requests, over all transports. An
    /// endpoint that is registered with its own [`SystemHealth`] reports to that one instead.
    pub health: Option<Arc<dyn SystemHealth>>,
    /// The memory budget of the process, to which retained responses are charged. Without one only
    /// [`Retain`] bounds each of them.
    pub budget: Option<Arc<Budget>>,
}

impl Default for IngressConfig {
    fn default() -> Self {
        Self { max_in_flight: 8_192, health: None, budget: None }
    }
}

impl fmt::Debug for IngressConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngressConfig")
            .field("max_in_flight", &self.max_in_flight)
            .field("reports_health", &self.health.is_some())
            .field("has_budget", &self.budget.is_some())
            .finish()
    }
}

/// Limits of one served endpoint.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Most requests in flight. Further requests are refused as `Overloaded` at once; none is
    /// queued. Default 1,024. Set it to the number that the handler can work on at the same time.
    pub max_in_flight: usize,
    /// Longest time that an item may wait for its reader. A response that waits longer fails as
    /// `Exhausted`, which frees its memory and its place. Off by default: a slow reader blocks its
    /// own producer and no other.
    pub park_limit: Option<Duration>,
    /// How long a response is kept for its caller after the loss of its connection. `None`, the
    /// default: as the transport is set. Zero: it ends with the connection. Not shorter than the
    /// caller's keep-alive bound, or a worker that sees a loss at once gives up before its caller
    /// notices. Without effect over transports that keep no streams.
    pub resume_grace: Option<Duration>,
    /// What routers may do with the requests of this endpoint when its worker dies; the record in
    /// discovery has to say the same. With [`Continuation::Checkpoint`] the handler gets continued
    /// requests and may attach checkpoints. Default `None`.
    pub continuation: Continuation,
    /// Longest time that a drain waits for a checkpoint of a response before it hands the response
    /// over all the same, and its router has the items since the last checkpoint made again. Default
    /// 2 s, and never more than half of the drain's grace. Without effect unless the endpoint declares [`Continuation::Checkpoint`].
    pub checkpoint_wait: Duration,
    /// What is kept of each response for readers that come later. `None`, the default: nothing
    /// beyond what its caller has not acknowledged. It has an effect over transports that keep
    /// streams, and costs a task for each response.
    pub retain: Option<Retain>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 1_024,
            park_limit: None,
            resume_grace: None,
            continuation: Continuation::None,
            checkpoint_wait: Duration::from_secs(2),
            retain: None,
        }
    }
}
