//! The command line.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::{
    Contestant, Workload, cell,
    elsewhere::{self, elsewhere},
    gap,
    machine::{LoadWatch, Machine},
    report::{self, Conditions},
    rounds::{FULL, Plan, QUICK},
    variation::Variation,
    workload,
};

/// Fewest rounds that are published: a median of two says nothing about the spread.
const FEWEST_ROUNDS: usize = 3;

/// How long the machine is watched before a run: is something else going on?
const QUIET: Duration = Duration::from_secs(2);

/// Where the report of a whole run goes.
const DOCS: &str = "docs";

/// Measure peers side by side and write docs/benchmarks.md with its plot.
#[derive(Parser)]
#[command(
    name = "sinew-bench",
    after_help = "\
Examples:
  sinew-bench                                   # all: about 12 minutes
  sinew-bench --quick                           # all, in about 4 minutes, without a report
  sinew-bench --only raw-muxi,sinew-tcp --workload stream --rounds 9
  sinew-bench --item-bytes 16 --callers 4,128   # does the order of the peers stay?
  sinew-bench gap                               # what a cut costs a stream: about 2 minutes

With all peers (cargo xtask bench --peers) a run takes about 35 minutes, with --quick about 9."
)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// Shorter measurements and 3 rounds; writes no report unless --out says where
    #[arg(long)]
    quick: bool,
    /// Rounds, each with every workload on every peer [default: 5, with --quick 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// Milliseconds of each measurement, after a warm-up of a quarter of it
    #[arg(long)]
    millis: Option<u64>,
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_name = "PEER,..")]
    only: Vec<String>,
    /// Only these workloads, or all whose name begins so: unary, stream-64, ..
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD,..")]
    workload: Vec<String>,
    #[command(flatten)]
    variation: Variation,
    /// Folder for the report [default: docs, for a run with all peers and workloads]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print each sample as a line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// What the program starts itself as.
#[derive(Subcommand)]
enum Part {
    Gap(gap::Options),
    #[command(hide = true)]
    GapServe(gap::ServeOptions),
    #[command(hide = true)]
    Serve {
        peer: String,
    },
    #[command(hide = true)]
    Consume {
        peer: String,
        streams: usize,
        addresses: Vec<String>,
    },
    /// Workload and pace are JSON
    #[command(hide = true)]
    Cell {
        peer: String,
        workload: String,
        pace: String,
    },
    /// Says which peers it has, for another program that takes them in; workloads are JSON
    #[command(hide = true)]
    List {
        workloads: String,
    },
}

/// Runs the program with these peers and those of other such programs; the status to exit with.
/// `typed` is what a reader types to run it, in the report.
#[expect(clippy::print_stderr, reason = "the way a program says why it failed")]
pub fn run(typed: &str, peers: Vec<Box<dyn Contestant>>, programs: &[&Path]) -> i32 {
    match dispatch(&Cli::parse(), typed, peers, programs) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("sinew-bench: {error:#}");
            1
        }
    }
}

