//! `sinew-soak`: streams of many processes over connections that are cut. Run it with
//! `cargo xtask soak`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people: its output is what it is for"
)]

mod announced;
mod caller;
mod check;
mod content;
mod forced;
mod load;
mod memory;
mod part;
mod report;
mod roll;
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
    Roll(roll::Options),
    #[command(hide = true)]
    Worker(worker::Options),
    #[command(hide = true)]
    Call(caller::Options),
    #[command(hide = true)]
    Load(load::Options),
}

fn main() -> ExitCode {
    let part = Cli::parse().part;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let done = match builder.worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let done = runtime.block_on(run_part(part));
            // Not waiting for a read of standard input, which nobody can end.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_part(part: Part) -> anyhow::Result<()> {
    match part {
        Part::Run(options) => run::run(&options).await,
        Part::Roll(options) => roll::run(&options).await,
        Part::Worker(options) => worker::run(&options).await,
        Part::Call(options) => caller::run(&options).await,
        Part::Load(options) => load::run(&options).await,
    }
}
