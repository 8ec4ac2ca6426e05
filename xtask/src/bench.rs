//! `bench`: builds the benchmark program in release mode and runs it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// The workspaces of the peers, whose pins are not ours.
const PEERS: &str = "benches/peers";
const DYNAMO: &str = "benches/peers/dynamo";

/// Where the peers' program looks for the one with Dynamo.
const VARIABLE: &str = "SINEW_BENCH_DYNAMO";

/// Taken out of what is passed on, wherever they stand.
const WITH_PEERS: &str = "--peers";
const WITHOUT_DYNAMO: &str = "--without-dynamo";

/// Build and run the benchmarks, which write docs/benchmarks.md and its plots.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench                # all of this workspace
  cargo xtask bench --peers        # beside tonic, NATS, QUIC, Dynamo, ...
  cargo xtask bench --peers --rounds 3 --millis 400 --out docs
                                   # the same in about 16 minutes, as published
  cargo xtask bench --peers --without-dynamo   # whose runtime takes longest to build
  cargo xtask bench --peers --quick --only sinew-tcp,tonic --workload unary
  cargo xtask bench --peers --item-bytes 16 --callers 4,128
                                   # other sizes and concurrency: the order of the peers
  cargo xtask bench gap            # without items after a cut, and from cancel to handler
  cargo xtask bench -- --help      # what the benchmark program itself offers

On 2 idle cores a run takes about 12 minutes, with --quick 4; with --peers about 35, with --peers
--quick 9. --peers needs a nats-server on the path. Its first build takes a quarter of an hour or so.")]
pub(crate) struct Options {
    /// --peers, --without-dynamo, and what is passed on to the benchmark program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let (own, arguments): (Vec<_>, Vec<_>) = options
        .arguments
        .iter()
        .partition(|argument| [WITH_PEERS, WITHOUT_DYNAMO].contains(&argument.as_str()));
    let is_asked = |option: &str| own.iter().any(|argument| *argument == option);
    if !is_asked(WITH_PEERS) {
        let mut cargo = process::cargo(&workspace.root);
        let package = ["run", "--release", "--package", "sinew-benches", "--bin", "sinew-bench"];
        return process::run(cargo.args(package).arg("--").args(arguments));
    }
    let target = workspace.target().join("peers");
    let program = build(&workspace.root.join(PEERS), &target, "sinew-bench-peers")?;
    let mut command = Command::new(program);
    if !is_asked(WITHOUT_DYNAMO) {
        let folder = workspace.root.join(DYNAMO);
        command.env(VARIABLE, build(&folder, &target.join("dynamo"), "sinew-bench-dynamo")?);
    }
    process::run(command.args(arguments).current_dir(&workspace.root))
}

/// Builds in the folder itself, because its settings for cargo lie there.
fn build(folder: &Path, target: &Path, program: &str) -> Result<PathBuf> {
    let mut cargo = process::cargo(folder);
    process::run(cargo.args(["build", "--release", "--locked", "--target-dir"]).arg(target))?;
    Ok(target.join("release").join(format!("{program}{}", env::consts::EXE_SUFFIX)))
}
