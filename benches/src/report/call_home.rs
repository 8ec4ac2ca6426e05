//! The report's section on call-home: shared connections beside a connection for each response.

use super::{
    document::push,
    measures::{Measure, share},
    measures_of,
    targets::{self, POOLED, SINGLE, Target},
};
use crate::{Results, Workload};

const ABOUT: &str = "\
A request goes to the worker in one of Dynamo's TCP frames and is acknowledged there; its response
comes back on another connection, for which the worker dials the caller. Unpooled (`sinew-split-single`)
each response has a connection of its own, with handshake, prologue and sentinel. Pooled
(`sinew-split-pooled`) the worker keeps a few connections to the caller, and responses are streams
on them. All else is the same code. Connections are those for responses, at the end of a measurement
and so under load. Reuse is `tcp_pool_connections_reused_total` as a share of it and of
`tcp_pool_connections_created_total` together, as the server counted them since its start.
";

/// Adds the section, unless neither of the two was measured.
pub(super) fn section(text: &mut String, workloads: &[Workload], results: &Results) {
    let targets = targets::of_run(workloads);
    let rows: Vec<_> = measures_of(workloads)
        .filter(|measure| measure.told.pooled())
        .filter_map(|measure| row(&measure, &targets, results))
        .collect();
    if rows.is_empty() {
        return;
    }
    push(
        text,
        format_args!(
            "\n## Pooled call-home\n\n{ABOUT}\n| measure | pooled | unpooled | pooled / unpooled | \
             target for pooled |\n|---|---|---|---|---|\n{}",
            rows.concat()
        ),
    );
}

fn row(measure: &Measure, targets: &[&'static Target], results: &Results) -> Option<String> {
    let median = |peer| {
        let spread = results.spread(measure.workload, measure.metric, peer)?;
        Some(measure.with_unit(spread.median))
    };
    let (pooled, single) = (median(POOLED), median(SINGLE));
    if pooled.is_none() && single.is_none() {
        return None;
    }
    let ratio = results.ratio(measure.workload, measure.metric, POOLED, SINGLE);
    let verdicts: Vec<_> = targets::of(targets, measure, POOLED)
        .filter_map(|target| {
            Some(format!("{}: {}", target.text(), target.reached(results)?.verdict()))
        })
        .collect();
    Some(format!(
        "| {} | {} | {} | {} | {} |\n",
        measure.full_title(),
        pooled.unwrap_or_default(),
        single.unwrap_or_default(),
        ratio.map(share).unwrap_or_default(),
        verdicts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, variation::Variation, workload};

    #[test]
    fn the_two_stand_side_by_side_with_the_ratio_of_the_same_rounds() {
        let mut results = Results::default();
        // The machine was slower by half in the second round.
        for (round, (pooled, single)) in
            [(30.0, 60.0), (45.0, 90.0), (31.0, 62.0)].into_iter().enumerate()
        {
            let sample = |p50| Sample::default().with("p50_us", p50);
            let sample_of_pool = sample(pooled).with("pool_reuse_percent", 99.996);
            results.add(round, "unary-64", POOLED, sample_of_pool);
            results.add(round, "unary-64", SINGLE, sample(single));
        }
        let mut text = String::new();
        section(&mut text, &workload::list(&Variation::default()), &results);
        let latency = "| Unary calls: 64 callers, median latency | 31.0 µs | 62.0 µs | 0.50 | at \
                       most 0.95 x sinew-split-single: met |\n";
        assert!(text.contains(latency), "{text}");
        // What is not whole does not read as if it were.
        assert!(
            text.contains("reuse of connections | 99.99 % |  |  | at least 99.00 %: met"),
            "{text}"
        );
        assert!(!text.contains("16 callers"), "{text}");
    }

    #[test]
    fn there_is_no_section_when_neither_was_measured() {
        let mut results = Results::default();
        results.add(0, "unary-1", "sinew-tcp", Sample::default().with("p50_us", 9.0));
        let mut text = String::new();
        section(&mut text, &workload::list(&Variation::default()), &results);
        assert_eq!(text, "");
    }
}
