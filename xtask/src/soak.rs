//! `soak`: builds the soak program as released, and runs it.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::workspace::Workspace;
use crate::{process, release};

/// The program, in the package of the same name.
const PROGRAM: &str = "sinew-soak";

/// What CI runs takes one minute and ends by itself two minutes later; more is a fault of the program.
const BRIEF_LIMIT: Duration = Duration::from_secs(240);

/// Run streams of many processes over connections that are cut, and check every item.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask soak                      # 5 minutes
  cargo xtask soak --minutes 1          # what CI runs
  cargo xtask soak --seed 7             # the items and cuts of an earlier run
  cargo xtask soak --roll               # 8 workers are replaced under 100 streams of 30 s a second

What runs is described in tests/soak/README.md. The exit code is not 0 if an item was lost, doubled,
out of order or damaged, a stream did not end, or a process grew; the seed is printed.")]
pub(crate) struct Options {
    /// About how long the run takes
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// The seed of the items and the cuts [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Replace all workers under an even load instead, once for each contract; takes 6 minutes
    #[arg(long, conflicts_with_all = ["minutes", "seed"])]
    roll: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    build(workspace)?;
    let mut soak = release::command(workspace, "release", PROGRAM);
    if options.roll {
        return process::run(soak.arg("roll"));
    }
    soak.args(["run", "--minutes", &options.minutes.to_string()]);
    if let Some(seed) = options.seed {
        soak.args(["--seed", &seed.to_string()]);
    }
    process::run(&mut soak)
}

/// As part of `ci`.
pub(crate) fn briefly(workspace: &Workspace) -> Result<()> {
    build(workspace)?;
    let mut soak = release::command(workspace, "release", PROGRAM);
    process::run_within(soak.args(["run", "--minutes", "1"]), BRIEF_LIMIT)?;
    let mut soak = release::command(workspace, "release", PROGRAM);
    soak.args(["roll", "--workers", "2", "--rate", "50", "--stream-seconds", "2"]);
    process::run_within(&mut soak, BRIEF_LIMIT)
}

/// Of the libraries that the command is made of.
fn build(workspace: &Workspace) -> Result<()> {
    release::build(workspace, "release", &[PROGRAM], &["--locked"])
}
