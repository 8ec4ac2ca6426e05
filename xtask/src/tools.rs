//! Programs that chores need from the machine: found, installed where that is allowed, or else
//! asked for with the exact command.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// One program and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    program: &'static str,
    debian_package: &'static str,
    brew_formula: &'static str,
    /// Completes "is needed ...".
    reason: &'static str,
}

pub(crate) const ETCD: Tool = Tool {
    program: "etcd",
    debian_package: "etcd-server",
    brew_formula: "etcd",
    reason: "to test discovery against a real etcd",
};
pub(crate) const ETCDCTL: Tool = Tool {
    program: "etcdctl",
    debian_package: "etcd-client",
    brew_formula: "etcd",
    reason: "to look at etcd as an operator does",
};
pub(crate) const NATS: Tool = Tool {
    program: "nats-server",
    debian_package: "nats-server",
    brew_formula: "nats-server",
    reason: "to test the NATS transport against a real server",
};
pub(crate) const PYTHON: Tool = Tool {
    program: "python3",
    debian_package: "python3-minimal",
    brew_formula: "python",
    reason: "to run a client that is written in another language",
};
pub(crate) const VALGRIND: Tool = Tool {
    program: "valgrind",
    debian_package: "valgrind",
    brew_formula: "valgrind",
    reason: "to count the instructions of a call",
};
pub(crate) const CXX: Tool = Tool {
    program: "g++",
    debian_package: "g++",
    brew_formula: "gcc",
    reason: "to compile libFuzzer, which is C++",
};

/// Finds all `tools`, in their order. What is missing is installed with apt when we are root, as
/// in a CI container; a person's machine is left alone and told what to run.
pub(crate) fn ensure(tools: &[Tool]) -> Result<Vec<PathBuf>> {
    let missing: Vec<Tool> =
        tools.iter().copied().filter(|tool| process::find(tool.program).is_none()).collect();
    if !missing.is_empty() {
        for tool in &missing {
            eprintln!("{} is needed {} and is not installed", tool.program, tool.reason);
        }
        install(&missing)?;
    }
    tools
        .iter()
        .map(|tool| {
            process::find(tool.program)
                .with_context(|| format!("{} is still not on PATH", tool.program))
        })
        .collect()
}

fn install(tools: &[Tool]) -> Result<()> {
    if process::find("apt-get").is_none() {
        bail!("please install: {}\n  for example: brew install {}", programs(tools), brews(tools));
    }
    let packages: Vec<_> = tools.iter().map(|tool| tool.debian_package).collect();
    let install = ["install", "-y", "--no-install-recommends"];
    if !is_root()? {
        bail!(
            "please run: sudo apt-get update && sudo apt-get {} {}",
            install.join(" "),
            packages.join(" ")
        );
    }
    process::run(apt().args(["update", "-qq"]))?;
    process::run(apt().args(install).arg("-qq").args(packages))
}

/// `apt-get` that asks nothing. `RUNLEVEL=1` keeps init scripts from starting the packaged
/// servers; where systemd starts them all the same they do no harm, as ours use free ports.
fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    apt
}

fn is_root() -> Result<bool> {
    Ok(process::output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn programs(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.program).collect::<Vec<_>>().join(", ")
}

fn brews(tools: &[Tool]) -> String {
    tools.iter().map(|tool| tool.brew_formula).collect::<Vec<_>>().join(" ")
}
