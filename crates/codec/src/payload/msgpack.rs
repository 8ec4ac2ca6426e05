//! MessagePack payloads.

use bytes::BytesMut;
use rmp_serde::decode::Error;
use serde_core::{Deserialize, Serialize, de::DeserializeOwned};

use crate::payload::{
    Format, MAX_PAYLOAD_DEPTH, PayloadError, PayloadFormat,
    bounded::write_bounded,
    nesting::{Budget, DepthLimited},
};

/// MessagePack, `application/msgpack`; structs are written as maps with named fields, so fields may
/// be added later and Dynamo peers understand it.
///
/// `Vec<u8>` becomes an array of integers, `bytes::Bytes` becomes one binary string.
#[derive(Debug, Clone, Copy, Default)]
pub struct Msgpack;

impl Format for Msgpack {
    const NAME: &'static str = PayloadFormat::Msgpack.name();
    const CONTENT_TYPE: &'static str = PayloadFormat::Msgpack.content_type();

    fn encode_into<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut BytesMut,
        max_bytes: usize,
    ) -> Result<(), PayloadError> {
        write_bounded(Self::NAME, out, max_bytes, |writer| {
            rmp_serde::encode::write_named(writer, value)
                .map_err(|error| PayloadError::encode(Self::NAME, &error))
        })
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, PayloadError> {
        // Reads from the slice itself: a declared length beyond its end is an error, not a buffer.
        let mut input = rmp_serde::Deserializer::from_read_ref(payload);
        // Every element has at least one byte, its marker.
        let budget = Budget::new(MAX_PAYLOAD_DEPTH, payload.len());
        let value = T::deserialize(DepthLimited::new(&mut input, &budget))
            .map_err(|error| decode_error(&error, &budget))?;
        // The reader does not tell its position, but only at the end is there no further marker.
        match <()>::deserialize(&mut input) {
            Err(Error::InvalidMarkerRead(_)) => Ok(value),
            _ => Err(PayloadError::TrailingBytes { format: Self::NAME }),
        }
    }
}

fn decode_error(error: &Error, budget: &Budget) -> PayloadError {
    let summary = budget.exceeded().unwrap_or(match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => "ends too early",
        Error::Utf8Error(_) => "text is not UTF-8",
        Error::OutOfRange => "number out of range",
        _ => "does not fit the expected type",
    });
    PayloadError::decode(Msgpack::NAME, error, summary)
}
