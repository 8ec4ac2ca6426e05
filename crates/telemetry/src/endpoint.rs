//! Metrics of a served endpoint and of its requests.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use sinew_plane::{EndpointName, Fault};

use crate::{
    ActiveStream, Stopwatch, TransportMetrics, is_timing_enabled, names, transport::ErrorCounters,
};

/// Response bytes that a request gathers before it adds them to the counter that it shares with
/// all others: one contended addition per item would cost more than the item.
const PUBLISH_BYTES: u64 = 64 * 1024;

/// Handles of one endpoint's metrics. Clones share them.
///
/// Make it after the recorder is installed; see the [crate](crate) documentation.
#[derive(Clone)]
pub struct EndpointMetrics(Arc<Handles>);

struct Handles {
    requests: Counter,
    in_flight: Gauge,
    duration: Histogram,
    request_bytes: Counter,
    response_bytes: Counter,
    errors: ErrorCounters,
    timed: bool,
}

impl EndpointMetrics {
    /// Makes the handles.
    pub fn new(endpoint: &EndpointName) -> Self {
        Self::labelled(endpoint.as_str())
    }

    /// Handles for requests to names that are not served here.
    pub fn unknown() -> Self {
        Self::labelled(names::UNKNOWN_ENDPOINT)
    }

    fn labelled(endpoint: &str) -> Self {
        let label = || [(names::ENDPOINT, endpoint.to_owned())];
        Self(Arc::new(Handles {
            requests: metrics::counter!(names::INGRESS_REQUESTS, &label()),
            in_flight: metrics::gauge!(names::INGRESS_IN_FLIGHT, &label()),
            duration: metrics::histogram!(names::INGRESS_DURATION, &label()),
            request_bytes: metrics::counter!(names::INGRESS_REQUEST_BYTES, &label()),
            response_bytes: metrics::counter!(names::INGRESS_RESPONSE_BYTES, &label()),
            errors: ErrorCounters::new(names::INGRESS_ERRORS, label().into()),
            timed: is_timing_enabled(),
        }))
    }

    /// Counts a request that arrived and was refused.
    pub fn refused(&self, fault: Fault) {
        self.0.requests.increment(1);
        self.0.errors.count(fault);
    }

    /// Counts a request that was admitted; it is in flight until the result is dropped.
    pub fn admitted(&self, request_bytes: usize) -> RequestMetrics {
        self.0.requests.increment(1);
        self.0.in_flight.increment(1);
        self.0.request_bytes.increment(request_bytes as u64);
        RequestMetrics {
            handles: Arc::clone(&self.0),
            since: Stopwatch::start(self.0.timed),
            transport: None,
            unanswered: false,
            unpublished_bytes: 0,
            fault: Some(Fault::Application),
        }
    }
}

impl std::fmt::Debug for EndpointMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointMetrics").finish_non_exhaustive()
    }
}

/// One request in flight. If it is dropped without [`end`](Self::end), as by a panic, it counts as
/// an application error.
#[must_use = "dropping it counts the request as failed"]
pub struct RequestMetrics {
    handles: Arc<Handles>,
    since: Stopwatch,
    /// What carries it, if anything does.
    transport: Option<ActiveStream>,
    /// It has a transport, and no item was sent.
    unanswered: bool,
    unpublished_bytes: u64,
    fault: Option<Fault>,
}

impl RequestMetrics {
    /// Also counts the request on the transport that it arrived on: as a request, as an open stream
    /// until its end, the time to its first item or its end, and its error if it ends with one.
    pub fn over(mut self, transport: &TransportMetrics) -> Self {
        self.transport = Some(transport.admitted());
        self.unanswered = true;
        self
    }

    /// Counts the payload of response items, in bytes.
    pub fn items(&mut self, bytes: usize) {
        if self.unanswered {
            self.answered();
        }
        self.unpublished_bytes += bytes as u64;
        if self.unpublished_bytes >= PUBLISH_BYTES {
            self.publish();
        }
    }

