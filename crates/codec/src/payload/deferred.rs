//! A value that is serialised only when it leaves the process.

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};

use crate::payload::{PayloadError, PayloadFormat};

/// Either a value or its bytes, so that a call within one process does not serialise.
///
/// The caller puts a value in; an in-process transport takes the value out; a network transport
/// takes bytes out, and its peer puts bytes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deferred<T> {
    /// A value of this process, which is not serialised.
    Value(T),
    /// Bytes that were received from, or are sent to, a network.
    Encoded {
        /// The format of the payload.
        format: PayloadFormat,
        /// The bytes.
        payload: Bytes,
    },
}

impl<T: DeserializeOwned> Deferred<T> {
    /// Returns the value. Decodes it only if it is encoded.
    pub fn into_value(self) -> Result<T, PayloadError> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Encoded { format, payload } => format.decode(&payload),
        }
    }
}

impl<T: Serialize + DeserializeOwned> Deferred<T> {
    /// Returns the bytes in `format`. Bytes that are in that format already are returned unchanged.
    pub fn into_payload(self, format: PayloadFormat) -> Result<Bytes, PayloadError> {
        match self {
            Self::Encoded { format: written, payload } if written == format => Ok(payload),
            other => format.encode(&other.into_value()?),
        }
    }
}
