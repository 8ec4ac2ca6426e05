//! `docs/benchmarks.md`, written whole.

use std::fmt::Write;

use super::{
    Conditions, call_home,
    catalogue::GROUPS,
    header,
    measures::{Measure, number},
    measures_of, newcomer, order,
    targets::{self, Target, is_other},
};
use crate::{Contestant, Results, Workload};

/// Peers that others are given as multiples of.
const LIMITS: [&str; 2] = ["raw-mux", "raw-muxi"];

/// Targets that need more than this program has, said so that nobody takes them for met.
const NOT_MEASURED: &str = "\
- Memory of an idle connection; what scraped metrics and sampled traces cost in time (`cargo xtask
  guards` counts the instructions with telemetry on); more than one core for one peer. They have targets
  and no workload.
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
    let targets = targets::of_run(workloads);
    header::title(&mut text, peers, conditions);
    newcomer::section(&mut text, peers, results, conditions);
    header::header(&mut text, peers, results, conditions);
    summary(&mut text, &targets, results);
    order::section(&mut text, peers, workloads, results);
    for group in GROUPS {
        let measures: Vec<_> = measures_of(workloads)
            .filter(|measure| measure.told.by_peer())
            .filter(|measure| measure.group().is_some_and(|of| of.name == group.name))
            .collect();
        if measures.is_empty() {
            continue;
        }
        push(
            &mut text,
            format_args!("\n## {}\n\n{}\n", group.title, group.about(&conditions.variation)),
        );
        for measure in measures {
            table(&mut text, &measure, &targets, peers, results);
        }
    }
    call_home::section(&mut text, workloads, results);
    failures(&mut text, results);
    let others = if peers.iter().any(|peer| is_other(peer.name())) { "" } else { WITHOUT_OTHERS };
    push(&mut text, format_args!("\n## Not measured here\n\n{others}{NOT_MEASURED}"));
    text
}

fn summary(text: &mut String, targets: &[&Target], results: &Results) {
    let answers: Vec<_> =
        targets.iter().filter_map(|target| Some((target, target.reached(results)?))).collect();
    if answers.is_empty() {
        text.push_str("\n## Targets\n\nNothing here has the shape that a target is about.\n");
        return;
    }
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

fn table(
    text: &mut String,
    measure: &Measure,
    targets: &[&'static Target],
    peers: &[&dyn Contestant],
    results: &Results,
) {
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
            capitalised(&measure.title()),
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
        let verdicts: Vec<_> = targets::of(targets, measure, name)
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
