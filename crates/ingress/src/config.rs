//! How much is admitted.

use std::{fmt, sync::Arc, time::Duration};

use crate::SystemHealth;

/// Settings of a process.
#[derive(Clone)]
pub struct IngressConfig {
    /// Requests in flight over all endpoints; more are refused as `Overloaded`. Default 8,192:
    /// what they keep for callers that do not read is bounded by the transport's memory budget,
    /// and without one by a window each (256 KiB, or 1 MiB for callers that ask for more).
    pub max_in_flight: usize,
    /// Where every endpoint that is served reports its state, whatever transport brings its
    /// requests. An endpoint that is registered with a health of its own reports to that one.
    pub health: Option<Arc<dyn SystemHealth>>,
}

impl Default for IngressConfig {
    fn default() -> Self {
        Self { max_in_flight: 8_192, health: None }
    }
}

impl fmt::Debug for IngressConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngressConfig")
            .field("max_in_flight", &self.max_in_flight)
            .field("reports_health", &self.health.is_some())
            .finish()
    }
}

/// Limits of one served endpoint.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Requests in flight; more are refused as `Overloaded` at once, none is queued. Default
    /// 1,024. Set it to what the handler can really work on.
    pub max_in_flight: usize,
    /// Longest time that an item may wait for its reader. A response that waits longer fails as
    /// `Exhausted`, so that what it holds is free for others. Off by default: a slow reader parks
    /// its own producer and nobody else.
    pub park_limit: Option<Duration>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self { max_in_flight: 1_024, park_limit: None }
    }
}
