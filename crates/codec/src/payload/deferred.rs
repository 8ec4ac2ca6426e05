//! A value that is serialised when it leaves the process, and only then.

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};

use crate::payload::{PayloadError, PayloadFormat};

/// Either a value or its bytes, so that a call within one process never serialises.
///
/// The caller puts a value in; an in-process transport takes the value out; a network transport
/// takes bytes out, and its peer puts bytes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deferred<T> {
    /// Not serialised: it comes from this process.
    Value(T),
    /// As it arrived from, or goes to, a network.
    Encoded {
        /// How the payload is written.
        format: PayloadFormat,
        /// The bytes.
        payload: Bytes,
    },
}

impl<T: DeserializeOwned> Deferred<T> {
    /// The value; decodes only what came as bytes.
    pub fn into_value(self) -> Result<T, PayloadError> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Encoded { format, payload } => format.decode(&payload),
        }
    }
}

impl<T: Serialize + DeserializeOwned> Deferred<T> {
    /// The bytes in `format`; bytes that are in that format already are passed on as they are.
    pub fn into_payload(self, format: PayloadFormat) -> Result<Bytes, PayloadError> {
        match self {
            Self::Encoded { format: written, payload } if written == format => Ok(payload),
            other => format.encode(&other.into_value()?),
        }
    }
}
