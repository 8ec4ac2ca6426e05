//! The `sinew` command: serve, call, list and try streaming endpoints.

mod args;
mod call;
mod config;
mod demo;
mod duration;
mod exit;
mod ls;
mod serve;
mod settings;
mod signals;

use std::ffi::OsString;

use clap::Parser;
use sinew_telemetry::{console::tell, printable};

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failure},
};

fn main() -> ! {
    let cli = Cli::try_parse().unwrap_or_else(|error| refuse(error));
    let exit = match run(cli) {
        Ok(exit) => exit,
        Err(failure) => failure.report(),
    };
    sinew_telemetry::report_repeats(true);
    // Not a return: a blocking read or write of standard input or output may be under way, and
    // dropping the runtime would wait for it.
    std::process::exit(exit.code())
}

/// Ends with what is wrong with the command line, or with the help that was asked for.
fn refuse(error: clap::Error) -> ! {
    let is_plain = |arg: OsString| arg.to_str().is_some_and(|arg| printable(arg) == arg);
    if !std::env::args_os().all(is_plain) {
        // It quotes arguments as they are, and a script may have them from elsewhere.
        tell(error.to_string().trim_end());
        std::process::exit(error.exit_code());
    }
    error.exit()
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    if let Command::Config(args) = &cli.command {
        // It helps with an environment that is wrong, so it reads none.
        return Ok(config::run(args));
    }
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
            Command::Config(args) => Ok(config::run(&args)),
        }
    });
    runtime.shutdown_background();
    exit
}
