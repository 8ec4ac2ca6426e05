//! Logs as text on standard error.

use std::{
    fmt,
    io::{IsTerminal, stderr},
};

use tracing_subscriber::EnvFilter;

/// Sends events to standard error, one line each: time, level, spans with their fields, target,
/// message, fields. Coloured only on a terminal.
///
/// `filter` is a comma-separated list of `level` or `target=level`, such as `warn`, or
/// `info,sinew::request=debug` to see every request. The environment is not read: a program
/// passes what it found in `SINEW_LOG`, else `RUST_LOG`, else its own default.
///
/// # Errors
/// The filter is malformed, or the process has a subscriber already. Nothing has changed then.
pub fn init_logging(filter: &str) -> Result<(), LoggingError> {
    let fault = |reason: String| LoggingError::Filter { reason };
    let filter = EnvFilter::try_new(filter).map_err(|error| fault(error.to_string()))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySet)
}

/// Why logging was not set up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoggingError {
    /// The filter is malformed: mend it.
    Filter {
        /// What is wrong with it.
        reason: String,
    },
    /// The process has a subscriber already, which stays.
    AlreadySet,
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter { reason } => write!(
                f,
                "log filter: {reason}; write LEVEL or TARGET=LEVEL, separated by commas, such as \
                 info,sinew::request=debug"
            ),
            Self::AlreadySet => f.write_str("this process has a log subscriber already"),
        }
    }
}

impl std::error::Error for LoggingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_changes_nothing_and_a_second_subscriber_is_refused() {
        let error = init_logging("info,sinew=loud").unwrap_err();
        assert!(error.to_string().starts_with("log filter:"), "{error}");
        assert_eq!(init_logging("error"), Ok(()));
        assert_eq!(init_logging("error"), Err(LoggingError::AlreadySet));
    }
}
