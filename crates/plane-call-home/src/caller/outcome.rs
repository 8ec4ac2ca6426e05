//! How an expected response ended, and what that means for its consumer.

use std::time::Instant;

use sinew_plane::{CancelReason, Code, Error, Executed, OutgoingRequest, StopKind, Terminal};

use super::response_connection::{ConnectionEnd, ResponseConnection};

/// The consumer has asked for the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cancel {
    pub(crate) kind: StopKind,
    pub(crate) reason: CancelReason,
    pub(crate) since: Instant,
}

/// How a response ended.
#[derive(Clone)]
pub(crate) enum Outcome {
    Terminal(Terminal),
    Lost(Error),
}

impl Outcome {
    /// How the stream ended before any item, as an error.
    pub(crate) fn early(&self) -> Result<(), Error> {
        match self {
            Self::Lost(error) | Self::Terminal(Terminal::Failed { error }) => Err(error.clone()),
            Self::Terminal(Terminal::Cancelled { reason }) => {
                Err(Error::cancelled(*reason).with_executed(Executed::Maybe))
            }
            Self::Terminal(Terminal::Complete { .. }) => Ok(()),
        }
    }
}

/// What the end of a connection means for the stream, and whether the worker is still to be told.
pub(crate) fn ended(
    connection: &ResponseConnection,
    end: ConnectionEnd,
    cancelled: Option<Cancel>,
    request: &OutgoingRequest,
) -> (Outcome, bool) {
    let cause = match end {
        ConnectionEnd::Said(terminal) => return (Outcome::Terminal(terminal), false),
        ConnectionEnd::Violation(error) => {
            return (Outcome::Lost(stopped_short(connection, &error)), true);
        }
        ConnectionEnd::Eof(cause) => cause,
    };
    // The end of the connection is how a worker acknowledges that it was stopped.
    if let Some(Cancel { reason, .. }) = cancelled {
        return (Outcome::Terminal(Terminal::Cancelled { reason }), false);
    }
    if request.context.remaining().is_some_and(|left| left.is_zero()) {
        let reason = CancelReason::DeadlineExceeded;
        return (Outcome::Terminal(Terminal::Cancelled { reason }), false);
    }
    let text = match &cause {
        Some(cause) => format!("the worker's connection broke: {cause}"),
        None => "the worker closed the connection".to_owned(),
    };
    let error = stopped_short(connection, &gone(text));
    (Outcome::Lost(cause.map_or(error.clone(), |cause| error.with_source(cause))), false)
}

fn stopped_short(connection: &ResponseConnection, error: &Error) -> Error {
    match (connection.is_begun(), error.code()) {
        (true, Code::ConnectionLost) => truncated(error),
        (true, _) => error.clone().with_executed(Executed::Yes),
        (false, _) => error.clone(),
    }
}

pub(crate) fn gone(text: impl Into<String>) -> Error {
    Error::new(Code::ConnectionLost, text)
}

pub(crate) fn truncated(error: &Error) -> Error {
    Error::new(Code::Truncated, error.message())
}
