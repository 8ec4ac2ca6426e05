//! The metrics of the transports that requests arrive on.

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sinew_plane::TransportId;
use sinew_telemetry::{Side, TransportMetrics};

/// The metrics of each transport that a request has arrived on, looked up once for each. Every
/// request reads them without waiting. Their number is bounded by the transports of the process,
/// because the process names them and not its peers.
#[derive(Default)]
pub(crate) struct TransportMeters {
    known: ArcSwap<Vec<(TransportId, TransportMetrics)>>,
    adding: Mutex<()>,
}

impl TransportMeters {
    /// Calls `count` with the metrics of a transport.
    pub(crate) fn count<T>(
        &self,
        id: &TransportId,
        count: impl FnOnce(&TransportMetrics) -> T,
    ) -> T {
        let known = self.known.load();
        if let Some((_, metrics)) = known.iter().find(|(known, _)| known == id) {
            return count(metrics);
        }
        count(&self.add(id))
    }

    fn add(&self, id: &TransportId) -> TransportMetrics {
        let _adding = self.adding.lock();
        let known = self.known.load();
        // Another request may have come first.
        if let Some((_, metrics)) = known.iter().find(|(known, _)| known == id) {
            return metrics.clone();
        }
        let metrics = TransportMetrics::new(id, Side::Serving);
        let mut all = Vec::clone(&known);
        all.push((id.clone(), metrics.clone()));
        self.known.store(all.into());
        metrics
    }
}
