//! What Sinew should reach, as ratios within one run, and whether it does.

use super::measures::{Measure, number};
use crate::{Results, Workload};

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
    /// The same measure of the best [other](is_other) in the same run.
    BestOther,
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

/// The path that users take: what is claimed against tonic and Dynamo is claimed of it.
const SINEW: &str = "sinew";
/// The same within a process.
const LOCAL: &str = "sinew-local";
const TCP: &str = "sinew-tcp";
const CHECKED: &str = "sinew-tcp-checked";
const UDS: &str = "sinew-uds";
/// Call-home over shared connections.
pub(crate) const POOLED: &str = "sinew-split-pooled";
/// Call-home with a connection for each response.
pub(crate) const SINGLE: &str = "sinew-split-single";
/// A Sinew caller of a stock Dynamo worker.
const TO_DYNAMO: &str = "sinew-to-dynamo";
/// With the same message, as its users have it.
const TONIC: Of = Of::Peer("tonic-prost");
const OF_TCP: Of = Of::Peer(TCP);
const QUIC: Of = Of::Peer("quic");
const DYNAMO: Of = Of::Peer("dynamo");
const VELO: Of = Of::Peer("velo-mux");
const SAME_UNPOOLED: Of = Of::Peer(SINGLE);
const RAW_MUX: Of = Of::Peer("raw-mux");
const RAW_MUXI: Of = Of::Peer("raw-muxi");

