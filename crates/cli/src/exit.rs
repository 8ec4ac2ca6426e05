//! How a command ends: its exit code, and what it says about an error.

use std::error::Error as StdError;

use sinew::{
    CancelReason, Code, Error, Executed, Fault, Outcome, StartError,
    layers::discovery::DiscoveryError,
};
use sinew_telemetry::console::tell;

/// The exit code of a command. They tell apart what a script wants to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every item came.
    Complete = 0,
    /// The handler, or the command itself, failed.
    Failed = 1,
    /// The command line or a setting makes no sense.
    Usage = 2,
    /// The worker or the way to it was lost; it may have run.
    Truncated = 3,
    /// Nobody serves the endpoint.
    NoInstances = 4,
    /// The deadline passed.
    TimedOut = 5,
    /// It could not be reached or it refused; nothing ran.
    Refused = 6,
    /// The serving side shut down and ended the stream.
    ShutDown = 7,
    /// Interrupted, or nobody reads the output any more.
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
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on standard error. An interruption is no news to whoever interrupted.
    pub(crate) fn report(self) -> Exit {
        if self.exit != Exit::Cancelled {
            tell(&format!("error: {}", self.message));
            if let Some(hint) = self.hint {
                tell(&format!("hint: {hint}"));
            }
        }
        self.exit
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

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match error {
            StartError::Config(_) => Exit::Usage,
            _ => Exit::Failed,
        };
        let failure = Self::caused(exit, &error);
        match error {
            StartError::Discovery(DiscoveryError::Unavailable { backend: "etcd", .. }) => failure
                .hint(
                    "check that etcd runs there and that this machine reaches it; sinew serve \
                     waits 2 minutes for it, other commands 5 s",
                ),
            StartError::Discovery(DiscoveryError::Denied { backend: "etcd", .. }) => failure.hint(
                "check SINEW_ETCD_USER and SINEW_ETCD_PASSWORD, and what etcd grants that user",
            ),
            StartError::Discovery(DiscoveryError::Denied { .. }) => failure,
            StartError::Discovery(DiscoveryError::Taken { .. }) => failure.hint(
                "leave --instance out to have a random id, choose another one, or stop the worker \
                 that has this one",
            ),
            // Its own text says what to write.
            StartError::Discovery(
                DiscoveryError::Invalid { .. } | DiscoveryError::ReadOnly { .. },
            ) => failure,
            StartError::Discovery(DiscoveryError::Unavailable { backend: "dns", .. }) => {
                failure.hint("check the name, and that this machine has a DNS server that knows it")
            }
            StartError::Discovery(_) => failure.hint(
                "choose a folder that you can write to with --discovery file:PATH, or name the \
                 servers with --discovery static:HOST:PORT",
            ),
            // Only NATS is connected to at the start.
            StartError::Transport(error)
                if matches!(error.code(), Code::ConnectFailed | Code::ConnectTimedOut) =>
            {
                failure.hint(
                    "check --nats or $SINEW_NATS_SERVER, or do without it: --request-plane tcp",
                )
            }
            _ => failure,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match (error.code(), error.fault(), error.executed()) {
            (Code::NoInstances, ..) => Exit::NoInstances,
            (Code::DeadlineExceeded, ..) => Exit::TimedOut,
            (Code::Cancelled, ..) => Exit::Cancelled,
            (_, _, Executed::No) => Exit::Refused,
            // The stream is known to lack its end.
            (Code::Corrupt | Code::Violation | Code::ResumeExpired, ..) => Exit::Truncated,
            (_, Fault::Transport, _) => Exit::Truncated,
            _ => Exit::Failed,
        };
        let failure = Self::caused(exit, &error);
        match exit {
            Exit::Truncated => failure.hint(
                "what was printed is a true beginning, not the whole; the request may have run, \
                 so repeat it only if it may run twice",
            ),
            Exit::TimedOut => failure.hint("allow more with --timeout"),
            Exit::Refused => match error.code() {
                Code::Overloaded => failure.hint(
                    "nothing ran: try later, or raise --concurrency of sinew serve, or start \
                     another worker",
                ),
                Code::InvalidPayload => failure.hint("--json sends the data as JSON"),
                Code::TooLarge => failure.hint(
                    "a request is one message: raise SINEW_MAX_MESSAGE_BYTES on both sides, or \
                     send less",
                ),
                _ => failure.hint("nothing ran, so it is safe to try again"),
            },
            _ => failure,
        }
    }
}

/// The end of a stream, as an exit code or an error to report.
pub(crate) fn of_outcome(outcome: &Outcome) -> Result<Exit, Failure> {
    match outcome {
        Outcome::Complete { .. } => Ok(Exit::Complete),
        Outcome::Failed { error } => Err(error.clone().into()),
        Outcome::Cancelled { reason: CancelReason::Caller } => Ok(Exit::Cancelled),
        Outcome::Cancelled { reason: CancelReason::DeadlineExceeded } => {
            Err(Error::new(Code::DeadlineExceeded, "the deadline passed").into())
        }
        Outcome::Cancelled { reason } => {
            let failure = Failure::new(Exit::ShutDown, format!("the stream was ended: {reason}"));
            Err(failure.hint("what was printed is a true beginning, not the whole"))
        }
        Outcome::Truncated { received } => {
            let message = format!("the stream broke off after {received} items");
            Err(Error::new(Code::Truncated, message).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (Code::ConnectFailed, Exit::Refused),
            (Code::Overloaded, Exit::Refused),
            (Code::UnknownEndpoint, Exit::Refused),
            (Code::InvalidPayload, Exit::Refused),
            (Code::Cancelled, Exit::Cancelled),
        ] {
            assert_eq!(exit_of(code), exit, "{code}");
        }
    }

    #[test]
    fn each_end_of_a_stream_has_its_code() {
        let code = |outcome: Outcome| match of_outcome(&outcome) {
            Ok(exit) => exit.code(),
            Err(failure) => failure.exit().code(),
        };
        assert_eq!(code(Outcome::Complete { items: 3 }), 0);
        assert_eq!(code(Outcome::Failed { error: Error::handler("") }), 1);
        assert_eq!(code(Outcome::Truncated { received: 3 }), 3);
        assert_eq!(code(Outcome::Cancelled { reason: CancelReason::DeadlineExceeded }), 5);
        assert_eq!(code(Outcome::Cancelled { reason: CancelReason::Shutdown }), 7);
        assert_eq!(code(Outcome::Cancelled { reason: CancelReason::Caller }), 130);
    }

    #[test]
    fn each_fault_of_discovery_has_its_own_hint() {
        let (what, source) = (String::new(), None);
        let key =
            sinew::InstanceKey { endpoint: "a/b/c".parse().unwrap(), id: sinew::InstanceId(7) };
        for (error, hint) in [
            (DiscoveryError::Unavailable { backend: "etcd", what: what.clone(), source }, "runs"),
            (DiscoveryError::Denied { backend: "etcd", what }, "SINEW_ETCD_PASSWORD"),
            (DiscoveryError::Taken { key }, "--instance"),
        ] {
            let failure = Failure::from(StartError::Discovery(error));
            let said = failure.hint.unwrap();
            assert!(said.contains(hint) && !said.contains("folder"), "{said}");
        }
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
