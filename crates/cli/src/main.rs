//! The `sinew` command: serve, call, list and try streaming endpoints.

mod args;
mod call;
mod claim;
mod completions;
mod config;
mod demo;
mod descriptors;
mod drain;
mod duration;
mod exit;
mod ls;
mod migrate;
mod output;
mod reader;
mod serve;
mod set_up;
mod settings;
mod signals;
mod terminal;
mod text_layout;

use std::{ffi::OsString, io::IsTerminal, time::Instant};

use clap::Parser;
use sinew_telemetry::{console::tell, printable};

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failure},
};

/// Gives what connections held back to the system seconds after they go, also when nothing else
/// happens: a thread of its own looks after that. The system's allocator keeps it, because a few
/// long-lived pieces lie between.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ! {
    // The deadline of a call counts from here.
    let begun = Instant::now();
    let cli = Cli::try_parse().unwrap_or_else(|error| refuse(error));
    if let Command::Guard(args) = &cli.command {
        // Without threads or a runtime: it waits for years and is small.
        std::process::exit(serve::run_guard(args));
    }
    let exit = match run(cli, begun) {
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
    let is_plain = std::env::args_os().all(is_plain);
    if error.use_stderr() && !(is_plain && std::io::stderr().is_terminal()) {
        // It quotes arguments as they are, and a script may have them from elsewhere.
        error.to_string().trim_end().lines().for_each(tell);
        std::process::exit(error.exit_code());
    }
    error.exit()
}

fn run(cli: Cli, begun: Instant) -> Result<Exit, Failure> {
    // They help with an environment that is wrong, or before there is one, so they read none.
    match &cli.command {
        Command::Config(args) => return config::run(args),
        Command::Completions(args) => return completions::run(args),
        _ => {}
    }
    cli.settings.start_logging()?;
    descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::SetUp, format!("cannot start threads: {error}")))?;
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(&cli.settings, args).await,
            Command::Call(args) => call::run(&cli.settings, args, begun).await,
            Command::Ls(args) => ls::run(&cli.settings, args).await,
            Command::Drain(args) => drain::run(&cli.settings, args).await,
            Command::Migrate(args) => migrate::run(&cli.settings, args).await,
            Command::Completions(args) => completions::run(&args),
            Command::Demo(args) => {
                // It has settings of its own; what is wrong with the others is said all the same.
                cli.settings.config()?;
                demo::run(args).await
            }
            Command::DemoWorker(args) => demo::worker::run(args).await,
            Command::Config(args) => config::run(&args),
            // Has been run before.
            Command::Guard(_) => Ok(Exit::Complete),
        }
    });
    runtime.shutdown_background();
    exit
}
