//! The options of `sinew call`.

use std::{collections::HashSet, time::Duration};

use clap::{Args, ValueEnum};
use sinew::{CallLimits, EndpointName, InstanceId, ResumeToken, RouterMode};

use super::{input::Input, token::TokenSource};
use crate::{
    duration::{self, TimeOption as _},
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
#[command(after_help = concat!(crate::exit::exit_codes!(), "

Examples:
  sinew call text/words/split --data 'streams that end'
  sinew call text/words/split --file README.md --timeout 10s
  tail -100 app.log | sinew call logs/app/classify"))]
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
    /// A header of the request; may be given more than once, with a name of its own each time.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Say on standard error who served the call, why, and what was tried before.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Say on standard error, as it happens, when a connection is made or lost, and when the response
    /// goes on over another one.
    #[arg(long)]
    pub(crate) trace: bool,
    /// Print a resume token on standard error once the request is accepted. Whoever has it can read
    /// the response: keep it as a secret.
    #[arg(long)]
    pub(crate) print_token: bool,
    /// Go on with the response of an earlier call, also of one that was killed, instead of sending a
    /// request: the worker has what that call had not taken, and what sinew serve --retain keeps.
    /// Other users of the machine see arguments: - reads the token from a line of standard input, and
    /// env:NAME from an environment variable.
    #[arg(long, value_name = "TOKEN|-|env:NAME", value_parser = TokenSource::parse,
          conflicts_with_all = ["data", "file", "stdin", "headers", "instance", "mode"])]
    resume: Option<TokenSource>,
    /// The number of the first item to print, from 0. Default: the one that the token names.
    #[arg(long, value_name = "ITEM", requires = "resume")]
    pub(crate) from: Option<u64>,
    /// Longest time for the whole command, such as 500ms or 10s. Default: none.
    #[arg(long, time(), value_parser = duration::parse_some)]
    pub(crate) timeout: Option<Duration>,
    /// Longest wait until a worker has accepted the request, such as 500ms or 10s; off for none.
    /// Default: $SINEW_ACCEPT_TIMEOUT, else 10s.
    #[arg(long, time(), value_parser = duration::limit)]
    accept_timeout: Option<Duration>,
    /// Longest wait for the first item. Default: $SINEW_FIRST_ITEM_TIMEOUT, else none.
    #[arg(long, time(), value_parser = duration::limit)]
    first_item_timeout: Option<Duration>,
    /// Longest wait for each further item. Default: $SINEW_IDLE_TIMEOUT, else none.
    #[arg(long, time(), value_parser = duration::limit)]
    idle_timeout: Option<Duration>,
    /// How long the response waits for another connection when it has lost its own; 0s ends it then.
    /// Without it, what SINEW_RESUME_GRACE says.
    #[arg(long, time(), value_parser = duration::parse)]
    resume_grace: Option<Duration>,
    /// How long to wait for an instance to appear; 0s looks once.
    #[arg(long, time(), default_value = "1s", value_parser = duration::parse)]
    pub(crate) wait: Duration,
}

impl CallArgs {
    /// The headers that the command line names.
    ///
    /// # Errors
    /// Two have one name. Which of their values counts would be a guess, and the values may be
    /// secrets, so only the name is told.
    pub(crate) fn headers(&self) -> Result<&[(String, String)], Failure> {
        let Some(name) = repeated(&self.headers) else { return Ok(&self.headers) };
        let message = format!("--header {name} is given more than once");
        Err(Failure::new(Exit::Usage, message).hint("a request has one value for each name"))
    }

    /// The response to go on with, and from where.
    ///
    /// # Errors
    /// There is no token where one is to be.
    pub(crate) async fn token(&self) -> Result<Option<ResumeToken>, Failure> {
        let Some(source) = &self.resume else { return Ok(None) };
        let token = source.token().await?;
        Ok(Some(self.from.map_or(token.clone(), |item| token.at(item))))
    }

    /// The limits that the command line names.
    pub(crate) fn limits(&self) -> CallLimits {
        CallLimits {
            accept: self.accept_timeout,
            first_item: self.first_item_timeout,
            idle: self.idle_timeout,
            resume_grace: self.resume_grace,
        }
    }
}

/// The first name that several headers have: a request has one value for each.
fn repeated(headers: &[(String, String)]) -> Option<&str> {
    let mut seen = HashSet::new();
    headers.iter().map(|(name, _)| name.as_str()).find(|name| !seen.insert(*name))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() {
        return Err("has no name: write NAME=VALUE".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
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
