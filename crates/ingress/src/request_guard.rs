//! The permit of one admitted request.

use std::sync::Arc;

use sinew_plane::{Context, Fault, InFlightKey, Place};
use sinew_telemetry::{RequestMetrics, TransportMetrics};

use crate::{deadline::DeadlineKey, instance::Instance};

/// One admitted request. Dropping it frees its place. A request that is dropped without
/// [`end`](Self::end), as by a panic, counts as an application error.
pub(crate) struct RequestGuard {
    pub(crate) instance: Arc<Instance>,
    pub(crate) key: Option<InFlightKey>,
    pub(crate) deadline: Option<DeadlineKey>,
    pub(crate) metrics: Option<RequestMetrics>,
    /// Frees the place instead, with the last that holds it.
    pub(crate) shared: Option<Arc<SharedPlace>>,
}

impl RequestGuard {
    /// Lets the place be held for the caller as well, which may read longer than the handler runs.
    /// From now on `handler` is cut and has its deadline as the context of the caller: one that is
    /// lost hears neither.
    pub(crate) fn share(&mut self, handler: &Context) -> Arc<SharedPlace> {
        let instance = &self.instance;
        let cut = instance.contexts.insert(handler);
        let due = instance.watch_deadline(handler);
        let ours = (self.key.take(), self.deadline.take());
        let place = SharedPlace { instance: Arc::clone(instance), keys: [ours, (cut, due)] };
        let place = Arc::new(place);
        self.shared = Some(Arc::clone(&place));
        place
    }

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
        if self.shared.is_none() {
            self.instance.leave(self.key, self.deadline);
        }
    }
}

/// The place of a request whose response is retained, held by its handler and for its caller.
pub(crate) struct SharedPlace {
    instance: Arc<Instance>,
    /// Of the caller's context and the handler's.
    keys: [(Option<InFlightKey>, Option<DeadlineKey>); 2],
}

impl Drop for SharedPlace {
    fn drop(&mut self) {
        for (key, deadline) in self.keys {
            self.instance.forget(key, deadline);
        }
        self.instance.release();
    }
}
