//! The error of a request or a stream.

use std::{fmt, sync::Arc, time::Duration};

use crate::{CancelReason, Code, Executed, Fault};

/// Longest message that is kept, in bytes; what a peer sends beyond it is cut.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Why a request or its stream failed: [what](Self::code), [whose fault](Self::fault),
/// [whether a handler may have run](Self::executed), and a sentence for people.
///
/// Clones share one allocation. The message never holds payload bytes.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    executed: Executed,
    message: String,
    retry_after: Option<Duration>,
    is_remembered: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with the code's own word about execution. Messages over 4,096 bytes are cut.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            let cut = (0..=MAX_MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at));
            message.truncate(cut.unwrap_or(0));
        }
        let executed = code.executed();
        Self(Arc::new(Inner {
            code,
            executed,
            message,
            retry_after: None,
            is_remembered: false,
            source: None,
        }))
    }

    /// The server refuses new work because it is going away. Safe to send elsewhere.
    pub fn draining(message: impl Into<String>) -> Self {
        Self::new(Code::Draining, message)
    }

    /// The request was cancelled: [`Code::DeadlineExceeded`] when its deadline was the reason,
    /// else [`Code::Cancelled`]. Whether a handler ran is not known from that.
    pub fn cancelled(reason: CancelReason) -> Self {
        Self::new(code_of(reason), reason.to_string())
    }

    /// As [`cancelled`](Self::cancelled), of a wait for what the sentence says: "a connection was
    /// made".
    pub fn cancelled_while(reason: CancelReason, doing: &str) -> Self {
        Self::new(code_of(reason), format!("{reason} while {doing}"))
    }

    /// The handler failed.
    pub fn handler(message: impl Into<String>) -> Self {
        Self::new(Code::HandlerFailed, message)
    }

    /// The same error with a better knowledge of whether a handler ran.
    #[must_use]
    pub fn with_executed(mut self, executed: Executed) -> Self {
        Arc::make_mut(&mut self.0).executed = executed;
        self
    }

    /// The same error of a stream of which `received` items have come: an item that came says that
    /// the handler ran, whatever the error says by itself, as one that a handler hands on from a
    /// service that it asked.
    pub(crate) fn behind_items(self, received: u64) -> Self {
        match received {
            0 => self,
            _ if self.0.executed == Executed::Yes => self,
            _ => self.with_executed(Executed::Yes),
        }
    }

    /// The same error with a hint when to come back.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(delay);
        self
    }

    /// The same error as the answer to somebody for whom nothing was tried: it failed a moment ago.
    #[must_use]
    pub fn remembered(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_remembered = true;
        self
    }

    /// True when it is the error of an earlier attempt, and this one was not made.
    pub fn is_remembered(&self) -> bool {
        self.0.is_remembered
    }

    /// The same error with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::new(source));
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.0.code.fault()
    }

    /// Whether a handler may have run.
    pub fn executed(&self) -> Executed {
        self.0.executed
    }

    /// True when the peer cannot have run the request, so that sending it again is safe.
    pub fn is_safe_to_resend(&self) -> bool {
        self.0.executed == Executed::No
            && !matches!(self.0.code, Code::TooLarge | Code::InvalidPayload | Code::Cancelled)
            && self.0.code != Code::DeadlineExceeded
    }

    /// The sentence for people, without code and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// When the server suggests to come back.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

fn code_of(reason: CancelReason) -> Code {
    match reason {
        CancelReason::DeadlineExceeded => Code::DeadlineExceeded,
        _ => Code::Cancelled,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("code", &self.0.code.as_str()).field("message", &self.0.message);
        debug.field("executed", &self.0.executed);
        if let Some(delay) = self.0.retry_after {
            debug.field("retry_after", &delay);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_to_resend_needs_certainty_and_a_point_in_trying() {
        assert!(Error::new(Code::ConnectFailed, "").is_safe_to_resend());
        assert!(Error::draining("").is_safe_to_resend());
        assert!(!Error::new(Code::ConnectionLost, "").is_safe_to_resend());
        assert!(!Error::handler("").is_safe_to_resend());
        // Not executed, but it would only fail the same way again.
        assert!(!Error::new(Code::TooLarge, "").is_safe_to_resend());
        assert!(!Error::new(Code::InvalidPayload, "").is_safe_to_resend());
        let late = Error::new(Code::DeadlineExceeded, "").with_executed(Executed::No);
        assert!(!late.is_safe_to_resend());
    }

    #[test]
    fn a_cancel_for_the_deadline_has_a_code_of_its_own() {
        assert_eq!(Error::cancelled(CancelReason::DeadlineExceeded).code(), Code::DeadlineExceeded);
        for reason in [CancelReason::Caller, CancelReason::Disconnected, CancelReason::Shutdown] {
            let error = Error::cancelled(reason);
            assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::Maybe));
        }
        let error = Error::cancelled_while(CancelReason::DeadlineExceeded, "it waited");
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert_eq!(error.message(), "deadline exceeded while it waited");
    }

    #[test]
    fn long_messages_are_cut_at_a_character() {
        let error = Error::handler("\u{e4}".repeat(3000));
        assert!(error.message().len() <= 4096);
        assert!(error.message().chars().all(|c| c == '\u{e4}'));
    }

    #[test]
    fn the_cause_is_in_source_and_not_in_display() {
        let cause = std::io::Error::other("the socket broke");
        let error = Error::new(Code::ConnectFailed, "no connection").with_source(cause);
        assert_eq!(error.to_string(), "no connection");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("socket"));
    }
}
