//! Metrics of streams that outlive their connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};
use sinew_plane::ResumeReason;

use crate::{Side, names};

/// Handles of the metrics of the streams of one end that lose their connections. Clones share them.
///
/// Make it after the recorder is installed; see the [crate](crate) documentation.
#[derive(Clone)]
pub struct StreamMetrics(Arc<Handles>);

struct Handles {
    detached: Gauge,
    resumed: [Counter; 4],
    truncated: Counter,
    gap: Histogram,
    cancel: Histogram,
}

impl StreamMetrics {
    /// Makes the handles.
    pub fn new(side: Side) -> Self {
        let resumed = |reason: ResumeReason| metrics::counter!(names::STREAMS_RESUMED, names::REASON => reason.as_str());
        Self(Arc::new(Handles {
            detached: metrics::gauge!(names::STREAMS_DETACHED, names::SIDE => side.as_str()),
            resumed: ResumeReason::ALL.map(resumed),
            truncated: metrics::counter!(names::STREAMS_TRUNCATED),
            gap: metrics::histogram!(names::RESUME_GAP),
            cancel: metrics::histogram!(names::CANCEL_PROPAGATION),
        }))
    }

    /// Counts streams that were attached to another connection.
    pub fn resumed(&self, reason: ResumeReason, streams: usize) {
        self.0.resumed[reason.place()].increment(streams as u64);
    }

    /// The same, by the places of the reasons.
    pub fn resumed_all(&self, streams: &[usize; 4]) {
        for (reason, count) in ResumeReason::ALL.into_iter().zip(streams) {
            self.resumed(reason, *count);
        }
    }

    /// Counts a stream that ended as truncated for want of a connection.
    pub fn truncated(&self) {
        self.0.truncated.increment(1);
    }

    /// Records for how long a stream was without a connection.
    pub fn gap(&self, gap: Duration) {
        self.0.gap.record(gap.as_secs_f64());
    }

    /// Records how long after their arrival cancels had reached the contexts of their handlers.
    pub fn cancelled(&self, cancels: usize, took: Duration) {
        self.0.cancel.record_many(took.as_secs_f64(), cancels);
    }

    /// The part of the gauge of detached streams that one owner of streams shows.
    pub fn detached(&self) -> DetachedStreams {
        DetachedStreams { metrics: self.clone(), count: AtomicUsize::new(0) }
    }
}

/// What one owner of streams adds to the gauge of detached streams. Dropping it takes that away.
pub struct DetachedStreams {
    metrics: StreamMetrics,
    count: AtomicUsize,
}

impl DetachedStreams {
    /// Sets how many wait now.
    pub fn set(&self, count: usize) {
        let before = self.count.swap(count, Ordering::Relaxed);
        if before != count {
            // Counts of streams, far below what a float holds exactly.
            self.metrics.0.detached.increment(count as f64 - before as f64);
        }
    }
}

impl Drop for DetachedStreams {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl std::fmt::Debug for StreamMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamMetrics")
    }
}

impl std::fmt::Debug for DetachedStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DetachedStreams").field(&self.count).finish()
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn owners_add_up_and_each_reason_counts_for_itself() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = metrics::with_local_recorder(&recorder, || StreamMetrics::new(Side::Calling));
        let shows = |line: &str| {
            let text = recorder.handle().render();
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        };
        let (one, two) = (metrics.detached(), metrics.detached());
        one.set(3);
        two.set(4);
        shows("streams_detached{side=\"calling\"} 7");
        drop(one);
        two.set(1);
        shows("streams_detached{side=\"calling\"} 1");
        metrics.resumed(ResumeReason::Silence, 5);
        metrics.resumed(ResumeReason::Lost, 2);
        shows("streams_resumed_total{reason=\"silence\"} 5");
        shows("streams_resumed_total{reason=\"lost\"} 2");
        shows("streams_resumed_total{reason=\"moved\"} 0");
        metrics.truncated();
        shows("streams_truncated_total 1");
        metrics.gap(Duration::from_millis(4));
        shows("resume_gap_seconds_count 1");
        metrics.cancelled(3, Duration::from_micros(20));
        shows("cancel_propagation_seconds_count 3");
    }
}
