//! `sinew-soak`: streams of many processes over connections that are cut. Run it with
//! `cargo xtask soak`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people: its output is what it is for"
)]

mod caller;
mod check;
mod content;
mod memory;
mod part;
mod report;
mod run;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Streams of many processes over connections that are cut, checked item by item.
#[derive(Parser)]
#[command(name = "sinew-soak")]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    Run(run::Options),
    #[command(hide = true)]
    Worker(worker::Options),
    #[command(hide = true)]
    Call(caller::Options),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let done = match Cli::parse().part {
        Part::Run(options) => run::run(&options).await,
        Part::Worker(options) => worker::run(&options).await,
        Part::Call(options) => caller::run(&options).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
