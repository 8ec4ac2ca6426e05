//! `guards`: counts what a call, an item and a pass cost, and fails above a limit.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::tools::{self, VALGRIND};
use crate::workspace::Workspace;
use crate::{process, release};

const PROGRAM: &str = "sinew-guards";

/// What it runs under valgrind.
const LOAD: &str = "sinew-guards-load";

/// It takes 15 s; each of its loads ends by itself on a machine that is too slow.
const LIMIT: Duration = Duration::from_secs(600);

/// Count allocations, writes, packets and instructions, and compare them with their limits.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask guards                    # what CI runs
  cargo xtask guards --no-instructions  # without valgrind, within a second
  cargo xtask guards --print            # and the table of limits with what was measured now
  cargo xtask guards --lines            # profiles in target/guards that know their source lines

Nothing is timed, so a busy machine changes nothing. The limits stand in
benches/guards/src/limits.rs. To pin new ones, replace its lines with those that --print prints.
Linux only, as the kernel is asked for the packets of each socket. valgrind is installed with apt
when it is missing and you are root; else the command to run is printed.")]
pub(crate) struct Options {
    /// Print the lines of the table with what was measured
    #[arg(long)]
    print: bool,
    /// Leave out what valgrind counts
    #[arg(long)]
    no_instructions: bool,
    /// Build with line tables, so that callgrind_annotate --auto=yes shows lines beside functions
    #[arg(long)]
    lines: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    guard(workspace, &[], options)
}

/// As part of `ci`: everything.
pub(crate) fn all(workspace: &Workspace) -> Result<()> {
    guard(workspace, &["--locked"], &Options { print: false, no_instructions: false, lines: false })
}

fn guard(workspace: &Workspace, extra: &[&str], options: &Options) -> Result<()> {
    let valgrind = match options.no_instructions {
        true => None,
        false => Some(tools::ensure(&[VALGRIND])?.pop().context("one tool was asked for")?),
    };
    let profile = if options.lines { "profiling" } else { "release" };
    release::build(workspace, profile, &[PROGRAM, LOAD], extra)?;
    let mut guards = release::command(workspace, profile, PROGRAM);
    guards.arg("--profiles").arg(workspace.target().join("guards"));
    match valgrind {
        Some(valgrind) => guards.arg("--valgrind").arg(valgrind),
        None => guards.arg("--no-instructions"),
    };
    if options.print {
        guards.arg("--print");
    }
    process::run_within(&mut guards, LIMIT)
}
