//! Errors in Dynamo's form, with additions by which Sinew peers keep them exactly.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_plane::{AppCode, CancelReason, Code, Error, Executed};

/// Longest diagnostic that Dynamo keeps, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// An error in the form of Dynamo 1.6, with one more key between Sinew peers.
///
/// `class` decides what a caller may do; `error_type` is the older field for it. Both are kept as
/// they are, so that values of later versions are preserved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct TypedError {
    /// The older field: `WorkerOverloaded`, `Disconnected`, ... or `{"Backend": WORD}`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub error_type: Value,
    /// The class: `InvalidRequest`, `CapacityExhausted`, `Internal`, ...
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub class: Value,
    /// The cause, from Dynamo's closed list: `transport.disconnected`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The message for users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The message for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,
    /// Details that may be shown to a client, tagged by `type`.
    #[serde(default, alias = "public_details", skip_serializing_if = "Option::is_none")]
    pub public: Option<Value>,
    /// The cause, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<Value>,
    /// The additional fields of Sinew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinew: Option<SinewError>,
}

/// The parts of an [`Error`] that Dynamo's form has no fields for, as the numbers of the mux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinewError {
    /// [`Code::to_wire`].
    pub code: u16,
    /// [`Executed::to_wire`].
    pub executed: u8,
    /// Set if the stream was cancelled and did not fail: [`CancelReason::to_wire`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<u8>,
    /// The retry hint, in milliseconds: [`Error::retry_after`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u32>,
    /// The application code: [`AppCode::to_wire`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_code: Option<u16>,
    /// [`Error::details`], in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

impl TypedError {
    /// Converts an error, for Dynamo and Sinew callers.
    pub fn from_error(error: &Error) -> Self {
        let (error_type, class, reason) = words_of(error.code());
        let message = cut(error.message());
        // Within the bounds of the mux, where 0 stands for no hint.
        let whole = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX).max(1);
        Self {
            error_type: error_type.into(),
            class: class.into(),
            reason: Some(reason.to_owned()),
            diagnostic: Some(message.clone()),
            message: Some(message),
            sinew: Some(SinewError {
                code: error.code().to_wire(),
                executed: error.executed().to_wire(),
                cancelled: None,
                retry_after_ms: error.retry_after().map(whole),
                app_code: error.app_code().map(AppCode::to_wire),
                details: (!error.details().is_empty()).then(|| BASE64.encode(error.details())),
            }),
            ..Self::default()
        }
    }

    /// Makes the error of a cancelled stream, for a caller that did not cancel it.
    pub fn from_cancel(reason: CancelReason) -> Self {
        let mut typed = Self::from_error(&Error::cancelled(reason));
        if let Some(sinew) = &mut typed.sinew {
            sinew.cancelled = Some(reason.to_wire());
        }
        typed
    }

    /// Converts it to an [`Error`]. An unknown class counts as a failed handler that may have run.
    pub fn to_error(&self) -> Error {
        let text = self.message.as_deref().or(self.diagnostic.as_deref());
        let text = text.or(self.reason.as_deref()).unwrap_or("the worker gave no reason");
        let exact = self
            .sinew
            .as_ref()
            .and_then(|it| Some((Code::from_wire(it.code)?, Executed::from_wire(it.executed))));
        let (code, executed) =
            exact.unwrap_or_else(|| code_of(&self.class, &self.error_type, self.reason.as_deref()));
        let mut error = Error::new(code, text).with_executed(executed);
        let Some(sinew) = &self.sinew else { return error };
        if let Some(delay) = sinew.retry_after_ms {
            error = error.with_retry_after(Duration::from_millis(delay.into()));
        }
        if let Some(code) = sinew.app_code.and_then(AppCode::from_wire) {
            error = error.with_app_code(code);
        }
        let details = sinew.details.as_deref().and_then(|text| BASE64.decode(text).ok());
        match details {
            // Who sends more than may be, or something else, has said the rest all the same.
            Some(details) => error.clone().with_details(details).unwrap_or(error),
            None => error,
        }
    }

    /// The reason of the cancel, if the stream was cancelled and did not fail.
    pub fn cancelled(&self) -> Option<CancelReason> {
        self.sinew.as_ref()?.cancelled.map(CancelReason::from_wire)
    }
}

