//! The error of a request or a stream.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{AppCode, CancelReason, Code, Executed, Fault};

/// Longest message that is kept, in bytes. A longer message of a peer is cut.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Why a request or its stream failed: a [code](Self::code), a [category](Self::fault), [whether a
/// handler may have run](Self::executed), and a message for people.
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
    app_code: Option<AppCode>,
    details: Bytes,
}

impl Error {
    /// Most bytes that an error carries as [details](Self::details).
    pub const MAX_DETAILS_BYTES: usize = 8 << 10;

    /// Makes an error; the code says whether a handler may have run. Messages over 4,096 bytes are
    /// cut.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = bounded(message.into());
        let executed = code.executed();
        Self(Arc::new(Inner {
            code,
            executed,
            message,
            retry_after: None,
            is_remembered: false,
            source: None,
            app_code: None,
            details: Bytes::new(),
        }))
    }

    /// The error of a server that refuses new requests because it shuts down. The request may
    /// safely go to another server.
    pub fn draining(message: impl Into<String>) -> Self {
        Self::new(Code::Draining, message)
    }

    /// The error of a cancelled request: [`Code::DeadlineExceeded`] if its deadline was the reason,
    /// else [`Code::Cancelled`]. It does not say whether a handler ran.
    pub fn cancelled(reason: CancelReason) -> Self {
        Self::new(code_of(reason), reason.to_string())
    }

    /// As [`cancelled`](Self::cancelled), for a wait that `doing` describes, such as "a connection
    /// was made".
    pub fn cancelled_while(reason: CancelReason, doing: &str) -> Self {
        Self::new(code_of(reason), format!("{reason} while {doing}"))
    }

    /// The error of a handler that failed.
    pub fn handler(message: impl Into<String>) -> Self {
        Self::new(Code::HandlerFailed, message)
    }

    /// The error of a stream whose worker was lost and whose second run gives other items: see
    /// [`diverged_at`](Self::diverged_at).
    pub fn diverged(at_item: u64) -> Self {
        let message = format!(
            "the worker was lost, and the request gives other items when it is run again: they \
             differ at item {at_item} or before it"
        );
        Self::new(Code::Diverged, message).with_numbers(&[at_item])
    }

    /// The error of a part of a stream that is no longer kept, where the items `oldest` to
    /// `newest - 1` are: see [`resume_window`](Self::resume_window).
    pub fn resume_expired(oldest: u64, newest: u64, message: impl Into<String>) -> Self {
        Self::new(Code::ResumeExpired, message).with_numbers(&[oldest, newest])
    }

    /// Sets details that are numbers of 8 bytes, big-endian: see docs/protocol.md, section 13.
    fn with_numbers(mut self, numbers: &[u64]) -> Self {
        let details: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        Arc::make_mut(&mut self.0).details = details.into();
        self
    }

    /// The number at this place of the details of an error with this code.
    fn number(&self, code: Code, place: usize) -> Option<u64> {
        if self.code() != code {
            return None;
        }
        self.0.details.chunks_exact(8).nth(place)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// For [`Code::Diverged`]: the number of the item at which the second run is known to differ
    /// from the first. It is exact for the last 128 items that the caller has. If the runs differ
    /// earlier, it is the number of an item behind the one that differs: only a running hash of
    /// all items is kept for those. All items that the caller has are of the first run. `None` for
    /// any other code, and where the error came from a peer that does not say.
    pub fn diverged_at(&self) -> Option<u64> {
        self.number(Code::Diverged, 0)
    }

    /// For [`Code::ResumeExpired`]: the numbers of the oldest item that is kept and of the item after
    /// the newest. `None` for any other code, and where nothing of the stream is kept.
    pub fn resume_window(&self) -> Option<(u64, u64)> {
        self.number(Code::ResumeExpired, 0).zip(self.number(Code::ResumeExpired, 1))
    }

    /// Replaces the message, which is cut after 4,096 bytes. This error becomes the source of the
    /// new one, which does not count as [remembered](Self::remembered).
    #[must_use]
    pub fn with_message(&self, message: impl Into<String>) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.message = bounded(message.into());
        inner.is_remembered = false;
        inner.source = Some(Arc::new(self.clone()));
        Self(Arc::new(inner))
    }

    /// The error of a handler that failed with an application code. The caller gets the code from
    /// [`app_code`](Self::app_code), over every transport.
    pub fn application(code: AppCode, message: impl Into<String>) -> Self {
        Self::handler(message).with_app_code(code)
    }

    /// Sets the application code.
    #[must_use]
    pub fn with_app_code(mut self, code: AppCode) -> Self {
        Arc::make_mut(&mut self.0).app_code = Some(code);
        self
    }

    /// Sets details: bytes in a format that the handler and its callers agree on. They are never
    /// logged.
    ///
    /// ```
    /// use sinew_plane::{AppCode, Error};
    ///
    /// fn refuse(field: &str) -> Result<(), Error> {
    ///     let error = Error::application(AppCode::INVALID_ARGUMENT, "a field is missing");
    ///     Err(error.with_details(field.to_owned())?)
    /// }
    /// assert_eq!(refuse("model").unwrap_err().details(), "model");
    /// ```
    ///
    /// # Errors
    /// The details are over 8,192 bytes. The returned error has the category of the handler.
    pub fn with_details(mut self, details: impl Into<Bytes>) -> Result<Self, Self> {
        let details = details.into();
        if details.len() > Self::MAX_DETAILS_BYTES {
            let message = format!(
                "the details of an error have {} bytes, over the limit of {}; the \
                 error is: {self}",
                details.len(),
                Self::MAX_DETAILS_BYTES,
            );
            return Err(Self::handler(message));
        }
        Arc::make_mut(&mut self.0).details = details;
        Ok(self)
    }

    /// Sets whether a handler ran, if the caller knows better than the code.
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

    /// Sets the time after which the caller may try again.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        Arc::make_mut(&mut self.0).retry_after = Some(delay);
        self
    }

    /// Marks the error as the result of an earlier attempt: the target failed recently, so this
    /// attempt was not made.
    #[must_use]
    pub fn remembered(mut self) -> Self {
        Arc::make_mut(&mut self.0).is_remembered = true;
        self
    }

    /// True if it is the error of an earlier attempt, and this attempt was not made.
    pub fn is_remembered(&self) -> bool {
        self.0.is_remembered
    }

    /// Sets the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::new(source));
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The category of the error.
    pub fn fault(&self) -> Fault {
        self.0.code.fault()
    }

    /// Whether a handler may have run.
    pub fn executed(&self) -> Executed {
        self.0.executed
    }

    /// The application code, if the handler has set one.
    pub fn app_code(&self) -> Option<AppCode> {
        self.0.app_code
    }

    /// The details that the handler has set, for callers that know their format; at most 8,192
    /// bytes.
    pub fn details(&self) -> &Bytes {
        &self.0.details
    }

    /// True if no handler can have run the request, so that sending it again is safe, and if
    /// another instance may give another answer. A refusal with an application code is an answer,
    /// unless the code is [`AppCode::UNAVAILABLE`].
    pub fn is_safe_to_resend(&self) -> bool {
        self.0.executed == Executed::No
            && self.0.app_code.is_none_or(|code| code == AppCode::UNAVAILABLE)
            && !matches!(self.0.code, Code::TooLarge | Code::InvalidPayload | Code::Cancelled)
            && self.0.code != Code::DeadlineExceeded
    }

    /// The message for people, without code and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The time after which the server suggests to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