#[expect(clippy::print_stdout, reason = "a cell's result goes to its parent")]
fn dispatch(
    cli: &Cli,
    typed: &str,
    mut peers: Vec<Box<dyn Contestant>>,
    programs: &[&Path],
) -> Result<()> {
    match &cli.part {
        Some(Part::Serve { peer }) => cell::serve(find(&peers, peer)?),
        Some(Part::Consume { peer, streams, addresses }) => {
            cell::consume(find(&peers, peer)?, *streams, addresses)
        }
        Some(Part::Cell { peer, workload, pace }) => {
            let (workload, pace) = (serde_json::from_str(workload)?, serde_json::from_str(pace)?);
            let sample = cell::run(find(&peers, peer)?, &workload, pace)?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
        Some(Part::Gap(options)) => gap::run(options),
        Some(Part::GapServe(options)) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cell::WORKERS)
            .enable_all()
            .build()?
            .block_on(gap::serve(options)),
        Some(Part::List { workloads }) => {
            elsewhere::list(&peers, &serde_json::from_str::<Vec<_>>(workloads)?)
        }
        None => {
            let workloads = workload::list(&cli.variation);
            for program in programs {
                peers.extend(elsewhere(program, &workloads)?);
            }
            measure(cli, typed, &peers)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
#[expect(clippy::print_stderr, reason = "where the report went, beside the table")]
fn measure(cli: &Cli, typed: &str, peers: &[Box<dyn Contestant>]) -> Result<()> {
    let plan = plan(cli, peers)?;
    let is_whole = plan.peers.len() == peers.len() && cli.workload.is_empty();
    let is_standard = plan.workloads.iter().all(Workload::is_standard);
    let by_default = (is_whole && is_standard && !cli.quick && cli.millis.is_none())
        .then(|| PathBuf::from(DOCS));
    let folder = cli.out.clone().or(by_default);
    if folder.is_some() && plan.rounds < FEWEST_ROUNDS {
        bail!("a report needs at least {FEWEST_ROUNDS} rounds: a median of fewer says nothing");
    }
    let machine = Machine::look();
    let watch = LoadWatch::start(QUIET);
    let results = plan.run()?;
    let conditions = Conditions {
        machine,
        pace: plan.pace,
        load: watch.end(),
        variation: cli.variation.clone(),
        command: command(cli, typed),
    };
    if !cli.json {
        println!("{}", report::table(&plan.peers, &plan.workloads, &results));
        println!("{}", report::order(&plan.peers, &plan.workloads, &results));
    }
    match folder {
        Some(folder) => {
            report::write(&folder, &plan.peers, &plan.workloads, &results, &conditions)?;
            eprintln!("wrote benchmarks.md and benchmarks.svg in {}", folder.display());
        }
        None => {
            eprintln!("no report written: --out DIR says where one of such a run goes")
        }
    }
    Ok(())
}

fn plan<'a>(cli: &Cli, peers: &'a [Box<dyn Contestant>]) -> Result<Plan<'a>> {
    let mut pace = if cli.quick { QUICK } else { FULL };
    if let Some(millis) = cli.millis {
        pace.measured = Duration::from_millis(millis.max(1));
        pace.warm_up = pace.measured / 4;
    }
    let rounds = cli.rounds.unwrap_or(if cli.quick { FEWEST_ROUNDS } else { 5 });
    if rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    for name in &cli.only {
        find(peers, name)?;
    }
    let is_asked = |name: &str| cli.only.is_empty() || cli.only.iter().any(|asked| asked == name);
    let peers = peers.iter().map(|peer| &**peer).filter(|peer| is_asked(peer.name())).collect();
    let workloads = workloads(&cli.workload, workload::list(&cli.variation))?;
    Ok(Plan { peers, workloads, rounds, pace, json: cli.json })
}

fn workloads(asked: &[String], mut known: Vec<Workload>) -> Result<Vec<Workload>> {
    let fits = |name: &str, asked: &str| {
        name == asked || name.strip_prefix(asked).is_some_and(|rest| rest.starts_with('-'))
    };
    let is_lost = |asked: &&String| !known.iter().any(|known| fits(known.name, asked));
    if let Some(lost) = asked.iter().find(is_lost) {
        let names: Vec<_> = known.iter().map(|known| known.name).collect();
        bail!("no workload {lost:?}; there are: {}", names.join(", "));
    }
    known.retain(|known| asked.is_empty() || asked.iter().any(|asked| fits(known.name, asked)));
    Ok(known)
}

fn find<'a>(peers: &'a [Box<dyn Contestant>], name: &str) -> Result<&'a dyn Contestant> {
    let found = peers.iter().find(|peer| peer.name() == name).map(|peer| &**peer);
    found.with_context(|| {
        let names: Vec<_> = peers.iter().map(|peer| peer.name()).collect();
        format!("no peer {name:?}; there are: {}", names.join(", "))
    })
}

/// What a reader types to repeat the run.
fn command(cli: &Cli, typed: &str) -> String {
    let mut text = typed.to_owned();
    let mut options = Vec::new();
    if cli.quick {
        options.push("--quick".to_owned());
    }
    options.extend(cli.rounds.map(|rounds| format!("--rounds {rounds}")));
    options.extend(cli.millis.map(|millis| format!("--millis {millis}")));
    for (option, names) in [("--only", &cli.only), ("--workload", &cli.workload)] {
        if !names.is_empty() {
            options.push(format!("{option} {}", names.join(",")));
        }
    }
    options.extend(cli.variation.options());
    if !options.is_empty() {
        text += &format!(" {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(arguments: &str) -> Cli {
        Cli::parse_from(std::iter::once("sinew-bench").chain(arguments.split_whitespace()))
    }

    #[test]
    fn workloads_are_named_whole_or_by_group() {
        let names = |asked: &str| -> Vec<_> {
            let known = workload::list(&Variation::default());
            let workloads = workloads(&[asked.to_owned()], known).unwrap();
            workloads.iter().map(|workload| workload.name).collect()
        };
        assert_eq!(names("unary-1"), ["unary-1"], "not unary-16 as well");
        assert_eq!(names("large"), ["large-1", "large-4"]);
        assert!(workloads(&["un".to_owned()], workload::list(&Variation::default())).is_err());
    }

    #[test]
    fn unknown_peers_and_too_few_rounds_are_refused() {
        let peers = crate::builtin();
        assert!(plan(&cli("--only nobody"), &peers).is_err());
        assert!(plan(&cli("--rounds 0"), &peers).is_err());
        let error = measure(&cli("--rounds 2"), "", &peers).unwrap_err();
        assert!(error.to_string().contains("at least 3 rounds"), "{error}");
    }

    #[test]
    fn the_command_is_what_was_typed() {
        assert_eq!(command(&cli(""), "cargo xtask bench"), "cargo xtask bench");
        let typed = "--quick --rounds 4 --only raw-mux --item-bytes 16 --callers 4,128";
        assert_eq!(command(&cli(typed), "bench"), format!("bench {typed}"));
    }
}
