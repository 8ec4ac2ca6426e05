//! The raw format: the payload is the value.

mod read;
mod write;

use bytes::BytesMut;
use serde_core::{Serialize, de::DeserializeOwned};

use crate::payload::{
    Format, PayloadError, PayloadFormat,
    bounded::write_bounded,
    raw::{read::RawDeserializer, write::RawSerializer},
};

/// Bytes as they are, `application/octet-stream`.
///
/// Carries `bytes::Bytes`, `Vec<u8>`, `[u8; N]`, `str`, `String`, and newtypes around them.
/// Everything else is [`PayloadError::NotBytes`]. Code that already holds `Bytes` and knows that the
/// format is raw needs no call here: the payload is that value, without a copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Format for Raw {
    const NAME: &'static str = PayloadFormat::Raw.name();
    const CONTENT_TYPE: &'static str = PayloadFormat::Raw.content_type();

    fn encode_into<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut BytesMut,
        max_bytes: usize,
    ) -> Result<(), PayloadError> {
        write_bounded(Self::NAME, out, max_bytes, |writer| {
            value.serialize(RawSerializer::whole(writer)).map_err(|error| error.0)
        })
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, PayloadError> {
        T::deserialize(RawDeserializer(payload)).map_err(|error| error.0)
    }
}

/// `PayloadError` in the shape that serde asks for, kept out of the public error.
#[derive(Debug)]
struct RawError(PayloadError);

impl RawError {
    fn not_bytes(found: &'static str) -> Self {
        Self(PayloadError::NotBytes { found })
    }
}

impl std::fmt::Display for RawError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for RawError {}

// The message of a `custom` error may quote the value, so it is not passed on.
impl serde_core::ser::Error for RawError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(PayloadError::Encode { format: Raw::NAME, reason: "refused by its type".to_owned() })
    }
}

impl serde_core::de::Error for RawError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(PayloadError::Decode { format: Raw::NAME, reason: "refused by its type".to_owned() })
    }
}
