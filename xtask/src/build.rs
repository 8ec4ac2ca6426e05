//! `build`: the `sinew` command with every backend.

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::workspace::Workspace;

/// The package of the command, and the features that need more than a Rust compiler to build or
/// bring a client that not everybody wants.
const PACKAGE: [&str; 4] = ["-p", "sinew-cli", "--features", "etcd,nats,dns"];

/// Build the `sinew` command with all its backends, and say where it is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask build --release

A plain `cargo build` has the clients of NATS and DNS and leaves that of etcd out, because it wants
the program `protoc` while it is built; this chore stands in for it, so there is nothing to install.")]
pub(crate) struct Options {
    /// Optimised
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut cargo = process::cargo(&workspace.root);
    cargo.arg("build").args(PACKAGE);
    if options.release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)?;
    let folder = if options.release { "release" } else { "debug" };
    let name = format!("sinew{}", std::env::consts::EXE_SUFFIX);
    println!("{}", workspace.target().join(folder).join(name).display());
    Ok(())
}