    /// Ends the request. `fault` is set if it counts as an error.
    pub fn end(mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    fn answered(&mut self) {
        self.unanswered = false;
        if let Some(transport) = &self.transport {
            transport.answered(self.since);
        }
    }

    fn publish(&mut self) {
        self.handles.response_bytes.increment(std::mem::take(&mut self.unpublished_bytes));
    }
}

impl Drop for RequestMetrics {
    fn drop(&mut self) {
        self.publish();
        if self.unanswered {
            self.answered();
        }
        if let Some(fault) = self.fault {
            self.handles.errors.count(fault);
            if let Some(transport) = &self.transport {
                transport.error(fault);
            }
        }
        self.since.record(&self.handles.duration);
        self.handles.in_flight.decrement(1);
    }
}

impl std::fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestMetrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

    use super::*;

    #[track_caller]
    fn check(recorder: &PrometheusRecorder, lines: &[&str]) {
        let text = recorder.handle().render();
        for line in lines {
            assert!(text.lines().any(|shown| shown == *line), "{line} in\n{text}");
        }
    }

    fn endpoint() -> (PrometheusRecorder, EndpointMetrics) {
        crate::enable_timing();
        let recorder = PrometheusBuilder::new().build_recorder();
        let name = "a/b/c".parse().unwrap();
        let metrics = metrics::with_local_recorder(&recorder, || EndpointMetrics::new(&name));
        (recorder, metrics)
    }

    #[test]
    fn a_request_is_counted_from_admission_to_its_end() {
        let (recorder, metrics) = endpoint();
        let mut request = metrics.admitted(100);
        check(&recorder, &["ingress_in_flight_requests{endpoint=\"a/b/c\"} 1"]);
        request.items(30);
        request.items(12);
        request.end(None);
        check(
            &recorder,
            &[
                "ingress_requests_total{endpoint=\"a/b/c\"} 1",
                "ingress_in_flight_requests{endpoint=\"a/b/c\"} 0",
                "ingress_request_bytes_total{endpoint=\"a/b/c\"} 100",
                "ingress_response_bytes_total{endpoint=\"a/b/c\"} 42",
                "ingress_request_duration_seconds_count{endpoint=\"a/b/c\"} 1",
                "ingress_errors_total{endpoint=\"a/b/c\",category=\"application\"} 0",
            ],
        );
    }

    #[test]
    fn a_request_is_counted_on_the_transport_that_brought_it_too() {
        use crate::Side;

        let (recorder, metrics) = endpoint();
        let transport = metrics::with_local_recorder(&recorder, || {
            TransportMetrics::new(&sinew_plane::TransportId::from_static("tcp"), Side::Serving)
        });
        let serving = |metric: &str, value: &str| {
            check(
                &recorder,
                &[&format!("transport_{metric}{{transport=\"tcp\",side=\"serving\"}} {value}")],
            );
        };
        let mut request = metrics.admitted(1).over(&transport);
        serving("requests_total", "1");
        serving("active_streams", "1");
        serving("request_latency_seconds_count", "0");
        request.items(1);
        request.items(1);
        serving("request_latency_seconds_count", "1");
        request.end(None);
        serving("active_streams", "0");
        // The end is the first answer of a request without items.
        metrics.admitted(1).over(&transport).end(Some(Fault::Application));
        transport.refused(Fault::Resource);
        serving("requests_total", "3");
        serving("request_latency_seconds_count", "2");
        for category in ["application", "resource"] {
            let labels = format!("transport=\"tcp\",side=\"serving\",category=\"{category}\"");
            check(&recorder, &[&format!("transport_errors_total{{{labels}}} 1")]);
        }
    }

    #[test]
    fn long_streams_show_their_bytes_while_they_run() {
        let (recorder, metrics) = endpoint();
        let mut request = metrics.admitted(0);
        request.items(65_536);
        request.items(1);
        check(&recorder, &["ingress_response_bytes_total{endpoint=\"a/b/c\"} 65536"]);
        request.end(None);
        check(&recorder, &["ingress_response_bytes_total{endpoint=\"a/b/c\"} 65537"]);
    }

    #[test]
    fn a_request_that_vanishes_counts_as_an_application_error() {
        let (recorder, metrics) = endpoint();
        drop(metrics.admitted(0));
        metrics.refused(Fault::Resource);
        check(
            &recorder,
            &[
                "ingress_requests_total{endpoint=\"a/b/c\"} 2",
                "ingress_errors_total{endpoint=\"a/b/c\",category=\"application\"} 1",
                "ingress_errors_total{endpoint=\"a/b/c\",category=\"resource\"} 1",
                "ingress_in_flight_requests{endpoint=\"a/b/c\"} 0",
            ],
        );
    }
}
