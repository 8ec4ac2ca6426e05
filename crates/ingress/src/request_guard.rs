//! The permit of one admitted request.

use std::sync::Arc;

use sinew_plane::{Fault, InFlightKey};
use sinew_telemetry::{RequestMetrics, TransportMetrics};

use crate::{deadline::DeadlineKey, instance::Instance};

/// One admitted request. Dropping it frees its place. A request that is dropped without
/// [`end`](Self::end), as by a panic, counts as an application error.
pub(crate) struct RequestGuard {
    pub(crate) instance: Arc<Instance>,
    pub(crate) key: Option<InFlightKey>,
    pub(crate) deadline: Option<DeadlineKey>,
    pub(crate) metrics: Option<RequestMetrics>,
}

impl RequestGuard {
    /// Also counts the request on the transport that it arrived on.
    pub(crate) fn over(&mut self, carrier: &TransportMetrics) {
        self.metrics = self.metrics.take().map(|metrics| metrics.over(carrier));
    }

    /// Counts the payload of response items, in bytes.
    pub(crate) fn items(&mut self, bytes: usize) {
        if let Some(metrics) = &mut self.metrics {
            metrics.items(bytes);
        }
    }

    /// Ends the request. Call it before the terminal is sent, so that a caller which sends its next
    /// request at once finds the place free.
    pub(crate) fn end(mut self, fault: Option<Fault>) {
        if let Some(metrics) = self.metrics.take() {
            metrics.end(fault);
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        // First, so that the gauge is right when a drain sees that nothing is in flight.
        drop(self.metrics.take());
        self.instance.leave(self.key, self.deadline);
    }
}
