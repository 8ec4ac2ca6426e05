//! Metrics of the connections of a transport.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge};
use sinew_plane::{Fault, TransportId};

use crate::{Side, names, transport::ErrorCounters};

/// Handles of the metrics of one transport's connections at one end. Clones share them.
///
/// Bytes are those of the sockets: frames, with bodies and items in them. Make it after the
/// recorder is installed; see the [crate](crate) documentation.
#[derive(Clone)]
pub struct ConnectionMetrics(Arc<Handles>);

struct Handles {
    sent: Counter,
    received: Counter,
    connections: Gauge,
    requests: Counter,
    errors: ErrorCounters,
}

impl ConnectionMetrics {
    /// Makes the handles.
    pub fn new(transport: &TransportId, side: Side) -> Self {
        let label = || {
            let transport = transport.as_str().to_owned();
            vec![(names::TRANSPORT, transport), (names::SIDE, side.as_str().to_owned())]
        };
        Self(Arc::new(Handles {
            sent: metrics::counter!(names::TRANSPORT_SENT_BYTES, &label()),
            received: metrics::counter!(names::TRANSPORT_RECEIVED_BYTES, &label()),
            connections: metrics::gauge!(names::TRANSPORT_CONNECTIONS, &label()),
            requests: metrics::counter!(names::TRANSPORT_REQUESTS, &label()),
            errors: ErrorCounters::new(names::TRANSPORT_ERRORS, label()),
        }))
    }

    /// Counts bytes written to a socket.
    pub fn sent(&self, bytes: usize) {
        self.0.sent.increment(bytes as u64);
    }

    /// Counts bytes read from a socket.
    pub fn received(&self, bytes: usize) {
        self.0.received.increment(bytes as u64);
    }

    /// Counts a request that a connection refused before it reached a handler.
    /// [`TransportMetrics::refused`](crate::TransportMetrics::refused) counts refusals by a
    /// handler.
    pub fn refused(&self, fault: Fault) {
        self.0.requests.increment(1);
        self.0.errors.count(fault);
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn opened(&self) -> ActiveConnection {
        self.0.connections.increment(1);
        ActiveConnection(self.clone())
    }
}

/// The connection metrics of one end, by transport, each made once.
#[derive(Debug)]
pub struct ConnectionMeters {
    side: Side,
    by_transport: Mutex<Vec<(TransportId, ConnectionMetrics)>>,
}

impl ConnectionMeters {
    /// For the calling or the serving end, whichever of them dials. Makes no handles yet.
    pub fn new(side: Side) -> Self {
        Self { side, by_transport: Mutex::default() }
    }

    /// The metrics of this end's connections over a transport.
    pub fn of(&self, transport: &TransportId) -> ConnectionMetrics {
        // A lock that a panic left behind holds a whole list all the same.
        let mut known = self.by_transport.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, metrics)) = known.iter().find(|(it, _)| it == transport) {
            return metrics.clone();
        }
        let metrics = ConnectionMetrics::new(transport, self.side);
        known.push((transport.clone(), metrics.clone()));
        metrics
    }
}

impl std::fmt::Debug for ConnectionMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionMetrics").finish_non_exhaustive()
    }
}

/// A connection that is open. Dropping it counts the connection as closed.
#[must_use = "dropping the guard counts the connection as closed"]
pub struct ActiveConnection(ConnectionMetrics);

impl ActiveConnection {
    /// The metrics that count its bytes.
    pub fn metrics(&self) -> &ConnectionMetrics {
        &self.0
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.0.0.connections.decrement(1);
    }
}

impl std::fmt::Debug for ActiveConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ActiveConnection")
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn both_ends_of_a_transport_count_for_themselves() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let of = |side| {
            metrics::with_local_recorder(&recorder, || {
                ConnectionMetrics::new(&TransportId::from_static("tcp"), side)
            })
        };
        let shows = |line: &str| {
            let text = recorder.handle().render();
            assert!(text.lines().any(|shown| shown == line), "{line} in\n{text}");
        };
        let (calling, serving) = (of(Side::Calling), of(Side::Serving));
        calling.sent(5);
        serving.received(7);
        let open = serving.opened();
        open.metrics().sent(2);
        shows("transport_sent_bytes_total{transport=\"tcp\",side=\"calling\"} 5");
        shows("transport_received_bytes_total{transport=\"tcp\",side=\"calling\"} 0");
        shows("transport_sent_bytes_total{transport=\"tcp\",side=\"serving\"} 2");
        shows("transport_received_bytes_total{transport=\"tcp\",side=\"serving\"} 7");
        shows("transport_active_connections{transport=\"tcp\",side=\"serving\"} 1");
        serving.refused(Fault::Resource);
        shows("transport_requests_total{transport=\"tcp\",side=\"serving\"} 1");
        let errors = "transport_errors_total{transport=\"tcp\",side=\"serving\",category";
        shows(&format!("{errors}=\"resource\"}} 1"));
        shows(&format!("{errors}=\"protocol\"}} 0"));
        drop(open);
        shows("transport_active_connections{transport=\"tcp\",side=\"serving\"} 0");
        shows("transport_active_connections{transport=\"tcp\",side=\"calling\"} 0");
    }
}