/// `error_type`, `class` and `reason` for a code. The class must be the one that Dynamo's list
/// has for the reason, else Dynamo takes the error for an invalid one; and the first two decide
/// whether Dynamo's router sets the worker aside, which an error of the application must not do.
fn words_of(code: Code) -> (&'static str, &'static str, &'static str) {
    match code {
        Code::ConnectFailed | Code::NoTransport | Code::WrongPeer => {
            ("CannotConnect", "Unavailable", "transport.cannot_connect")
        }
        // What Dynamo's own router goes on with elsewhere.
        Code::ConnectionLost | Code::Truncated | Code::HandedOver => {
            ("Disconnected", "Unavailable", "transport.disconnected")
        }
        Code::ConnectTimedOut => {
            ("ConnectionTimeout", "DeadlineExceeded", "transport.connection_timeout")
        }
        Code::Violation | Code::Version | Code::Corrupt => {
            ("BackendProtocol", "BackendProtocol", "backend.protocol")
        }
        Code::InvalidPayload => ("InvalidArgument", "InvalidRequest", "request.invalid_argument"),
        Code::TooLarge => ("PayloadTooLarge", "PayloadTooLarge", "request.payload_too_large"),
        Code::Cancelled => ("Cancelled", "Cancelled", "request.cancelled"),
        Code::DeadlineExceeded => {
            ("DeadlineExceeded", "DeadlineExceeded", "request.deadline_exceeded")
        }
        Code::Overloaded => ("WorkerOverloaded", "CapacityExhausted", "capacity.worker_overloaded"),
        Code::Exhausted => ("ResourceExhausted", "CapacityExhausted", "capacity.pool_exhausted"),
        Code::Draining | Code::UnknownEndpoint => {
            ("WorkerUnavailable", "Unavailable", "backend.worker_unavailable")
        }
        Code::NoInstances => ("Unavailable", "Unavailable", "backend.unavailable"),
        // The handler's own failure, and codes of later versions.
        _ => ("Unknown", "Internal", "runtime.unclassified"),
    }
}

