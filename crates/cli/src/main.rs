//! The `sinew` command: serve, call, list and try streaming endpoints.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to people")]

mod args;
mod call;
mod demo;
mod duration;
mod exit;
mod ls;
mod serve;
mod settings;
mod signals;

use clap::Parser;

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failure},
};

fn main() -> ! {
    let cli = Cli::parse();
    let exit = match run(cli) {
        Ok(exit) => exit,
        Err(failure) => failure.report(),
    };
    // Not a return: a blocking read or write of standard input or output may be under way, and
    // dropping the runtime would wait for it.
    std::process::exit(exit.code())
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    cli.settings.start_logging()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start threads: {error}")))?;
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(&cli.settings, args).await,
            Command::Call(args) => call::run(&cli.settings, args).await,
            Command::Ls(args) => ls::run(&cli.settings, args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::DemoWorker(args) => demo::worker::run(args).await,
        }
    });
    runtime.shutdown_background();
    exit
}
