//! The closed set of answers with which a worker acknowledges a request of a split exchange.
//!
//! | bytes | meaning |
//! |---|---|
//! | none | accepted: a handler will run, or has said why not on the response plane |
//! | `Server overloaded: TEXT` | refused for want of room; nothing ran |
//! | `Server unavailable: TEXT` | refused: unknown here, or going away; nothing ran |
//!
//! These are the answers of NVIDIA Dynamo 1.6. Any other text is a protocol violation and never a
//! success, because its sender would not send a response.

use bytes::Bytes;
use sinew_plane::{Code, Error, Executed};

const OVERLOADED: &str = "Server overloaded: ";
const UNAVAILABLE: &str = "Server unavailable: ";
/// What follows [`UNAVAILABLE`] when the path is not known; Dynamo goes on with the path.
const UNKNOWN_ENDPOINT: &str = "unknown endpoint";
/// What follows [`UNAVAILABLE`] when the worker does not dial the address that the request names.
const REFUSED_ADDRESS: &str = "response address ";

/// Longest acknowledgement that makes sense, in bytes: a prefix and the longest message.
pub const MAX_ACK_BYTES: usize = 8 * 1024;

/// Writes an acknowledgement.
pub fn encode(outcome: &Result<(), Error>) -> Bytes {
    let Err(error) = outcome else { return Bytes::new() };
    let prefix = match error.code() {
        Code::Overloaded | Code::Exhausted => OVERLOADED,
        _ => UNAVAILABLE,
    };
    format!("{prefix}{}", error.message()).into()
}

/// Reads an acknowledgement.
///
/// # Errors
/// The refusal, after which the handler certainly did not run; or [`Code::Violation`] for any other
/// text, after which it may have run.
pub fn decode(bytes: &[u8]) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(reason) = text.strip_prefix(OVERLOADED.trim_end()) {
        return Err(Error::new(Code::Overloaded, reason.trim_start()));
    }
    if let Some(reason) = text.strip_prefix(UNAVAILABLE.trim_end()) {
        let reason = reason.trim_start();
        let code = match reason {
            _ if reason.starts_with(UNKNOWN_ENDPOINT) => Code::UnknownEndpoint,
            // No way is left between the two ends: another worker may have one.
            _ if reason.starts_with(REFUSED_ADDRESS) => Code::NoTransport,
            _ => Code::Draining,
        };
        return Err(Error::new(code, reason));
    }
    let shown: String = text.chars().take(120).collect();
    let message = format!(
        "the worker answered the request with {shown:?}, which is no acknowledgement: it speaks \
         another protocol or version"
    );
    Err(Error::new(Code::Violation, message).with_executed(Executed::Maybe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_dynamo_are_understood() {
        assert!(decode(b"").is_ok());
        for (text, code) in [
            ("Server overloaded: worker at capacity", Code::Overloaded),
            ("Server unavailable: unknown endpoint 1f/a/b/c", Code::UnknownEndpoint),
            ("Server unavailable: worker pool channel closed", Code::Draining),
        ] {
            let error = decode(text.as_bytes()).unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            assert!(error.is_safe_to_resend(), "{text}");
        }
    }

    #[test]
    fn an_unknown_answer_is_a_violation_and_never_a_success() {
        for text in ["Read error: early eof", "Invalid endpoint path", "OK", " ", "\u{fffd}"] {
            let error = decode(text.as_bytes()).unwrap_err();
            assert_eq!(error.code(), Code::Violation, "{text:?}");
            assert_eq!(error.executed(), Executed::Maybe, "{text:?}");
        }
        assert_eq!(decode(&[0xff; 9000]).unwrap_err().code(), Code::Violation);
    }

    #[test]
    fn refusals_come_back_as_they_were() {
        assert!(decode(&encode(&Ok(()))).is_ok());
        for (code, message) in [
            (Code::Overloaded, "worker at capacity"),
            (Code::UnknownEndpoint, "unknown endpoint 1f/a/b/c"),
            (Code::Draining, "the worker is going away"),
            (Code::NoTransport, "response address \"10.0.0.1:80\" refused: it is not ours"),
        ] {
            let refusal = encode(&Err(Error::new(code, message)));
            let back = decode(&refusal).unwrap_err();
            assert_eq!((back.code(), back.message()), (code, message));
        }
    }

    #[test]
    fn no_code_leaves_the_set() {
        for code in Code::ALL {
            let answer = encode(&Err(Error::new(*code, "why")));
            assert!(decode(&answer).unwrap_err().is_safe_to_resend(), "{code}");
        }
    }
}