/// The code for Dynamo's words. None of them means that nothing ran: Dynamo's workers refuse in the
/// acknowledgement, so an error over the response plane is one of an engine that had the request,
/// or of somebody whom it asked.
fn code_of(class: &Value, error_type: &Value, reason: Option<&str>) -> (Code, Executed) {
    let word = |value: &Value| match value {
        Value::Object(backend) => backend.get("Backend").and_then(Value::as_str).map(str::to_owned),
        other => other.as_str().map(str::to_owned),
    };
    let class = word(class).or_else(|| word(error_type));
    match (class.as_deref(), reason) {
        (_, Some("capacity.worker_overloaded")) | (Some("WorkerOverloaded"), None) => {
            (Code::Overloaded, Executed::Maybe)
        }
        (_, Some("backend.worker_unavailable")) | (Some("WorkerUnavailable"), None) => {
            (Code::Draining, Executed::Maybe)
        }
        (Some("InvalidRequest" | "InvalidArgument" | "UnsupportedMedia"), _) => {
            (Code::InvalidPayload, Executed::Maybe)
        }
        (Some("PayloadTooLarge"), _) => (Code::TooLarge, Executed::Maybe),
        (Some("CapacityExhausted" | "ResourceExhausted" | "RateLimited"), _) => {
            (Code::Exhausted, Executed::Maybe)
        }
        (Some("Cancelled"), _) => (Code::Cancelled, Executed::Maybe),
        (Some("DeadlineExceeded" | "ConnectionTimeout" | "ResponseTimeout"), _) => {
            (Code::DeadlineExceeded, Executed::Maybe)
        }
        (Some("BackendProtocol"), _) => (Code::Violation, Executed::Maybe),
        (Some("Unavailable" | "CannotConnect" | "Disconnected"), _) => {
            (Code::ConnectionLost, Executed::Maybe)
        }
        _ => (Code::HandlerFailed, Executed::Maybe),
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Error {
        serde_json::from_str::<TypedError>(json).unwrap().to_error()
    }

    #[test]
    fn every_error_comes_back_exactly_between_sinews_own_ends() {
        for code in Code::ALL {
            for executed in [Executed::No, Executed::Maybe, Executed::Yes] {
                let error = Error::new(*code, "why").with_executed(executed);
                let hinted = error.clone().with_retry_after(Duration::from_millis(1500));
                for error in [error, hinted] {
                    let text = serde_json::to_string(&TypedError::from_error(&error)).unwrap();
                    let back = read(&text);
                    assert_eq!((back.code(), back.executed()), (*code, executed));
                    assert_eq!((back.message(), back.retry_after()), ("why", error.retry_after()));
                }
            }
        }
    }

    #[test]
    fn what_a_handler_says_comes_back_as_it_was_said() {
        let error = Error::application(AppCode::NOT_FOUND, "no model");
        let error = error.with_details(vec![0, 255, 7]).unwrap();
        let back = read(&serde_json::to_string(&TypedError::from_error(&error)).unwrap());
        assert_eq!((back.app_code(), back.details()), (error.app_code(), error.details()));
        for details in ["*".to_owned(), BASE64.encode(vec![0; Error::MAX_DETAILS_BYTES + 1])] {
            let text = format!(
                r#"{{"sinew":{{"code":301,"executed":2,"app_code":5,"details":"{details}"}}}}"#
            );
            let back = read(&text);
            assert_eq!((back.app_code(), back.details().len()), (Some(AppCode::NOT_FOUND), 0));
        }
    }

    #[test]
    fn numbers_come_back_and_dynamo_goes_on_with_what_was_handed_over() {
        let text = |error: &Error| serde_json::to_string(&TypedError::from_error(error)).unwrap();
        assert_eq!(read(&text(&Error::diverged(7))).diverged_at(), Some(7));
        let expired = Error::resume_expired(3, 9, "not kept");
        assert_eq!(read(&text(&expired)).resume_window(), Some((3, 9)));
        let mut as_dynamo = TypedError::from_error(&Error::new(Code::HandedOver, "drains"));
        as_dynamo.sinew = None;
        assert_eq!(as_dynamo.to_error().code(), Code::ConnectionLost);
    }

    /// Peers that do not know the hint send none, and get no key that they do not need.
    #[test]
    fn a_hint_when_to_come_back_is_there_or_not() {
        let error = Error::new(Code::Overloaded, "full");
        let text = |error: &Error| serde_json::to_string(&TypedError::from_error(error)).unwrap();
        assert!(
            text(&error).ends_with(r#""sinew":{"code":401,"executed":0}}"#),
            "{}",
            text(&error)
        );
        assert_eq!(read(&text(&error)).retry_after(), None);
        for (delay, kept) in [
            (Duration::from_micros(1), Duration::from_millis(1)),
            (Duration::MAX, Duration::from_millis(u32::MAX.into())),
        ] {
            let hinted = error.clone().with_retry_after(delay);
            assert_eq!(read(&text(&hinted)).retry_after(), Some(kept));
        }
    }

    #[test]
    fn an_error_as_dynamo_sends_it_is_understood() {
        let error = read(
            r#"{"error_type":"Unknown","class":"Internal","reason":"runtime.unclassified","message":"engine refused fail","diagnostic":"engine refused fail"}"#,
        );
        assert_eq!((error.code(), error.executed()), (Code::HandlerFailed, Executed::Maybe));
        assert_eq!(error.message(), "engine refused fail");
        let overloaded = read(
            r#"{"error_type":"WorkerOverloaded","class":"CapacityExhausted","reason":"capacity.worker_overloaded","message":"m"}"#,
        );
        // An engine says so too, of somebody whom it asked on the request's behalf.
        assert_eq!((overloaded.code(), overloaded.executed()), (Code::Overloaded, Executed::Maybe));
        let backend = read(r#"{"error_type":{"Backend":"Disconnected"},"message":"m"}"#);
        assert_eq!(backend.code(), Code::ConnectionLost);
    }

    #[test]
    fn an_unknown_class_fails_closed() {
        for json in [
            r#"{"class":"FromTheFuture","reason":"new.thing","message":"m"}"#,
            r#"{"class":7}"#,
            r#"{"sinew":{"code":9999,"executed":0},"message":"m"}"#,
            "{}",
        ] {
            let error = read(json);
            assert_eq!(error.code(), Code::HandlerFailed, "{json}");
            assert!(!error.is_safe_to_resend(), "{json}");
        }
    }

    #[test]
    fn long_messages_are_cut_and_a_cancel_is_told_from_a_failure() {
        let error = Error::handler("\u{e4}".repeat(4000));
        let typed = TypedError::from_error(&error);
        assert!(typed.message.unwrap().len() <= MAX_TEXT_BYTES);
        assert_eq!(TypedError::from_error(&error).cancelled(), None);
        let cancel = TypedError::from_cancel(CancelReason::Shutdown);
        assert_eq!(cancel.cancelled(), Some(CancelReason::Shutdown));
    }
}
