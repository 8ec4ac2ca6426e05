//! `docs/benchmarks.md`, written whole.

use std::fmt::Write;

use super::{
    Conditions, call_home,
    measures::{GROUPS, Measure, number},
    measures_of,
    targets::{self, Target, is_other},
};
use crate::{Contestant, Results, Workload, cell};

/// Peers that others are given as multiples of.
const LIMITS: [&str; 2] = ["raw-mux", "raw-muxi"];

/// Targets that need more than this program has, said so that nobody takes them for met.
const NOT_MEASURED: &str = "\
- Sinew's request plane over NATS.
- More than one machine: all of this is loopback, where a round trip costs nothing but CPU.
";

/// The same where they have no part in the run.
const WITHOUT_OTHERS: &str = "\
- Other systems (tonic, tarpc, NATS, QUIC, HTTP, Dynamo, velo), and Sinew with a stock Dynamo worker:
  `cargo xtask bench --peers` has them.
";

pub(super) fn compose(
    peers: &[&dyn Contestant],
    workloads: &[Workload],
    results: &Results,
    conditions: &Conditions,
) -> String {
    let mut text = String::new();
    head(&mut text, peers, results, conditions);
    summary(&mut text, results);
    for group in GROUPS {
        let measures: Vec<_> = measures_of(workloads)
            .filter(|measure| measure.told.by_peer())
            .filter(|measure| measure.group().is_some_and(|of| of.name == group.name))
            .collect();
        if measures.is_empty() {
            continue;
        }
        push(&mut text, format_args!("\n## {}\n\n{}\n", group.title, group.about));
        for measure in measures {
            table(&mut text, measure, peers, results);
        }
    }
    call_home::section(&mut text, workloads, results);
    failures(&mut text, results);
    let others = if peers.iter().any(|peer| is_other(peer.name())) { "" } else { WITHOUT_OTHERS };
    push(&mut text, format_args!("\n## Not measured here\n\n{others}{NOT_MEASURED}"));
    text
}

fn head(text: &mut String, peers: &[&dyn Contestant], results: &Results, conditions: &Conditions) {
    let Conditions { machine, pace, load_before, load_after, command } = conditions;
    let others = match peers.iter().any(|peer| is_other(peer.name())) {
        true => " and beside what others would use in its place",
        false => "",
    };
    push(
        text,
        format_args!(
            "# Benchmarks\n\nWritten by `{command}`; do not edit. Sinew beside the least that a \
             mux over TCP can cost{others}, in one run, with Sinew's limits, flow control, \
             keep-alive and item counts on, as they always are.\n\n"
        ),
    );
    for peer in peers {
        push(text, format_args!("- **{}**: {}.\n", peer.name(), peer.about()));
    }
    push(
        text,
        format_args!(
            "\n| | |\n|---|---|\n| date | {}, commit {} |\n| machine | {}, {} hardware threads, \
             {} |\n| compiler | {} |\n| load average | {} before the run, {} after |\n| shape | \
             {} rounds; in each, every workload on every peer in turn, {} ms after a warm-up of \
             {} ms |\n| processes | client and server apart and new for each measurement, tokio \
             with {} workers each, loopback |\n",
            machine.date,
            machine.revision,
            machine.processor,
            machine.cpus,
            machine.system,
            machine.compiler,
            load(*load_before),
            load(*load_after),
            results.rounds(),
            pace.measured.as_millis(),
            pace.warm_up.as_millis(),
            cell::WORKERS,
        ),
    );
    if load_before.is_some_and(|load| load > machine.cpus as f64 / 2.0) {
        text.push_str("\n**The machine was busy with something else when the run began.**\n");
    }
    text.push_str(
        "\nNumbers are medians over the rounds. Ratios are taken within each round, and their \
         median is quoted: absolute numbers move with the machine, ratios hold.\n",
    );
}

fn load(average: Option<f64>) -> String {
    average.map_or("unknown".to_owned(), |average| format!("{average:.2}"))
}

fn summary(text: &mut String, results: &Results) {
    let answers: Vec<_> =
        targets::ALL.iter().filter_map(|target| Some((target, target.reached(results)?))).collect();
    let met = answers.iter().filter(|(_, reached)| reached.is_met).count();
    push(
        text,
        format_args!(
            "\n## Targets\n\n{met} of {} met, {} missed.\n\n\
             ![Share of the raw muxes' performance that Sinew reaches](benchmarks.svg)\n\n\
             | measure | peer | target | reached | |\n|---|---|---|---|---|\n",
            answers.len(),
            answers.len() - met
        ),
    );
    for (target, reached) in answers {
        let measure = Measure::find(target.workload, target.metric);
        push(
            text,
            format_args!(
                "| {} | {} | {} | {} | {} |\n",
                measure.map_or_else(|| target.workload.to_owned(), Measure::full_title),
                target.peer,
                target.text(),
                target.reached_text(reached),
                reached.verdict()
            ),
        );
    }
}

fn table(text: &mut String, measure: &Measure, peers: &[&dyn Contestant], results: &Results) {
    let best = results.best(measure, is_other);
    let best = best.as_deref();
    let (title, line) = match best {
        Some(best) => (format!(" x {best}, the best other |"), "---|"),
        None => (String::new(), ""),
    };
    push(
        text,
        format_args!(
            "\n### {} ({})\n\n| peer | median | min to max | x raw-mux | x raw-muxi |{title} target \
             |\n|---|---|---|---|---|{line}---|\n",
            capitalised(measure.title),
            measure.better.text()
        ),
    );
    for peer in peers {
        let name = peer.name();
        let Some(spread) = results.spread(measure.workload, measure.metric, name) else {
            let more = if best.is_some() { " |" } else { "" };
            push(text, format_args!("| {name} | not measured | | | | |{more}\n"));
            continue;
        };
        let ratio_to = |base: &str| {
            let ratio = results.ratio(measure.workload, measure.metric, name, base);
            ratio.filter(|_| base != name).map(number).unwrap_or_default()
        };
        let ratios: Vec<_> = LIMITS.into_iter().chain(best).map(ratio_to).collect();
        let verdicts: Vec<_> = Target::of(measure, name)
            .filter_map(|target| {
                Some(format!("{}: {}", target.text(), target.reached(results)?.verdict()))
            })
            .collect();
        push(
            text,
            format_args!(
                "| {name} | {} | {} to {} | {} | {} |\n",
                measure.with_unit(spread.median),
                number(spread.min),
                number(spread.max),
                ratios.join(" | "),
                verdicts.join(", ")
            ),
        );
    }
}

fn failures(text: &mut String, results: &Results) {
    let mut failures = results.failures().peekable();
    if failures.peek().is_none() {
        return;
    }
    text.push_str("\n## Failed\n\nMeasurements that ended with an error or not at all; the medians are of the rest.\n\n");
    for (workload, peer, rounds) in failures {
        push(text, format_args!("- {workload} on {peer}: {rounds} of {}\n", results.rounds()));
    }
}

/// Headings begin with a capital; titles begin small, as they also follow a colon.
fn capitalised(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

pub(super) fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(arguments);
}