/// The message, cut at a character where it is too long.
fn bounded(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let cut = (0..=MAX_MESSAGE_BYTES).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(cut.unwrap_or(0));
    }
    message
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
        if let Some(code) = self.0.app_code {
            debug.field("app_code", &code);
        }
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
    fn a_handler_that_refuses_with_a_code_has_answered() {
        let refused = |code| Error::application(code, "").with_executed(Executed::No);
        assert!(!refused(AppCode::UNAUTHENTICATED).is_safe_to_resend());
        assert!(!refused(AppCode::own(1_000).unwrap()).is_safe_to_resend());
        assert!(refused(AppCode::UNAVAILABLE).is_safe_to_resend());
    }

    #[test]
    fn details_over_the_limit_are_an_error_that_keeps_the_first() {
        let error = Error::application(AppCode::NOT_FOUND, "no model");
        let most = error.clone().with_details(vec![7; Error::MAX_DETAILS_BYTES]).unwrap();
        assert_eq!((most.details().len(), most.app_code()), (8_192, Some(AppCode::NOT_FOUND)));
        let over = error.with_details(vec![7; 8_193]).unwrap_err();
        assert_eq!(over.code(), Code::HandlerFailed);
        assert!(over.message().contains("8193") && over.message().contains("no model"), "{over}");
    }

    #[test]
    fn numbers_stand_in_the_details_of_their_codes_alone() {
        let diverged = Error::diverged(258);
        assert_eq!((diverged.diverged_at(), diverged.resume_window()), (Some(258), None));
        assert_eq!(&diverged.details()[..], [0, 0, 0, 0, 0, 0, 1, 2]);
        let expired = Error::resume_expired(3, u64::MAX, "not kept");
        assert_eq!((expired.diverged_at(), expired.resume_window()), (None, Some((3, u64::MAX))));
        assert_eq!(expired.details().len(), 16);
        // As from a peer that says less, or of a later version that says more.
        let of = |code, bytes: usize| Error::new(code, "").with_details(vec![0; bytes]).unwrap();
        assert_eq!(of(Code::Diverged, 7).diverged_at(), None);
        assert_eq!(of(Code::Diverged, 24).diverged_at(), Some(0));
        assert_eq!(of(Code::ResumeExpired, 15).resume_window(), None);
        assert_eq!(of(Code::HandlerFailed, 16).diverged_at(), None);
    }

    #[test]
    fn no_details_are_shown() {
        let error = Error::handler("boom").with_details("secret").unwrap();
        assert!(!format!("{error:?} {error}").contains("secret"));
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
