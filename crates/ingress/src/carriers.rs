//! What is counted of the transports that bring requests.

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sinew_plane::TransportId;
use sinew_telemetry::{Side, TransportMetrics};

/// The metrics of each transport that has brought a request, looked up once for each. Read on
/// every request without waiting. As many as the process has transports, because they are named by
/// this process and not by its peers.
#[derive(Default)]
pub(crate) struct Carriers {
    known: ArcSwap<Vec<(TransportId, TransportMetrics)>>,
    adding: Mutex<()>,
}

impl Carriers {
    /// Counts something of a transport.
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
