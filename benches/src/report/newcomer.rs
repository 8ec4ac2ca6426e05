//! What stands first in the report: five lines and one small table, for a reader who wants to know
//! how Sinew stands beside what they use today.

use super::{
    Conditions,
    document::push,
    measures::{Better, Measure, number},
};
use crate::{Contestant, Results, results::Spread};

/// The path that users take, over TCP.
pub(super) const SINEW: &str = "sinew";
/// The same on one host.
const SINEW_UNIX: &str = "sinew-unix";
/// The same message in protobuf.
const TONIC: &str = "tonic-prost";
const DYNAMO: &str = "dynamo";

/// The columns: the name of a peer, and what it is called here.
const COLUMNS: [(&str, &str); 5] = [
    (SINEW, "Sinew, TCP"),
    (SINEW_UNIX, "Sinew, Unix socket"),
    (TONIC, "tonic with prost"),
    ("nats", "NATS"),
    (DYNAMO, "Dynamo 1.6"),
];

/// The rows: workload, metric, and what a reader calls it.
const ROWS: [(&str, &str, &str); 7] = [
    ("unary-1", "p50_us", "a call, one caller: median"),
    ("unary-64", "per_second", "calls, 64 callers"),
    ("stream-16", "items_per_second", "items in streams of 256, 16 callers"),
    ("stream-1", "first_p50_us", "first item, one caller: median"),
    ("passes-flat", "cpu_ns", "CPU of an item, 256 streams at once"),
    ("large-4", "mib_per_second", "bodies of 1 MiB, 4 callers"),
    ("idle", "client_bytes", "memory of an idle stream, caller"),
];

/// Adds the lines and the table; nothing where Sinew's whole path was not measured.
pub(super) fn section(
    text: &mut String,
    peers: &[&dyn Contestant],
    results: &Results,
    conditions: &Conditions,
) {
    let columns: Vec<_> =
        COLUMNS.into_iter().filter(|(name, _)| peers.iter().any(|it| it.name() == *name)).collect();
    let rows: Vec<_> = ROWS.into_iter().filter_map(|row| cells(row, &columns, results)).collect();
    if rows.is_empty() || columns.first().is_none_or(|(name, _)| *name != SINEW) {
        return;
    }
    let machine = &conditions.machine;
    push(
        text,
        format_args!(
            "- A struct of three fields goes there and back, through the API that users of each \
             library call, between two processes.\n\
             - Sinew's whole path is measured: its facade, a router, discovery, the codec, and all \
             of its reliability.\n\
             {}{}- {} hardware threads, loopback; {}.\n\n",
            beside(results, TONIC, "tonic with prost, the same message"),
            beside(results, DYNAMO, "Dynamo with its router, discovery and codec"),
            machine.cpus,
            conditions.load.sentence(),
        ),
    );
    let titles: Vec<_> = columns.iter().map(|(_, title)| *title).collect();
    push(
        text,
        format_args!(
            "| | {} |\n|---|{}\n{}\n",
            titles.join(" | "),
            "---:|".repeat(titles.len()),
            rows.concat()
        ),
    );
}

/// One line of the table, the best of it in bold; `None` where Sinew was not measured.
fn cells(
    (workload, metric, title): (&str, &str, &str),
    columns: &[(&str, &str)],
    results: &Results,
) -> Option<String> {
    let measure = Measure::find(workload, metric)?;
    results.spread(workload, metric, SINEW)?;
    let spreads: Vec<Option<Spread>> =
        columns.iter().map(|(name, _)| results.spread(workload, metric, name)).collect();
    let best = spreads.iter().flatten().map(|it| it.median).reduce(match measure.better {
        Better::Lower => f64::min,
        Better::Higher => f64::max,
    })?;
    let shown = |spread: &Option<Spread>| match spread {
        None => "not measured".to_owned(),
        Some(it) if it.median == best => format!("**{}**", measure.with_unit(it.median)),
        Some(it) => measure.with_unit(it.median),
    };
    let cells: Vec<_> = spreads.iter().map(shown).collect();
    Some(format!("| {title} | {} |\n", cells.join(" | ")))
}

/// How Sinew stands beside another, in one line; empty where that was not measured.
fn beside(results: &Results, other: &str, words: &str) -> String {
    let ratio = |workload, metric| results.ratio(workload, metric, SINEW, other).map(number);
    let latency = results.ratio("unary-1", "p50_us", other, SINEW).map(number);
    let (Some(latency), Some(calls), Some(items)) =
        (latency, ratio("unary-64", "per_second"), ratio("stream-16", "items_per_second"))
    else {
        return String::new();
    };
    format!(
        "- Beside {words}: {latency} times as fast in a single call, {calls} times the calls of 64 \
         callers, {items} times the items in streams of 16 callers.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Pace, Sample,
        machine::{Load, Machine},
        variation::Variation,
    };
    use std::time::Duration;

    fn written(peers: &[(&str, f64)]) -> String {
        let mut results = Results::default();
        for (peer, factor) in peers {
            for (workload, metric, _) in ROWS {
                let better = Measure::find(workload, metric).unwrap().better;
                let value = if better == Better::Lower { 100.0 / factor } else { 100.0 * factor };
                let mut sample = Sample::default().with(metric, value);
                if workload == "stream-1" {
                    sample = sample.with("first_p50_us", value);
                }
                results.add(0, workload, peer, sample);
            }
        }
        let known = crate::builtin();
        let known: Vec<_> = known.iter().map(|peer| &**peer).collect();
        let conditions = Conditions {
            machine: Machine::look(),
            pace: Pace { warm_up: Duration::ZERO, measured: Duration::ZERO },
            load: Load { before: Some(0.01), others: Some(0.02), average: None },
            variation: Variation::default(),
            command: String::new(),
        };
        let mut text = String::new();
        section(&mut text, &known, &results, &conditions);
        text
    }

    #[test]
    fn a_newcomer_gets_a_few_lines_and_one_small_table() {
        let text =
            written(&[("sinew", 2.0), ("sinew-unix", 3.0), ("tonic-prost", 1.0), ("dynamo", 0.1)]);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("- ")).collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[2].contains("tonic with prost") && lines[2].contains("2.00 times"), "{text}");
        assert!(lines[3].contains("Dynamo") && lines[3].contains("20.0 times"), "{text}");
        assert!(lines[4].contains("the machine was idle"), "{text}");
        let table: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 2 + ROWS.len(), "{text}");
        // The columns are those peers that this program has.
        assert_eq!(table[0], "| | Sinew, TCP | Sinew, Unix socket |", "{text}");
        assert!(table[3].contains("200/s | **300/s**"), "the best is marked: {text}");
    }

    #[test]
    fn without_the_path_of_users_there_is_nothing_to_say() {
        assert_eq!(written(&[("sinew-tcp", 2.0), ("tonic-prost", 1.0)]), "");
    }
}
