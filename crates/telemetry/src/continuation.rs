//! Metrics of streams that outlive their worker.

use crate::names;

/// Counts a response stream that a router continued at another instance. `why` is one of a few words.
/// Looks up the counter at each call, which is rare.
pub fn stream_continued(why: &'static str) {
    metrics::counter!(names::STREAMS_CONTINUED, names::WHY => why).increment(1);
}

/// Counts what a drain did with the requests that were in flight. Looks up the counters at each call,
/// which is rare.
pub fn handovers(finished: usize, handed_over: usize, cut: usize) {
    for (outcome, count) in [("finished", finished), ("handed_over", handed_over), ("cut", cut)] {
        metrics::counter!(names::HANDOVERS, names::OUTCOME => outcome).increment(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_drain_counts_each_outcome() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || handovers(3, 2, 0));
        let text = recorder.handle().render();
        for line in ["finished\"} 3", "handed_over\"} 2", "cut\"} 0"] {
            let line = format!("handovers_total{{outcome=\"{line}");
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
