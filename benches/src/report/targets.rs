//! What Sinew should reach, as ratios within one run, and whether it does.

use super::measures::{Measure, number};
use crate::Results;

/// A bound on a measure of one peer.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) workload: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) bound: Bound,
    pub(crate) of: Of,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// What the bound is a multiple of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    /// The same measure of another peer in the same round.
    Peer(&'static str),
    /// One.
    Unit,
}

/// How a target was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) value: f64,
    pub(crate) is_met: bool,
}

const fn target(
    workload: &'static str,
    metric: &'static str,
    peer: &'static str,
    bound: Bound,
    of: Of,
) -> Target {
    Target { workload, metric, peer, bound, of }
}

use Bound::{AtLeast, AtMost};

const TCP: &str = "sinew-tcp";
const UDS: &str = "sinew-uds";
/// Call-home over shared connections.
pub(crate) const POOLED: &str = "sinew-split-pooled";
/// Call-home with a connection for each response.
pub(crate) const SINGLE: &str = "sinew-split-single";
const SAME_UNPOOLED: Of = Of::Peer(SINGLE);
const RAW_MUX: Of = Of::Peer("raw-mux");
const RAW_MUXI: Of = Of::Peer("raw-muxi");

/// All targets, in the order of the report.
pub(crate) const ALL: &[Target] = &[
    target("unary-1", "p50_us", TCP, AtMost(1.3), RAW_MUX),
    target("unary-64", "per_second", TCP, AtLeast(0.5), RAW_MUXI),
    target("unary-256", "per_second", TCP, AtLeast(0.5), RAW_MUXI),
    target("stream-1", "items_per_second", TCP, AtLeast(0.7), RAW_MUX),
    target("stream-1", "first_p50_us", TCP, AtMost(1.4), RAW_MUX),
    target("stream-1", "cpu_ns", TCP, AtMost(1.4), RAW_MUX),
    target("stream-16", "items_per_second", TCP, AtLeast(0.75), RAW_MUXI),
    target("stream-16", "cpu_ns", TCP, AtMost(1.4), RAW_MUX),
    target("stream-64", "items_per_second", TCP, AtLeast(0.75), RAW_MUXI),
    target("stream-64", "cpu_ns", TCP, AtMost(1.4), RAW_MUX),
    target("passes-flat", "cpu_ns", TCP, AtMost(1.5), RAW_MUX),
    target("passes-flat", "writes_per_pass", TCP, AtMost(6.0), Of::Unit),
    target("passes-paced", "writes_per_pass", TCP, AtMost(6.0), Of::Unit),
    target("large-1", "mib_per_second", TCP, AtLeast(0.85), RAW_MUX),
    target("large-4", "mib_per_second", TCP, AtLeast(0.85), RAW_MUX),
    target("large-4", "mib_per_second", UDS, AtLeast(1.5), Of::Peer(TCP)),
    target("idle", "client_bytes", TCP, AtMost(1.5), RAW_MUX),
    target("idle", "client_bytes", TCP, AtMost(1024.0), Of::Unit),
    target("idle", "server_bytes", TCP, AtMost(1.5), RAW_MUX),
    target("idle", "server_bytes", TCP, AtMost(1024.0), Of::Unit),
    target("unary-1", "p50_us", POOLED, AtMost(0.95), SAME_UNPOOLED),
    target("unary-1", "p99_us", POOLED, AtMost(0.9), SAME_UNPOOLED),
    target("unary-16", "p50_us", POOLED, AtMost(0.95), SAME_UNPOOLED),
    target("unary-16", "p99_us", POOLED, AtMost(0.9), SAME_UNPOOLED),
    target("unary-64", "p50_us", POOLED, AtMost(0.95), SAME_UNPOOLED),
    target("unary-64", "p99_us", POOLED, AtMost(0.9), SAME_UNPOOLED),
    target("unary-64", "pool_reuse_percent", POOLED, AtLeast(99.0), Of::Unit),
    target("idle-1000", "response_connections", POOLED, AtMost(4.0), Of::Unit),
];

impl Target {
    /// The targets of a peer in a measure.
    pub(crate) fn of(measure: &Measure, peer: &str) -> impl Iterator<Item = &'static Self> {
        ALL.iter().filter(move |target| {
            (target.workload, target.metric, target.peer)
                == (measure.workload, measure.metric, peer)
        })
    }

    /// What it asks for: `at most 1.30 x raw-mux`.
    pub(crate) fn text(&self) -> String {
        let (word, bound) = match self.bound {
            AtMost(bound) => ("most", bound),
            AtLeast(bound) => ("least", bound),
        };
        match self.of {
            Of::Peer(peer) => format!("at {word} {} x {peer}", number(bound)),
            Of::Unit => format!("at {word} {}", self.with_unit(bound)),
        }
    }

    /// What was reached, as it is read beside what is asked for.
    pub(crate) fn reached_text(&self, reached: Reached) -> String {
        match self.of {
            Of::Peer(_) => number(reached.value),
            Of::Unit => self.with_unit(reached.value),
        }
    }

    fn with_unit(&self, value: f64) -> String {
        let measure = Measure::find(self.workload, self.metric);
        measure.map_or_else(|| number(value), |measure| measure.with_unit(value))
    }

    /// What was reached; `None` when one side of it was not measured.
    pub(crate) fn reached(&self, results: &Results) -> Option<Reached> {
        let value = match self.of {
            Of::Peer(base) => results.ratio(self.workload, self.metric, self.peer, base)?,
            Of::Unit => results.spread(self.workload, self.metric, self.peer)?.median,
        };
        let is_met = match self.bound {
            AtMost(bound) => value <= bound,
            AtLeast(bound) => value >= bound,
        };
        Some(Reached { value, is_met })
    }
}

impl Reached {
    pub(crate) fn verdict(self) -> &'static str {
        if self.is_met { "met" } else { "**missed**" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sample;

    #[test]
    fn every_target_is_of_a_known_measure() {
        for target in ALL {
            let measure = Measure::find(target.workload, target.metric);
            let measure = measure.unwrap_or_else(|| panic!("{target:?}"));
            assert!(Target::of(measure, target.peer).count() > 0);
        }
    }

    #[test]
    fn a_bound_is_met_on_its_own_side_only() {
        let mut results = Results::default();
        let sample = |value| Sample::default().with("p50_us", value).with("per_second", value);
        for (workload, sinew) in [("unary-1", 20.0), ("unary-64", 20.0), ("unary-256", 4.0)] {
            results.add(0, workload, "sinew-tcp", sample(sinew));
            results.add(0, workload, "raw-mux", sample(10.0));
            results.add(0, workload, "raw-muxi", sample(10.0));
        }
        let met: Vec<_> =
            ALL[..3].iter().map(|target| target.reached(&results).unwrap().is_met).collect();
        assert_eq!(met, [false, true, false]);
        assert!(ALL[3].reached(&results).is_none(), "not measured is neither met nor missed");
    }
}
