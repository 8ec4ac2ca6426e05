//! Metrics of the requests over a transport.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use sinew_plane::{Fault, TransportId};

use crate::{Stopwatch, is_timing_enabled, names};

/// Which end of an exchange counts. A process may have both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that sends requests.
    Calling,
    /// The end whose handlers answer.
    Serving,
}

impl Side {
    /// The value of the label [`SIDE`](names::SIDE).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calling => "calling",
            Self::Serving => "serving",
        }
    }
}

/// Handles of one transport's metrics at one end. Clones share them.
///
/// Make it after the recorder is installed; see the [crate](crate) documentation.
#[derive(Clone)]
pub struct TransportMetrics(Arc<Handles>);

struct Handles {
    requests: Counter,
    latency: Histogram,
    errors: ErrorCounters,
    streams: Gauge,
    timed: bool,
}

impl TransportMetrics {
    /// Makes the handles.
    pub fn new(transport: &TransportId, side: Side) -> Self {
        let label = || {
            let transport = transport.as_str().to_owned();
            vec![(names::TRANSPORT, transport), (names::SIDE, side.as_str().to_owned())]
        };
        Self(Arc::new(Handles {
            requests: metrics::counter!(names::TRANSPORT_REQUESTS, &label()),
            latency: metrics::histogram!(names::TRANSPORT_LATENCY, &label()),
            streams: metrics::gauge!(names::TRANSPORT_STREAMS, &label()),
            errors: ErrorCounters::new(names::TRANSPORT_ERRORS, label()),
            timed: is_timing_enabled(),
        }))
    }

    /// Counts a request that is sent or has arrived. Pass the result to
    /// [`answered`](Self::answered).
    pub fn request(&self) -> Stopwatch {
        self.count_request();
        self.start()
    }

    /// Starts the time of a request that may still be sent over another transport.
    pub fn start(&self) -> Stopwatch {
        Stopwatch::start(self.0.timed)
    }

    /// Counts a request whose time was [started](Self::start).
    pub fn count_request(&self) {
        self.0.requests.increment(1);
    }

    /// Records the time from a request to its first answer: an item or the end.
    pub fn answered(&self, since: Stopwatch) {
        since.record(&self.0.latency);
    }

    /// Counts a request that failed.
    pub fn error(&self, fault: Fault) {
        self.0.errors.count(fault);
    }

    /// Counts a request that arrived and was refused.
    pub fn refused(&self, fault: Fault) {
        self.0.requests.increment(1);
        self.error(fault);
    }

    /// Counts a request that arrived and was admitted; its response is open until the result is
    /// dropped.
    pub(crate) fn admitted(&self) -> ActiveStream {
        self.0.requests.increment(1);
        self.stream()
    }

    /// Counts a response stream as open until the guard is dropped.
    pub fn stream(&self) -> ActiveStream {
        self.0.streams.increment(1);
        ActiveStream(Arc::clone(&self.0))
    }
}

impl std::fmt::Debug for TransportMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportMetrics").finish_non_exhaustive()
    }
}

/// A response stream that is open. Dropping it counts the stream as ended.
#[must_use = "dropping the guard counts the stream as ended"]
pub struct ActiveStream(Arc<Handles>);

impl ActiveStream {
    /// As [`TransportMetrics::answered`].
    pub(crate) fn answered(&self, since: Stopwatch) {
        since.record(&self.0.latency);
    }

    /// As [`TransportMetrics::error`].
    pub(crate) fn error(&self, fault: Fault) {
        self.0.errors.count(fault);
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.0.streams.decrement(1);
    }
}

impl std::fmt::Debug for ActiveStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ActiveStream")
    }
}

/// One counter for each category of error.
pub(crate) struct ErrorCounters([Counter; 4]);

impl ErrorCounters {
    /// Under these labels, with the category behind them.
    pub(crate) fn new(name: &'static str, labels: Vec<(&'static str, String)>) -> Self {
        let faults = [Fault::Transport, Fault::Protocol, Fault::Application, Fault::Resource];
        Self(faults.map(|fault| {
            let category = [(names::CATEGORY, fault.as_str().to_owned())];
            let labels: Vec<_> = labels.iter().cloned().chain(category).collect();
            metrics::counter!(name, &labels)
        }))
    }

    pub(crate) fn count(&self, fault: Fault) {
        let place = match fault {
            Fault::Transport => 0,
            Fault::Protocol => 1,
            Fault::Application => 2,
            Fault::Resource => 3,
        };
        self.0[place].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn errors_are_counted_under_their_own_category() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = metrics::with_local_recorder(&recorder, || {
            TransportMetrics::new(&TransportId::from_static("tcp"), Side::Calling)
        });
        for fault in [Fault::Transport, Fault::Protocol, Fault::Application, Fault::Resource] {
            metrics.error(fault);
            let line = format!(
                "transport_errors_total{{transport=\"tcp\",side=\"calling\",category=\"{}\"}} 1",
                fault.as_str()
            );
            let text = recorder.handle().render();
            assert!(text.contains(&line), "{line} in\n{text}");
        }
    }

    #[test]
    fn streams_are_active_while_their_guard_lives() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = metrics::with_local_recorder(&recorder, || {
            TransportMetrics::new(&TransportId::from_static("unix"), Side::Serving)
        });
        let shows = |count: &str| {
            let line = format!(
                "transport_active_streams{{transport=\"unix\",side=\"serving\"}} {count}\n"
            );
            assert!(recorder.handle().render().contains(&line), "{line}");
        };
        let (one, two) = (metrics.stream(), metrics.stream());
        shows("2");
        drop(one);
        shows("1");
        drop(two);
        shows("0");
    }
}
