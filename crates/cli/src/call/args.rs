//! The options of `sinew call`.

use std::{fs, io::Read, path::PathBuf, time::Duration};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use sinew::{EndpointName, InstanceId, RouterMode};

use crate::{
    duration,
    exit::{Exit, Failure},
    serve::instance,
};

/// Call an endpoint and print its items as they come.
///
/// Items of a program that `sinew serve` runs are printed byte for byte. An endpoint of typed
/// values gets the data as a JSON string; its items are printed one per line, strings as plain
/// text and everything else as JSON. With --json the data is JSON already, and each item is
/// printed as one line of JSON, also those of a program, as strings.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes:
    0  complete: every item came
    1  the handler failed; its message is on standard error
    2  usage, or a setting that makes no sense
    3  truncated: the worker or the way to it was lost, the output is a true beginning
    4  no instance serves the endpoint
    5  the deadline of --timeout passed
    6  it could not be reached or it refused; nothing ran
    7  the serving side shut down and ended the stream
  130  cancelled by SIGINT (Ctrl-C) or SIGTERM, or nobody reads the output any more

Examples:
  sinew call text/words/split --data 'streams that survive'
  sinew call text/words/split --file README.md --timeout 10s
  tail -100 app.log | sinew call logs/app/classify -")]
pub(crate) struct CallArgs {
    /// What is called: namespace/component/endpoint.
    pub(crate) name: EndpointName,
    #[command(flatten)]
    pub(crate) input: Input,
    /// The data is JSON; print each item as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// How one of several instances is chosen.
    #[arg(long, value_enum, default_value_t = Mode::RoundRobin)]
    pub(crate) mode: Mode,
    /// Ask this instance and no other; sinew ls shows ids.
    #[arg(long, value_name = "HEX", value_parser = instance, conflicts_with = "mode")]
    pub(crate) instance: Option<InstanceId>,
    /// Longest time for the whole call, such as 500ms or 10s. Default: none.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// How long to wait for an instance to appear.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    pub(crate) wait: Duration,
}

/// Where the request's data comes from; without any of them there is none.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Input {
    /// Read the data from standard input.
    #[arg(value_name = "-", value_parser = ["-"])]
    stdin: Option<String>,
    /// The data itself.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    data: Option<String>,
    /// Read the data from a file.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Input {
    /// The data. Reads files to their end first: a request is one message.
    pub(crate) fn read(&self) -> Result<Option<Bytes>, Failure> {
        let unreadable = |what: String| {
            move |error| Failure::new(Exit::Usage, format!("cannot read {what}: {error}"))
        };
        if self.stdin.is_some() {
            let mut data = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut data);
            read.map_err(unreadable("standard input".to_owned()))?;
            return Ok(Some(data.into()));
        }
        if let Some(path) = &self.file {
            let data = fs::read(path).map_err(unreadable(path.display().to_string()))?;
            return Ok(Some(data.into()));
        }
        Ok(self.data.clone().map(Bytes::from))
    }
}

/// How one of several instances is chosen.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// One after the other. A single call begins at a random place.
    RoundRobin,
    /// By lot, with the odds of the weights.
    Random,
    /// The less loaded of two drawn by lot. A single call knows of no load but its own.
    PowerOfTwoChoices,
    /// The least loaded. A single call knows of no load but its own.
    LeastLoaded,
}

impl From<Mode> for RouterMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::RoundRobin => Self::RoundRobin,
            Mode::Random => Self::Random,
            Mode::PowerOfTwoChoices => Self::PowerOfTwoChoices,
            Mode::LeastLoaded => Self::LeastLoaded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_called_what_the_router_calls_it() {
        for mode in Mode::value_variants() {
            let name = mode.to_possible_value().unwrap();
            assert_eq!(name.get_name(), RouterMode::from(*mode).to_string());
        }
    }
}
