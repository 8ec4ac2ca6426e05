//! A run: all peers after each other on each workload, then all over again.

use std::time::Duration;

use anyhow::Result;

use crate::{
    Contestant, Pace, Results, Sample, Workload, cell, machine,
    report::{measures, targets::is_other},
};

/// What is run.
pub(crate) struct Plan<'a> {
    pub(crate) peers: Vec<&'a dyn Contestant>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: usize,
    pub(crate) pace: Pace,
    /// Print each sample as a line of JSON.
    pub(crate) json: bool,
}

/// The pace of a run that is published, in 5 rounds.
pub(crate) const FULL: Pace =
    Pace { warm_up: Duration::from_millis(150), measured: Duration::from_millis(600) };

/// Of one that shows whether all works, in 3 rounds.
pub(crate) const QUICK: Pace =
    Pace { warm_up: Duration::from_millis(40), measured: Duration::from_millis(180) };

impl Plan<'_> {
    /// Runs it, with a line on standard error for each workload of each round.
    #[expect(clippy::print_stderr, reason = "a run takes minutes, so it shows where it is")]
    pub(crate) fn run(&self) -> Result<Results> {
        let mut results = Results::default();
        for round in 0..self.rounds {
            for workload in &self.workloads {
                let mut line =
                    format!("round {} of {}  {:<12}", round + 1, self.rounds, workload.name);
                let fits = |peer: &&&dyn Contestant| peer.runs(workload);
                for peer in self.peers.iter().filter(fits) {
                    let sample = match cell::spawn(*peer, workload, self.pace) {
                        Ok(sample) => sample,
                        // The faults of others are not ours to mend, and the rest is still good. A
                        // peer of another program has others at its other end.
                        Err(error) if is_other(peer.name()) || peer.program().is_some() => {
                            eprintln!("round {}: {error:#}", round + 1);
                            results.add_failure(round, workload.name, peer.name());
                            continue;
                        }
                        Err(error) => return Err(error.context(format!("round {}", round + 1))),
                    };
                    line += &format!("  {} {}", peer.name(), headline(workload, &sample));
                    if self.json {
                        print_json(round, workload, *peer, &sample)?;
                    }
                    results.add(round, workload.name, peer.name(), sample);
                }
                eprintln!("{line}");
            }
        }
        Ok(results)
    }
}

/// The first measure of a workload, in short.
fn headline(workload: &Workload, sample: &Sample) -> String {
    let measure = measures::of(workload).into_iter().next();
    let value = measure.and_then(|measure| Some((measure, sample.get(measure.metric)?)));
    value.map_or_else(|| "-".to_owned(), |(measure, value)| measure.with_unit(value))
}

#[expect(clippy::print_stdout, reason = "asked for with --json")]
fn print_json(
    round: usize,
    workload: &Workload,
    peer: &dyn Contestant,
    sample: &Sample,
) -> Result<()> {
    let line = serde_json::json!({
        "round": round + 1,
        "workload": workload.name,
        "peer": peer.name(),
        "load": machine::load_average(),
        "metrics": serde_json::to_value(sample)?,
    });
    println!("{line}");
    Ok(())
}
