//! Metrics of plane policies.

use metrics::{Counter, Gauge};
use sinew_plane::EndpointName;

use crate::names;

/// What a router counts of the plane policy of one endpoint.
pub struct PolicyMetrics {
    endpoint: String,
    not_followed: Counter,
    share: Gauge,
}

impl PolicyMetrics {
    /// Makes the handles. Nothing is counted, and no time series is made, until the first use.
    pub fn new(endpoint: &EndpointName) -> Self {
        let endpoint = endpoint.to_string();
        Self {
            not_followed: metrics::counter!(
                names::PLANE_POLICY_NOT_FOLLOWED, names::ENDPOINT => endpoint.clone()
            ),
            share: metrics::gauge!(names::PLANE_POLICY_SHARE, names::ENDPOINT => endpoint.clone()),
            endpoint,
        }
    }

    /// Counts a running stream that was moved to a transport. Looks up the counter at each call.
    pub fn moved(&self, to: &str) {
        let labels = [(names::ENDPOINT, self.endpoint.clone()), (names::TO, to.to_owned())];
        metrics::counter!(names::PLANE_POLICY_MOVES, &labels).increment(1);
    }

    /// Counts a policy that was rolled back. `reason` is one of a few words. Looks up the counter at
    /// each call, which is rare.
    pub fn rolled_back(&self, reason: &'static str) {
        let labels = [(names::ENDPOINT, self.endpoint.clone()), (names::REASON, reason.to_owned())];
        metrics::counter!(names::PLANE_POLICY_ROLLBACKS, &labels).increment(1);
    }

    /// Counts a new stream that was to follow the policy and could not.
    pub fn not_followed(&self) {
        self.not_followed.increment(1);
    }

    /// Sets the share of the running streams that are to have moved by now, in percent.
    pub fn share(&self, percent: f64) {
        self.share.set(percent);
    }
}

impl std::fmt::Debug for PolicyMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyMetrics").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn moves_and_rollbacks_count_by_endpoint_and_label() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            let metrics = PolicyMetrics::new(&"a/b/c".parse().unwrap());
            metrics.moved("tcp");
            metrics.moved("tcp");
            metrics.rolled_back("gap");
            metrics.not_followed();
            metrics.share(25.0);
        });
        let text = recorder.handle().render();
        for line in [
            "plane_policy_moves_total{endpoint=\"a/b/c\",to=\"tcp\"} 2",
            "plane_policy_rollbacks_total{endpoint=\"a/b/c\",reason=\"gap\"} 1",
            "plane_policy_not_followed_total{endpoint=\"a/b/c\"} 1",
            "plane_policy_share{endpoint=\"a/b/c\"} 25",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