/// All targets, in the order of the report: first the bare transport against the least that a mux
/// costs, then what users call against the bare transport and against what others have.
pub(crate) const ALL: &[Target] = &[
    target("unary-1", "p50_us", TCP, AtMost(1.15), RAW_MUX),
    target("unary-64", "per_second", TCP, AtLeast(0.8), RAW_MUXI),
    target("unary-256", "per_second", TCP, AtLeast(0.8), RAW_MUXI),
    target("stream-1", "items_per_second", TCP, AtLeast(0.8), RAW_MUXI),
    target("stream-1", "first_p50_us", TCP, AtMost(1.4), RAW_MUX),
    target("stream-1", "cpu_ns", TCP, AtMost(1.4), RAW_MUX),
    target("stream-16", "items_per_second", TCP, AtLeast(0.8), RAW_MUXI),
    target("stream-16", "cpu_ns", TCP, AtMost(1.4), RAW_MUX),
    target("stream-64", "items_per_second", TCP, AtLeast(0.8), RAW_MUXI),
    target("stream-64", "cpu_ns", TCP, AtMost(1.4), RAW_MUX),
    target("passes-flat", "cpu_ns", TCP, AtMost(1.45), RAW_MUX),
    target("passes-flat", "writes_per_pass", TCP, AtMost(6.0), Of::Unit),
    target("passes-paced", "writes_per_pass", TCP, AtMost(6.0), Of::Unit),
    target("passes-two-flat", "cpu_ns", TCP, AtMost(1.45), RAW_MUX),
    target("large-1", "mib_per_second", TCP, AtLeast(0.85), RAW_MUX),
    target("large-4", "mib_per_second", TCP, AtLeast(0.85), RAW_MUX),
    target("large-4", "mib_per_second", UDS, AtLeast(1.5), OF_TCP),
    target("idle", "client_bytes", TCP, AtMost(640.0), Of::Unit),
    target("idle", "server_bytes", TCP, AtMost(640.0), Of::Unit),
    target("paced-512", "deviation_p99_us", TCP, AtMost(1.2), RAW_MUXI),
    target("unary-64", "per_second", CHECKED, AtLeast(0.88), OF_TCP),
    target("stream-64", "items_per_second", CHECKED, AtLeast(0.88), OF_TCP),
    target("passes-flat", "cpu_ns", CHECKED, AtMost(1.12), OF_TCP),
    target("unary-1", "p50_us", POOLED, AtMost(0.95), SAME_UNPOOLED),
    target("unary-1", "p99_us", POOLED, AtMost(0.9), SAME_UNPOOLED),
    target("unary-16", "p50_us", POOLED, AtMost(0.95), SAME_UNPOOLED),
    target("unary-16", "p99_us", POOLED, AtMost(0.9), SAME_UNPOOLED),
    target("unary-64", "p50_us", POOLED, AtMost(0.95), SAME_UNPOOLED),
    target("unary-64", "p99_us", POOLED, AtMost(0.9), SAME_UNPOOLED),
    target("unary-64", "pool_reuse_percent", POOLED, AtLeast(99.0), Of::Unit),
    target("idle-1000", "response_connections", POOLED, AtMost(4.0), Of::Unit),
    target("unary-1", "p50_us", SINEW, AtMost(1.2), OF_TCP),
    target("unary-1", "p50_us", SINEW, AtMost(0.5), TONIC),
    target("unary-64", "per_second", SINEW, AtLeast(0.7), OF_TCP),
    target("unary-64", "per_second", SINEW, AtLeast(4.0), TONIC),
    target("unary-64", "per_second", SINEW, AtLeast(15.0), DYNAMO),
    target("unary-256", "per_second", SINEW, AtLeast(0.7), OF_TCP),
    target("unary-256", "per_second", SINEW, AtLeast(4.0), TONIC),
    target("unary-256", "per_second", SINEW, AtLeast(15.0), DYNAMO),
    target("stream-1", "items_per_second", SINEW, AtLeast(0.75), OF_TCP),
    target("stream-1", "items_per_second", SINEW, AtLeast(1.2), TONIC),
    target("stream-1", "items_per_second", SINEW, AtLeast(10.0), DYNAMO),
    target("stream-1", "first_p50_us", SINEW, AtMost(1.0), TONIC),
    target("stream-16", "items_per_second", SINEW, AtLeast(0.75), OF_TCP),
    target("stream-16", "items_per_second", SINEW, AtLeast(1.3), TONIC),
    target("stream-16", "items_per_second", SINEW, AtLeast(10.0), DYNAMO),
    target("stream-64", "items_per_second", SINEW, AtLeast(0.75), OF_TCP),
    target("stream-64", "items_per_second", SINEW, AtLeast(1.5), TONIC),
    target("stream-64", "items_per_second", SINEW, AtLeast(10.0), DYNAMO),
    target("passes-flat", "cpu_ns", SINEW, AtMost(1.4), OF_TCP),
    target("large-1", "mib_per_second", SINEW, AtLeast(1.2), Of::BestOther),
    target("large-4", "mib_per_second", SINEW, AtLeast(1.2), Of::BestOther),
    target("paced-512", "deviation_p99_us", SINEW, AtMost(1.0), TONIC),
    target("idle", "client_bytes", SINEW, AtMost(1536.0), Of::Unit),
    target("idle", "client_bytes", SINEW, AtMost(0.25), TONIC),
    target("idle", "server_bytes", SINEW, AtMost(1536.0), Of::Unit),
    target("idle", "server_bytes", SINEW, AtMost(0.25), TONIC),
    target("unary-1", "p50_us", LOCAL, AtMost(0.4), Of::Unit),
    target("stream-1", "cpu_ns", LOCAL, AtMost(40.0), Of::Unit),
    target("unary-1", "p50_us", TCP, AtMost(1.0), Of::Peer("tarpc")),
    target("stream-16", "items_per_second", TCP, AtLeast(1.0), QUIC),
    target("stream-64", "items_per_second", TCP, AtLeast(1.0), QUIC),
    target("passes-two-flat", "cpu_ns", TCP, AtMost(1.0), VELO),
    target("passes-two-paced", "cpu_ns", TCP, AtMost(1.0), VELO),
    target("passes-1024-flat", "cpu_ns", TCP, AtMost(1.0), VELO),
    target("passes-1024-paced", "cpu_ns", TCP, AtMost(1.0), VELO),
    target("unary-64", "per_second", TO_DYNAMO, AtLeast(1.0), DYNAMO),
    target("stream-16", "items_per_second", TO_DYNAMO, AtLeast(1.0), DYNAMO),
];

