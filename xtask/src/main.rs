//! Chores of the workspace, run as `cargo xtask <chore>`.
//!
//! This file is only the tree of commands; each chore lives in the module of its name.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people: its output is what it is for"
)]

mod ahead;
mod bench;
mod build;
mod checks;
mod ci;
mod dependencies;
mod fuzz;
mod guards;
mod interop;
mod layers;
mod licence;
mod outside;
mod pictures;
mod process;
mod protoc;
mod publish;
mod release;
mod servers;
mod services;
mod side_by_side;
mod soak;
mod steps;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Chores of the Sinew workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    Build(build::Options),
    Test(test::Options),
    Ci(ci::Options),
    Layers(layers::Options),
    Tidy(tidy::Options),
    Services(services::Options),
    Bench(bench::Options),
    Guards(guards::Options),
    Fuzz(fuzz::Options),
    Outside(outside::Options),
    Publish(publish::Options),
    Pictures(pictures::Options),
    Soak(soak::Options),
    #[command(hide = true)]
    Record(test::program::Options),
}

fn main() -> ExitCode {
    let done = match protoc::Call::read(std::env::args_os().skip(1)) {
        Some(call) => call.and_then(protoc::Call::run),
        None => run(Arguments::parse().chore),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<()> {
    Workspace::find().and_then(|workspace| match chore {
        Chore::Build(options) => build::run(&workspace, &options),
        Chore::Test(options) => test::run(&workspace, &options),
        Chore::Ci(options) => ci::run(&workspace, &options),
        Chore::Layers(_) => layers::run(&workspace),
        Chore::Tidy(_) => tidy::run(&workspace),
        Chore::Services(options) => services::run(&workspace, &options),
        Chore::Bench(options) => bench::run(&workspace, &options),
        Chore::Guards(options) => guards::run(&workspace, &options),
        Chore::Fuzz(options) => fuzz::run(&workspace, &options),
        Chore::Outside(options) => outside::run(&workspace, &options),
        Chore::Publish(options) => publish::run(&workspace, &options),
        Chore::Pictures(options) => pictures::run(&workspace, &options),
        Chore::Soak(options) => soak::run(&workspace, &options),
        Chore::Record(options) => test::program::record(&options),
    })
}
