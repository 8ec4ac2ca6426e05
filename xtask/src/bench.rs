//! `bench`: builds the benchmark program in release mode and runs it.

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// Build and run the benchmarks, which write docs/benchmarks.md and its plots.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                # all, as published
  cargo xtask bench -- --help      # what the benchmark program itself offers")]
pub(crate) struct Options {
    /// Passed on to the benchmark program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["run", "--release", "--package", "sinew-benches", "--bin", "sinew-bench", "--"]);
    process::run(cargo.args(&options.arguments))
}
