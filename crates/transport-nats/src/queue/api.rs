//! The JetStream API: requests with JSON, over the same connection and table as all others.
//!
//! The client library has this too. It requires fields that servers before 2.10 do not send, and
//! its requests ignore the limits here: an abandoned request stays in its table, a request during
//! an outage is queued, and none fails when the connection breaks.

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sinew_plane::{Code, Error, Executed};

use crate::connection_state::ConnectionState;

/// Header: items with the same value are stored once.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Header: the stream that is to store the item, and no other.
pub(super) const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// Error of the server: a stream of this name has other settings.
pub(super) const STREAM_EXISTS: u32 = 10058;
/// Error of the server: an item is larger than the stream takes.
const ITEM_TOO_LARGE: u32 = 10054;

pub(super) struct Api<'a> {
    state: &'a ConnectionState,
}

/// Why there is no answer to use.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The server says no.
    Refused(Refusal),
    /// It was not asked, or has not answered.
    Failed(Error),
}

/// A no of the server's.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    /// As in HTTP.
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    description: String,
}

impl<'a> Api<'a> {
    pub(super) fn new(state: &'a ConnectionState) -> Self {
        Self { state }
    }

    /// Asks `$JS.API.SUBJECT` to make something.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        subject: &str,
        question: &impl Serialize,
    ) -> Result<T, ApiError> {
        let body = serde_json::to_vec(question).map_err(|cause| {
            let message = format!("the question to JetStream cannot be written: {cause}");
            ApiError::Failed(Error::new(Code::InvalidPayload, message))
        })?;
        self.send(subject, body.into()).await
    }

    /// Asks `$JS.API.SUBJECT`, which wants no more.
    pub(super) async fn ask<T: DeserializeOwned>(&self, subject: &str) -> Result<T, ApiError> {
        self.send(subject, Bytes::new()).await
    }

    async fn send<T: DeserializeOwned>(&self, subject: &str, body: Bytes) -> Result<T, ApiError> {
        let subject = format!("$JS.API.{subject}");
        let answer = self.state.request(subject, (HeaderMap::new(), 0), body).await;
        let answer = answer.map_err(|error| match error.code() {
            Code::UnknownEndpoint => {
                let message = "the NATS server has no JetStream, or not for this user: start it \
                               with jetstream in its configuration";
                ApiError::Failed(Error::new(Code::UnknownEndpoint, message))
            }
            _ => ApiError::Failed(error),
        })?;
        read(&answer.payload)
    }
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    #[derive(Deserialize)]
    struct Outcome {
        error: Option<Refusal>,
    }
    let violation = |cause: serde_json::Error| {
        let message = format!("the answer is not one of JetStream: {cause}");
        ApiError::Failed(Error::new(Code::Violation, message).with_executed(Executed::Maybe))
    };
    let outcome: Outcome = serde_json::from_slice(bytes).map_err(violation)?;
    match outcome.error {
        Some(refusal) => Err(ApiError::Refused(refusal)),
        None => serde_json::from_slice(bytes).map_err(violation),
    }
}

impl ApiError {
    /// There is no stream or consumer of that name.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == 404)
    }

    pub(super) fn is(&self, err_code: u32) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.err_code == err_code)
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        let refusal = match error {
            ApiError::Failed(error) => return error,
            ApiError::Refused(refusal) => refusal,
        };
        let code = match (refusal.code, refusal.err_code) {
            (_, ITEM_TOO_LARGE) => Code::TooLarge,
            (404, _) => Code::UnknownEndpoint,
            // Full, or the server has no room.
            (503, _) => Code::Overloaded,
            _ => Code::InvalidPayload,
        };
        let Refusal { err_code, description, .. } = refusal;
        Error::new(code, format!("JetStream refuses: {description} (error {err_code})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Numbered {
        seq: u64,
    }

    fn error(text: &str) -> Error {
        read::<Numbered>(text.as_bytes()).unwrap_err().into()
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        assert_eq!(read::<Numbered>(br#"{"stream":"q", "seq":7}"#).unwrap().seq, 7);
        let full = r#"{"error":{"code":503,"err_code":10077,
            "description":"maximum messages exceeded"},"stream":"q","seq":0}"#;
        let full = error(full);
        assert_eq!((full.code(), full.executed()), (Code::Overloaded, Executed::No));
        assert!(full.message().contains("maximum messages exceeded"), "{full}");
        let gone = error(r#"{"error":{"code":404,"err_code":10059}}"#);
        assert_eq!(gone.code(), Code::UnknownEndpoint);
        assert_eq!(error(r#"{"error":{"code":400}}"#).code(), Code::InvalidPayload);
    }

    #[test]
    fn what_is_no_answer_may_have_been_stored() {
        for text in ["", "[]", "{}", "\u{ff}", r#"{"seq":"7"}"#, r#"{"error":7}"#] {
            let error = error(text);
            assert_eq!((error.code(), error.executed()), (Code::Violation, Executed::Maybe));
        }
    }
}
