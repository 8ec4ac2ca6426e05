//! The right of one request to be worked on.

use std::sync::Arc;

use sinew_plane::{Fault, InFlightKey};
use sinew_telemetry::{RequestMetrics, TransportMetrics};

use crate::{deadline::DeadlineKey, instance::Instance};

/// One admitted request. Dropping it frees its place; without [`end`](Self::end), as by a panic,
/// the request counts as an application error.
pub(crate) struct Permit {
    pub(crate) instance: Arc<Instance>,
    pub(crate) key: Option<InFlightKey>,
    pub(crate) deadline: Option<DeadlineKey>,
    pub(crate) metrics: Option<RequestMetrics>,
}

impl Permit {
    /// Counts the request on the transport that brought it as well.
    pub(crate) fn over(&mut self, carrier: &TransportMetrics) {
        self.metrics = self.metrics.take().map(|metrics| metrics.over(carrier));
    }

    /// Counts the payload of response items: so many bytes.
    pub(crate) fn items(&mut self, bytes: usize) {
        if let Some(metrics) = &mut self.metrics {
            metrics.items(bytes);
        }
    }

    /// The request is over. Call it before the caller is told: one that calls again at once must
    /// find the place free.
    pub(crate) fn end(mut self, fault: Option<Fault>) {
        if let Some(metrics) = self.metrics.take() {
            metrics.end(fault);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // First, so that the gauge is right when a drain sees that nothing is in flight.
        drop(self.metrics.take());
        self.instance.leave(self.key, self.deadline);
    }
}
