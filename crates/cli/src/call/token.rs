//! Where `sinew call --resume` has its token from.

use std::{
    convert::Infallible,
    env,
    io::{self, BufRead as _, Read as _},
};

use sinew::{ResumeToken, ResumeTokenError};

use crate::exit::{Exit, Failure};

/// A line of standard input that is longer holds no token.
const MAX_LINE_BYTES: u64 = 4 << 10;

/// Where the token is. An argument is seen by every user of the machine, and in the history of the
/// shell; the others are not.
#[derive(Debug, Clone)]
pub(crate) enum TokenSource {
    /// The argument itself. No text that is no token is kept: it may be nearly one, and no message
    /// is to show it.
    Given(Result<ResumeToken, ResumeTokenError>),
    /// A line of standard input.
    Stdin,
    /// The environment variable of this name.
    Environment(String),
}

impl TokenSource {
    /// Reads the argument of `--resume`. Never fails, because the command line parser shows the value
    /// that it refuses.
    ///
    /// # Errors
    /// None.
    pub(crate) fn parse(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix("env:") {
            Some(name) => Self::Environment(name.to_owned()),
            None if text == "-" => Self::Stdin,
            None => Self::Given(text.parse()),
        })
    }

    /// The token.
    ///
    /// # Errors
    /// There is none, or what is there is none. The message does not show it.
    pub(crate) async fn token(&self) -> Result<ResumeToken, Failure> {
        match self {
            Self::Given(given) => given.clone().map_err(|error| wrong("--resume", &error)),
            // tidy-allow: variable, no setting: who calls names it
            Self::Environment(name) => match env::var(name) {
                Ok(text) => text.parse().map_err(|error| wrong(&format!("${name}"), &error)),
                Err(env::VarError::NotPresent) => {
                    let message = format!("--resume env:{name}: no such variable is set");
                    Err(Failure::new(Exit::Usage, message))
                }
                Err(env::VarError::NotUnicode(_)) => {
                    Err(wrong(&format!("${name}"), &ResumeTokenError))
                }
            },
            Self::Stdin => {
                // In a thread, so that a signal or a deadline does not wait for it.
                let read = tokio::task::spawn_blocking(line_of_stdin).await;
                let line = read.map_err(io::Error::other).flatten().map_err(|error| {
                    Failure::new(Exit::Usage, format!("cannot read standard input: {error}"))
                })?;
                let parsed = std::str::from_utf8(&line).ok().and_then(|text| text.parse().ok());
                parsed.ok_or_else(|| wrong("standard input", &ResumeTokenError))
            }
        }
    }
}

fn line_of_stdin() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::stdin().lock().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    Ok(line)
}

fn wrong(place: &str, error: &ResumeTokenError) -> Failure {
    Failure::new(Exit::Usage, format!("{place}: {error}"))
        .hint("sinew call --print-token prints one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_nearly_a_token_is_shown() {
        let nearly = format!("s1-{:095x}", 0xfeed_u64);
        let TokenSource::Given(given) = TokenSource::parse(&nearly).unwrap() else {
            panic!("it is an argument")
        };
        assert_eq!(given, Err(ResumeTokenError));
        let whole = format!("s1-{:096x}", 0xfeed_u64);
        let source = TokenSource::parse(&whole).unwrap();
        assert!(matches!(&source, TokenSource::Given(Ok(token)) if token.next_item == 0xfeed));
    }

    #[test]
    fn a_token_may_be_elsewhere() {
        assert!(matches!(TokenSource::parse("-"), Ok(TokenSource::Stdin)));
        let there = TokenSource::parse("env:STREAM");
        assert!(matches!(there, Ok(TokenSource::Environment(name)) if name == "STREAM"));
    }
}
