//! How a command ends: its exit code, and what it says about an error.

use std::error::Error as StdError;

use sinew::{CancelReason, Code, Context, Error, Executed, Fault, Outcome};
use sinew_telemetry::console::{self, Label};

use crate::{
    claim::{claim, claimed_reason},
    text_layout::abridged,
};

/// The exit codes as help and README have them.
macro_rules! exit_codes {
    () => {
        "Exit codes:
    0  complete: every item came
    1  the handler failed, its message is on standard error; or the output cannot be written
    2  usage, or a setting that makes no sense
    3  truncated: the worker or the way to it was lost, or the worker shut down; the output is a
       true beginning
    4  no instance serves the endpoint
    5  the deadline of --timeout passed, or --accept-timeout, --first-item-timeout or
       --idle-timeout
    6  it could not be reached or it refused; nothing ran
    7  the serving side ended the stream, as when it has no memory for it
    8  set-up failed: etcd, NATS, the discovery or an address cannot be used, or the id of
       --instance is taken; nothing ran
    9  serve, drain: requests had not ended when their grace was over, and were cut
  130  cancelled by SIGINT (Ctrl-C) or SIGTERM, or nothing reads the output any more"
    };
}
pub(crate) use exit_codes;

/// The exit code of a command. They tell apart what a script wants to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every item came.
    Complete = 0,
    /// The handler failed, or the output cannot be written.
    Failed = 1,
    /// The command line or a setting makes no sense.
    Usage = 2,
    /// The worker or the way to it was lost; it may have run.
    Truncated = 3,
    /// No instance serves the endpoint.
    NoInstances = 4,
    /// The deadline passed.
    TimedOut = 5,
    /// It could not be reached or it refused; nothing ran.
    Refused = 6,
    /// The serving side ended the stream, as when it has no memory for it.
    ShutDown = 7,
    /// What the command needs before it can begin is not there: a server of discovery or requests,
    /// a folder, a free port, a free id.
    SetUp = 8,
    /// A drain cut requests that had not ended in time.
    Cut = 9,
    /// Interrupted, or nothing reads the output any more.
    Cancelled = 130,
}

impl Exit {
    pub(crate) const fn code(self) -> i32 {
        self as i32
    }
}

/// A command that did not do what it was asked: one sentence, and the next step.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// A failure with an error and everything that caused it.
    pub(crate) fn caused(exit: Exit, error: &dyn StdError) -> Self {
        Self::new(exit, chain(error))
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[cfg(test)]
    pub(crate) fn hinted(&self) -> &str {
        self.hint.as_deref().unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on standard error. An interruption is no news to the one that interrupted.
    pub(crate) fn report(self) -> Exit {
        if self.exit != Exit::Cancelled {
            console::tell_labelled(Label::Error, &abridged(&self.message));
            if let Some(hint) = self.hint {
                console::tell_labelled(Label::Hint, &hint);
            }
        }
        self.exit
    }
}

#[cfg(test)]
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.message, self.hint.as_deref().unwrap_or_default())
    }
}

/// An error and its causes in one line. Some errors repeat their cause in their own text.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

impl From<Error> for Failure {
    /// The failure of a request, by whatever is known of it.
    fn from(error: Error) -> Self {
        let exit = match (error.code(), error.fault(), error.executed()) {
            (Code::NoInstances, ..) => Exit::NoInstances,
            (Code::DeadlineExceeded, ..) => Exit::TimedOut,
            (Code::AcceptTimedOut | Code::FirstItemTimedOut | Code::IdleTimedOut, ..) => {
                Exit::TimedOut
            }
            // Not by this side: the command itself knows its own cancel.
            (Code::Cancelled, ..) => Exit::ShutDown,
            (_, _, Executed::No) => Exit::Refused,
            // The stream is known to lack its end.
            (Code::Corrupt | Code::Violation | Code::DuplicateStream, ..)
            | (Code::ResumeExpired | Code::HandedOver | Code::Diverged, ..) => Exit::Truncated,
            (_, Fault::Transport, _) => Exit::Truncated,
            _ => Exit::Failed,
        };
        Self::request(exit, &error)
    }
}

