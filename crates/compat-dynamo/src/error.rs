//! Errors in the form that a stock Dynamo router needs.
//!
//! A Dynamo router avoids a worker for some seconds if an error says that the worker cannot be
//! reached. It takes every error in place of a stream for one, unless its class is
//! `InvalidRequest`. So:
//!
//! | what happened | how a stock caller is told |
//! |---|---|
//! | refused, nothing ran | an error instead of the stream: the router goes elsewhere |
//! | refused for want of room | an error item: a full worker can be reached, and has room soon |
//! | the request is at fault | the same with class `InvalidRequest`: the caller gets it as it is |
//! | the handler refused with an application code | an error item: another worker would do the same |
//! | the handler failed | an error item in a stream that ends in order: the worker is not blamed |

use sinew_plane::{Code, Error, Executed};

use crate::DynamoError;

/// Where a stock caller is told of an error that came before the first item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorPlacement {
    /// Instead of the stream.
    Prologue,
    /// As an item.
    Item,
}

impl ErrorPlacement {
    pub(crate) fn of(error: &Error) -> Self {
        match error.code() {
            Code::InvalidPayload => Self::Prologue,
            // Only what the acknowledgement could not know: others took the room in between.
            Code::Overloaded => Self::Item,
            // The handler has answered: another worker would say the same.
            _ if error.app_code().is_some() && !error.is_safe_to_resend() => Self::Item,
            _ if error.executed() == Executed::No => Self::Prologue,
            _ => Self::Item,
        }
    }
}

/// An error of the handler, in words for which no router sets the worker aside. What a Sinew
/// caller reads in it is exact.
pub(crate) fn of_handler(error: &Error) -> DynamoError {
    let mut typed = DynamoError::from_error(error);
    let blames = |word: &str| {
        matches!(
            word,
            "CannotConnect"
                | "Disconnected"
                | "ConnectionTimeout"
                | "ResponseTimeout"
                | "WorkerUnavailable"
        )
    };
    // Whom the handler failed to reach is not the worker that tells of it.
    if typed.error_type.as_str().is_some_and(blames) {
        typed.error_type = "Unknown".into();
        typed.class = "Internal".into();
        typed.reason = Some("runtime.unclassified".to_owned());
    }
    typed
}

#[cfg(test)]
mod tests {
    use sinew_plane::AppCode;

    use super::*;

    /// The words for which a router of Dynamo 1.6 sets a worker aside.
    const BLAMED: [&str; 5] = [
        "CannotConnect",
        "Disconnected",
        "ConnectionTimeout",
        "ResponseTimeout",
        "WorkerUnavailable",
    ];

    #[test]
    fn no_error_of_a_handler_gets_its_worker_set_aside() {
        for code in Code::ALL {
            let error = Error::new(*code, "why").with_executed(Executed::Yes);
            let typed = of_handler(&error);
            for word in [&typed.error_type, &typed.class] {
                assert!(!BLAMED.contains(&word.as_str().unwrap()), "{code}: {word}");
            }
            let back = typed.to_error();
            assert_eq!((back.code(), back.message()), (*code, "why"));
        }
    }

    #[test]
    fn refusals_come_instead_of_the_stream_and_the_rest_within_it() {
        let refused = |code| Error::application(code, "").with_executed(Executed::No);
        for (error, placement) in [
            (Error::new(Code::Overloaded, ""), ErrorPlacement::Item),
            (Error::draining(""), ErrorPlacement::Prologue),
            (refused(AppCode::INVALID_ARGUMENT), ErrorPlacement::Item),
            (refused(AppCode::UNAVAILABLE), ErrorPlacement::Prologue),
            (Error::new(Code::UnknownEndpoint, ""), ErrorPlacement::Prologue),
            (
                Error::new(Code::InvalidPayload, "").with_executed(Executed::Yes),
                ErrorPlacement::Prologue,
            ),
            (Error::handler(""), ErrorPlacement::Item),
            (Error::new(Code::HandlerGone, ""), ErrorPlacement::Item),
            (Error::new(Code::Overloaded, "").with_executed(Executed::Yes), ErrorPlacement::Item),
            (Error::new(Code::ConnectionLost, ""), ErrorPlacement::Item),
        ] {
            assert_eq!(ErrorPlacement::of(&error), placement, "{error:?}");
        }
    }
}