/// What neither is Sinew nor only a limit: what somebody would use in its place.
pub(crate) fn is_other(peer: &str) -> bool {
    !peer.starts_with("raw-") && !peer.starts_with("sinew")
}

/// Those that a run can answer: of workloads that it has in the shape that the targets are about.
pub(crate) fn of_run(workloads: &[Workload]) -> Vec<&'static Target> {
    let standard = workloads.iter().filter(|workload| workload.is_standard());
    let names: Vec<_> = standard.map(|workload| workload.name).collect();
    ALL.iter().filter(|target| names.contains(&target.workload)).collect()
}

/// Those of a peer in a measure.
pub(crate) fn of<'a>(
    targets: &'a [&'static Target],
    measure: &'a Measure,
    peer: &'a str,
) -> impl Iterator<Item = &'static Target> + use<'a> {
    targets.iter().copied().filter(move |target| {
        (target.workload, target.metric, target.peer) == (measure.workload, measure.metric, peer)
    })
}

impl Target {
    /// What it asks for: `at most 1.30 x raw-mux`.
    pub(crate) fn text(&self) -> String {
        let (word, bound) = match self.bound {
            AtMost(bound) => ("most", bound),
            AtLeast(bound) => ("least", bound),
        };
        match self.of {
            Of::Peer(peer) => format!("at {word} {} x {peer}", number(bound)),
            Of::BestOther => format!("at {word} {} x the best other", number(bound)),
            Of::Unit => format!("at {word} {}", self.with_unit(bound)),
        }
    }

    /// What was reached, as it is read beside what is asked for.
    pub(crate) fn reached_text(&self, reached: Reached) -> String {
        match self.of {
            Of::Peer(_) | Of::BestOther => number(reached.value),
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
            Of::BestOther => {
                let measure = Measure::find(self.workload, self.metric)?;
                let best = results.best(measure, is_other)?;
                results.ratio(self.workload, self.metric, self.peer, &best)?
            }
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
    use crate::{Sample, Shape};

    #[test]
    fn every_target_is_of_a_known_measure() {
        for target in ALL {
            let measure = Measure::find(target.workload, target.metric);
            let measure = measure.unwrap_or_else(|| panic!("{target:?}"));
            assert!(of(&[target], measure, target.peer).count() > 0);
        }
    }

    #[test]
    fn another_shape_has_no_targets() {
        let shape =
            |bytes| [Workload { name: "unary-1", shape: Shape::Unary { callers: 1, bytes } }];
        assert!(!of_run(&shape(128)).is_empty());
        assert!(of_run(&shape(16)).is_empty());
    }

    #[test]
    fn the_best_other_is_neither_sinew_nor_raw() {
        let mut results = Results::default();
        let rates = [("sinew", 40.0), ("raw-conn", 90.0), ("tonic", 10.0), ("quic", 20.0)];
        for (peer, rate) in rates {
            results.add(0, "large-1", peer, Sample::default().with("mib_per_second", rate));
        }
        let target = ALL.iter().find(|target| matches!(target.of, Of::BestOther)).unwrap();
        assert_eq!(target.text(), "at least 1.20 x the best other");
        let reached = target.reached(&results).unwrap();
        assert_eq!((reached.value, reached.is_met), (2.0, true));
    }

    /// A bare transport beside somebody's whole product would compare what nobody uses.
    #[test]
    fn what_is_claimed_against_tonic_and_dynamo_is_claimed_of_what_users_call() {
        for target in ALL {
            let is_whole = [SINEW, TO_DYNAMO].contains(&target.peer);
            match target.of {
                Of::Peer(name) if name.starts_with("tonic") || name.starts_with("dynamo") => {
                    assert!(is_whole, "{target:?}");
                }
                Of::BestOther => assert!(is_whole, "{target:?}"),
                Of::Peer(_) | Of::Unit => {}
            }
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