impl Failure {
    /// A request that ended with `error`, and what to do about it.
    pub(crate) fn request(exit: Exit, error: &Error) -> Self {
        let mut failure = Self::caused(exit, error);
        if let Some(code) = error.app_code() {
            failure.message = format!("{} ({code})", failure.message);
        }
        match (exit, error.executed(), error.code()) {
            (Exit::Truncated, ..) => failure.hint(
                "what was printed is a true beginning, not the whole; the request may have run, \
                 so repeat it only if it may run twice",
            ),
            (Exit::TimedOut, _, Code::AcceptTimedOut) => failure.hint(
                "the worker does not answer, and may run the request all the same: repeat it only \
                 if it may run twice, or allow more with --accept-timeout",
            ),
            (Exit::TimedOut, _, Code::FirstItemTimedOut) => {
                failure.hint("the handler was cancelled; allow more with --first-item-timeout")
            }
            (Exit::TimedOut, _, Code::IdleTimedOut) => failure.hint(
                "what was printed is a true beginning, not the whole; allow more with \
                 --idle-timeout",
            ),
            (Exit::TimedOut, Executed::No, _) => {
                failure.hint("nothing ran, so it is safe to try again; allow more with --timeout")
            }
            (Exit::TimedOut, ..) => failure.hint(
                "the request may have run, so repeat it only if it may run twice; allow more \
                 with --timeout",
            ),
            (Exit::Refused, _, Code::Overloaded) => failure.hint(
                "nothing ran: try later, or raise --concurrency of sinew serve, or start another \
                 worker",
            ),
            (Exit::Refused, _, Code::InvalidPayload) => {
                failure.hint("--json sends the data as JSON")
            }
            (Exit::Refused, _, Code::TooLarge) => failure.hint(
                "a request is one message, which also has to fit into a share of the memory budget: \
                 raise SINEW_MAX_MESSAGE_BYTES on both sides, and SINEW_MEMORY_BUDGET or \
                 --memory-budget of sinew serve, or send less",
            ),
            // The handler has answered, and would say the same again.
            (Exit::Refused, ..) if error.app_code().is_some() && !error.is_safe_to_resend() => {
                failure
            }
            (Exit::Refused, ..) => failure.hint("nothing ran, so it is safe to try again"),
            (Exit::ShutDown, Executed::No, _) => failure.hint("nothing ran: try again"),
            (Exit::ShutDown, ..) => failure.hint(SHUT_DOWN),
            _ => failure,
        }
    }
}

const SHUT_DOWN: &str = "what was printed is a true beginning, not the whole; repeat the request only if it may run \
     twice";

/// The end of a request that got no stream. A cancel of one's own is the end that was asked for,
/// whatever word it comes with.
pub(crate) fn of_refusal(error: Error, context: &Context) -> Result<Exit, Failure> {
    match context.reason() {
        Some(CancelReason::Caller) => Ok(Exit::Cancelled),
        _ => Err(claimed_reason(&error)
            .and_then(|reason| claim(reason, error.executed(), context))
            .unwrap_or_else(|| error.into())),
    }
}

/// The end of a stream, as an exit code or an error to report.
pub(crate) fn of_outcome(outcome: &Outcome, context: &Context) -> Result<Exit, Failure> {
    if let Outcome::Complete { .. } = outcome {
        return Ok(Exit::Complete);
    }
    if context.reason() == Some(CancelReason::Caller) {
        return Ok(Exit::Cancelled);
    }
    if let Outcome::Cancelled { reason } = outcome
        && let Some(failure) = claim(*reason, Executed::Maybe, context)
    {
        return Err(failure);
    }
    match outcome {
        Outcome::Complete { .. } => Ok(Exit::Complete),
        Outcome::Failed { error } => Err(failed(error, context)),
        Outcome::Cancelled { reason: CancelReason::DeadlineExceeded } => {
            let error = Error::new(Code::DeadlineExceeded, "the deadline passed");
            Err(Failure::request(Exit::TimedOut, &error))
        }
        Outcome::Cancelled { reason } => {
            let failure = Failure::new(Exit::ShutDown, format!("the stream was ended: {reason}"));
            Err(failure.hint(SHUT_DOWN))
        }
        Outcome::Truncated { received } => {
            let message = format!("the stream broke off after {received} items");
            Err(Error::new(Code::Truncated, message).into())
        }
    }
}

/// A stream that its handler ended with an error. Where it ran, the error is the handler's word,
/// with whatever code it has from a service that the handler asked itself: "nobody is there" and
/// "not reached" are then said of that service.
fn failed(error: &Error, context: &Context) -> Failure {
    let late = context.remaining().is_some_and(|left| left.is_zero());
    match (error.executed(), error.code()) {
        (_, Code::DeadlineExceeded) if late => Failure::request(Exit::TimedOut, error),
        (Executed::Maybe, Code::AcceptTimedOut | Code::FirstItemTimedOut) => {
            Failure::request(Exit::TimedOut, error)
        }
        (_, Code::IdleTimedOut) if context.limits().idle.is_some() => {
            Failure::request(Exit::TimedOut, error)
        }
        (Executed::Yes, Code::Corrupt | Code::Violation | Code::ResumeExpired)
        | (Executed::Yes, Code::HandedOver | Code::Diverged) => {
            Failure::request(Exit::Truncated, error)
        }
        (Executed::Yes, _) | (_, Code::NoInstances | Code::DeadlineExceeded) => {
            Failure::request(Exit::Failed, error)
        }
        _ => error.clone().into(),
    }
}

#[cfg(test)]
mod tests {
    use sinew::AppCode;

    use super::*;

