//! `test`: everything a contributor must see green, against real servers.

pub(crate) mod program;
mod programs;

use std::process::Command;
use std::{env, fs};

use anyhow::Result;
use clap::Args;

use crate::servers::{self, ALL, Life, Running};
use crate::steps::Report;
use crate::tools::{self, ETCDCTL, PYTHON};
use crate::workspace::Workspace;
use crate::{interop, process};

/// Every target but benches: a bench is not a test, and running one as a test takes minutes.
const TARGETS: [&str; 4] = ["--lib", "--bins", "--tests", "--examples"];

/// Run all tests, with real etcd and NATS servers started for them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                               # what must be green before a push
  cargo xtask test -p sinew-mux                  # one package
  cargo xtask test -p sinew-mux -- credit        # one package, tests with `credit` in their name
  cargo xtask test --interop                     # among unmodified Dynamo peers, built for it

etcd, etcdctl, nats-server and python3 are installed with apt when they are missing and you are root; else the
command to run is printed. They listen on free ports of 127.0.0.1, and end when this ends.
If SINEW_TEST_ETCD or SINEW_TEST_NATS is set already, that server is used instead.
Without arguments test programs run side by side; what each one prints is shown when it has ended,
and stays in target/test-programs.")]
pub(crate) struct Options {
    /// Run the tests with unmodified Dynamo 1.6 peers instead, which takes minutes to build
    #[arg(long)]
    interop: bool,
    /// Passed on to `cargo test`; without any, all packages and all doctests run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut report = Report::default();
    if options.interop {
        let arguments: Vec<_> = options.arguments.iter().map(String::as_str).collect();
        report.run("interop", "Sinew works among Dynamo peers", || {
            interop::run(workspace, &arguments)
        });
        return report.finish(0);
    }
    let tests = || {
        if options.arguments.is_empty() {
            return all(workspace, &[]);
        }
        let mut cargo = process::cargo(&workspace.root);
        cargo.args(chosen(&options.arguments));
        run_with_servers(workspace, &mut cargo)
    };
    let passed = report.run("test", "unit and integration tests pass", tests);
    if !options.arguments.is_empty() {
        return report.finish(0);
    }
    if passed {
        report
            .run("doctests", "the examples in the documentation run", || doctests(workspace, &[]));
    }
    report.finish(usize::from(!passed))
}

/// All unit and integration tests but those with Dynamo peers; `extra` goes to cargo, which builds
/// them. They run side by side.
pub(crate) fn all(workspace: &Workspace, extra: &[&str]) -> Result<()> {
    let folder = workspace.target().join("test-programs");
    fs::create_dir_all(&folder)?;
    // Of this run alone, and gone with it: a program is recorded with its whole environment.
    let recordings = tempfile::tempdir_in(&folder)?;
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["test", "--workspace", "--exclude", interop::PACKAGE, "--all-features"]);
    cargo.args(TARGETS).args(extra);
    program::record_in(recordings.path(), &mut cargo)?;
    process::run(&mut cargo)?;
    let recorded = program::recorded_in(recordings.path())?;
    drop(recordings);
    with_servers(workspace, |variables| programs::run(recorded, variables, &folder))
}

/// All examples in documentation; `extra` goes to cargo.
pub(crate) fn doctests(workspace: &Workspace, extra: &[&str]) -> Result<()> {
    let mut cargo = process::cargo(&workspace.root);
    process::run(cargo.args(["test", "--workspace", "--all-features", "--doc"]).args(extra))
}

/// A `cargo test` with the caller's own arguments; packages are all unless some are named.
fn chosen(arguments: &[String]) -> Vec<&str> {
    let names_packages = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"));
    let mut all = vec!["test", "--all-features"];
    if !names_packages {
        all.extend(["--workspace", "--exclude", interop::PACKAGE]);
    }
    all.extend(arguments.iter().map(String::as_str));
    all
}

/// Runs `cargo` with real etcd and NATS servers, which end with it.
pub(crate) fn run_with_servers(workspace: &Workspace, cargo: &mut Command) -> Result<()> {
    with_servers(workspace, |variables| {
        process::run(cargo.envs(variables.iter().map(|(name, value)| (name, value))))
    })
}

/// Does `work`, which learns from variables where real etcd and NATS servers are. They end with it.
fn with_servers(
    workspace: &Workspace,
    work: impl FnOnce(&[(&str, String)]) -> Result<()>,
) -> Result<()> {
    tools::ensure(&[ETCDCTL, PYTHON])?;
    let folder = workspace.target().join("test-servers");
    let mut running: Vec<Running> = Vec::new();
    let mut variables = Vec::new();
    for service in ALL {
        let variable = service.variable();
        if let Ok(address) = env::var(variable) {
            println!("{} is taken from {variable}: {address}", service.name());
            continue;
        }
        let server = servers::start(service, &folder, Life::WithUs)?;
        let address = service.address(server.port);
        println!("{} runs for the tests: {variable}={address}", service.name());
        variables.push((variable, address));
        running.push(server);
    }
    let tested = work(&variables);
    let ended: Vec<_> = running.iter().map(|server| server.service.name()).collect();
    drop(running);
    if !ended.is_empty() {
        println!("ended {}", ended.join(" and "));
    }
    tested
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_from(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        chosen(&arguments).join(" ")
    }

    #[test]
    fn all_packages_are_tested_unless_some_are_named() {
        assert_eq!(
            chosen_from(&["credit"]),
            "test --all-features --workspace --exclude sinew-interop credit"
        );
        assert_eq!(chosen_from(&["-p", "sinew-mux"]), "test --all-features -p sinew-mux");
        // After `--` the words belong to the test program.
        assert_eq!(
            chosen_from(&["--", "-p"]),
            "test --all-features --workspace --exclude sinew-interop -- -p"
        );
    }
}
