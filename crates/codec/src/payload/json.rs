//! JSON payloads.

use bytes::BytesMut;
use serde_core::{Serialize, de::DeserializeOwned};

use crate::payload::{Format, PayloadError, PayloadFormat, bounded::write_bounded};

/// JSON text, `application/json`.
///
/// Nesting is limited to 128 levels. A repeated key is an error for a struct; a map keeps the last
/// one (header parts are stricter, see [`crate::decode_control`]). NaN and infinities cannot be
/// written; numbers out of range, lone surrogates and a byte order mark are refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Format for Json {
    const NAME: &'static str = PayloadFormat::Json.name();
    const CONTENT_TYPE: &'static str = PayloadFormat::Json.content_type();

    fn encode_into<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut BytesMut,
        max_bytes: usize,
    ) -> Result<(), PayloadError> {
        write_bounded(Self::NAME, out, max_bytes, |writer| {
            serde_json::to_writer(writer, value)
                .map_err(|error| PayloadError::encode(Self::NAME, &error))
        })
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, PayloadError> {
        let mut input = serde_json::Deserializer::from_slice(payload);
        let value = T::deserialize(&mut input).map_err(|error| decode_error(&error))?;
        match input.end() {
            Ok(()) => Ok(value),
            Err(_) => Err(PayloadError::TrailingBytes { format: Self::NAME }),
        }
    }
}

/// The error with its place in the text, which tells nothing about the text itself.
pub(super) fn decode_error(error: &serde_json::Error) -> PayloadError {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Syntax => "not JSON",
        Category::Eof => "ends too early",
        Category::Data => "does not fit the expected type",
        Category::Io => "not readable",
    };
    let summary = format!("{what} at line {} column {}", error.line(), error.column());
    PayloadError::decode(Json::NAME, error, &summary)
}