    #[test]
    fn what_a_handler_says_is_shown_as_a_word() {
        let error = Error::application(AppCode::NOT_FOUND, "no model");
        assert_eq!(Failure::from(error.clone()).to_string(), "no model (not_found); ");
        let refused = Failure::from(error.with_executed(Executed::No));
        assert_eq!((refused.exit(), refused.hinted()), (Exit::Refused, ""));
        let busy = Error::application(AppCode::UNAVAILABLE, "").with_executed(Executed::No);
        assert!(Failure::from(busy).hinted().contains("safe to try again"));
    }

    fn exit_of(code: Code) -> Exit {
        Failure::from(Error::new(code, "as told")).exit()
    }

    #[test]
    fn each_kind_of_error_has_its_code() {
        for (code, exit) in [
            (Code::HandlerFailed, Exit::Failed),
            (Code::HandlerGone, Exit::Failed),
            (Code::ConnectionLost, Exit::Truncated),
            (Code::Truncated, Exit::Truncated),
            (Code::Corrupt, Exit::Truncated),
            (Code::NoInstances, Exit::NoInstances),
            (Code::DeadlineExceeded, Exit::TimedOut),
            (Code::AcceptTimedOut, Exit::TimedOut),
            (Code::FirstItemTimedOut, Exit::TimedOut),
            (Code::IdleTimedOut, Exit::TimedOut),
            (Code::DuplicateStream, Exit::Truncated),
            (Code::Violation, Exit::Truncated),
            (Code::ConnectFailed, Exit::Refused),
            (Code::Overloaded, Exit::Refused),
            (Code::UnknownEndpoint, Exit::Refused),
            (Code::InvalidPayload, Exit::Refused),
            (Code::Cancelled, Exit::ShutDown),
        ] {
            assert_eq!(exit_of(code), exit, "{code}");
        }
    }

    fn code_of(outcome: &Outcome, context: &Context) -> i32 {
        match of_outcome(outcome, context) {
            Ok(exit) => exit.code(),
            Err(failure) => failure.exit().code(),
        }
    }

    #[test]
    fn each_end_of_a_stream_has_its_code() {
        let code = |outcome: Outcome| code_of(&outcome, &Context::new());
        assert_eq!(code(Outcome::Complete { items: 3 }), 0);
        assert_eq!(code(Outcome::Failed { error: Error::handler("") }), 1);
        assert_eq!(code(Outcome::Truncated { received: 3 }), 3);
        let late = Context::builder().timeout(std::time::Duration::ZERO).build();
        let outcome = Outcome::Cancelled { reason: CancelReason::DeadlineExceeded };
        assert_eq!(code_of(&outcome, &late), 5);
        assert_eq!(code(Outcome::Cancelled { reason: CancelReason::Shutdown }), 7);
        // The worker says so; nothing was cancelled here.
        assert_eq!(code(Outcome::Cancelled { reason: CancelReason::Caller }), 7);
        let cancelled = Context::new();
        cancelled.kill();
        for outcome in [
            Outcome::Cancelled { reason: CancelReason::Caller },
            Outcome::Failed { error: Error::handler("killed") },
            Outcome::Truncated { received: 1 },
        ] {
            assert_eq!(code_of(&outcome, &cancelled), 130);
        }
    }

    /// An error that a handler hands on from a service of its own says nothing of this request.
    #[test]
    fn what_ran_is_never_said_to_have_been_refused() {
        let code = |code, executed| {
            let error = Error::new(code, "handed on").with_executed(executed);
            code_of(&Outcome::Failed { error }, &Context::new())
        };
        for handed_on in Code::ALL {
            let exit = code(*handed_on, Executed::Yes);
            let is_broken = matches!(
                handed_on,
                Code::Corrupt
                    | Code::Violation
                    | Code::ResumeExpired
                    | Code::HandedOver
                    | Code::Diverged
            );
            assert_eq!(exit, if is_broken { 3 } else { 1 }, "{handed_on}");
            assert_ne!(code(*handed_on, Executed::Maybe), 6, "{handed_on}");
        }
        assert_eq!(code(Code::Overloaded, Executed::No), 6);
    }

    #[test]
    fn the_table_in_the_help_has_every_code_and_no_other() {
        let all = [
            Exit::Complete,
            Exit::Failed,
            Exit::Usage,
            Exit::Truncated,
            Exit::NoInstances,
            Exit::TimedOut,
            Exit::Refused,
            Exit::ShutDown,
            Exit::SetUp,
            Exit::Cut,
            Exit::Cancelled,
        ];
        // A line that goes on has no number.
        let number = |line: &str| line.split_whitespace().next().unwrap().parse::<i32>().ok();
        let listed: Vec<_> = exit_codes!().lines().skip(1).filter_map(number).collect();
        assert_eq!(listed, all.map(Exit::code));
    }

    #[test]
    fn causes_are_told_once() {
        let cause = std::io::Error::other("the socket broke");
        let error = Error::new(Code::ConnectFailed, "no connection").with_source(cause);
        assert_eq!(chain(&error), "no connection: the socket broke");
        let again = Error::new(Code::ConnectFailed, "no connection (after 2)").with_source(error);
        assert_eq!(chain(&again), "no connection (after 2): the socket broke");
    }
}
