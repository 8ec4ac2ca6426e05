//! Who is ahead of whom: the peers of each measure, the best first.
//!
//! Somebody who repeats a run with other sizes or on another machine compares these lines.

use super::{
    document::push,
    measures::{Better, Measure, share},
    measures_of,
    targets::is_other,
};
use crate::{Contestant, Results, Workload};

/// The peer that the others are given as multiples of, and the one in its place in a run without it.
const BASES: [&str; 2] = ["sinew", "sinew-tcp"];

const ABOUT: &str = "\
For each measure the peers, the best first, each as a multiple of `{base}` in the same round: 2.00 is
twice the rate in one line and twice the latency in another. What stands left of `{base}` is ahead of
it.
";

fn base(peers: &[&dyn Contestant]) -> &'static str {
    let is_there = |base: &&str| peers.iter().any(|peer| peer.name() == *base);
    BASES.into_iter().find(is_there).unwrap_or(BASES[0])
}

/// The order in one measure: peers with their ratios, the best first. `None` where the base or
/// everybody else was not measured.
fn order<'a>(
    measure: &Measure,
    peers: &[&'a dyn Contestant],
    results: &Results,
) -> Option<Vec<(&'a str, f64)>> {
    let base = base(peers);
    let ratio =
        |name| results.ratio(measure.workload, measure.metric, name, base).map(|it| (name, it));
    let mut order: Vec<_> = peers.iter().filter_map(|peer| ratio(peer.name())).collect();
    order.sort_by(|(_, one), (_, two)| match measure.better {
        Better::Lower => one.total_cmp(two),
        Better::Higher => two.total_cmp(one),
    });
    (order.len() > 1).then_some(order)
}

fn rows(
    peers: &[&dyn Contestant],
    workloads: &[Workload],
    results: &Results,
    shown_base: &str,
) -> Vec<(String, String)> {
    let base = base(peers);
    let measures = measures_of(workloads).filter(|measure| measure.told.by_peer());
    let rows = measures.filter_map(|measure| {
        let shown = |(name, ratio): &(&str, f64)| match *name {
            name if name == base => shown_base.to_owned(),
            name => format!("{name} {}", share(*ratio)),
        };
        let order: Vec<_> = order(&measure, peers, results)?.iter().map(shown).collect();
        Some((measure.full_title(), order.join(", ")))
    });
    rows.collect()
}

/// True for a run in which the order is asked for: beside others, or not of the standard shape.
fn is_asked(peers: &[&dyn Contestant], workloads: &[Workload]) -> bool {
    peers.iter().any(|peer| is_other(peer.name()))
        || workloads.iter().any(|workload| !workload.is_standard())
}

/// Adds the report's section.
pub(super) fn section(
    text: &mut String,
    peers: &[&dyn Contestant],
    workloads: &[Workload],
    results: &Results,
) {
    let base = base(peers);
    let rows = rows(peers, workloads, results, &format!("**{base}**"));
    if rows.is_empty() || !is_asked(peers, workloads) {
        return;
    }
    push(
        text,
        format_args!(
            "\n## Order of the peers\n\n{}\n| measure | best first |\n|---|---|\n",
            ABOUT.replace("{base}", base)
        ),
    );
    for (title, order) in rows {
        push(text, format_args!("| {title} | {order} |\n"));
    }
}

/// The same for the terminal.
pub(crate) fn lines(
    peers: &[&dyn Contestant],
    workloads: &[Workload],
    results: &Results,
) -> String {
    let mut text = String::new();
    let base = base(peers);
    let rows = rows(peers, workloads, results, &format!("[{base}]"));
    if rows.is_empty() || !is_asked(peers, workloads) {
        return text;
    }
    push(&mut text, format_args!("Order of the peers, best first, as multiples of {base}:\n"));
    for (title, order) in rows {
        push(&mut text, format_args!("  {title}\n    {order}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Shape};

    #[test]
    fn the_best_stand_first_whichever_way_is_better() {
        let mut results = Results::default();
        let values =
            [("raw-mux", 8.0), ("raw-muxi", 5.0), ("sinew-tcp", 10.0), ("sinew-uds", 20.0)];
        for (peer, value) in values {
            let sample = Sample::default().with("p50_us", value).with("per_second", value);
            results.add(0, "unary-4", peer, sample);
        }
        let peers = crate::builtin();
        let is_bare = |name: &str| values.iter().any(|(known, _)| *known == name);
        let peers: Vec<_> =
            peers.iter().map(|peer| &**peer).filter(|peer| is_bare(peer.name())).collect();
        let shape = Shape::Unary { callers: 4, bytes: 16 };
        let text = lines(&peers, &[Workload { name: "unary-4", shape }], &results);
        let rate =
            "requests per second\n    sinew-uds 2.00, [sinew-tcp], raw-mux 0.80, raw-muxi 0.50";
        assert!(text.contains(rate), "{text}");
        let latency =
            "median latency\n    raw-muxi 0.50, raw-mux 0.80, [sinew-tcp], sinew-uds 2.00";
        assert!(text.contains(latency), "{text}");
        assert!(!text.contains("99th"), "what was not measured has no order: {text}");
    }

    #[test]
    fn a_standard_run_of_our_own_has_no_need_of_it() {
        let mut results = Results::default();
        for peer in ["raw-mux", "sinew-tcp"] {
            results.add(0, "connect", peer, Sample::default().with("p50_us", 1.0));
        }
        let peers = crate::builtin();
        let peers: Vec<_> = peers.iter().map(|peer| &**peer).collect();
        let workloads = [Workload { name: "connect", shape: Shape::Connect }];
        assert_eq!(lines(&peers, &workloads, &results), "");
    }
}
