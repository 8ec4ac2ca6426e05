//! bincode payloads.

use std::marker::PhantomData;

use bincode::Options;
use bytes::BytesMut;
use serde_core::{Serialize, de::DeserializeOwned};

use crate::payload::{
    Format, MAX_PAYLOAD_DEPTH, PayloadError, PayloadFormat,
    bounded::write_bounded,
    nesting::{Budget, DepthLimited},
};

/// bincode 1.3 with fixed-width little-endian integers, `application/x-bincode`.
///
/// Compact and fast between two programs built from the same types; a changed struct is a changed
/// wire format. Nesting is limited to 128 levels. A collection may not have more elements than the
/// payload has bytes, which concerns only collections of zero-sized values: `Vec<()>` would let
/// eight bytes ask for 2^64 iterations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bincode;

/// The one way this crate uses bincode. `bincode::deserialize` differs: it accepts trailing bytes.
fn options(limit: usize) -> impl Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_limit(limit as u64)
        .reject_trailing_bytes()
}

impl Format for Bincode {
    const NAME: &'static str = PayloadFormat::Bincode.name();
    const CONTENT_TYPE: &'static str = PayloadFormat::Bincode.content_type();

    fn encode_into<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut BytesMut,
        max_bytes: usize,
    ) -> Result<(), PayloadError> {
        write_bounded(Self::NAME, out, max_bytes, |writer| {
            // With a limit, bincode walks the value once to size it before it writes a byte.
            options(max_bytes).serialize_into(writer, value).map_err(|error| match *error {
                bincode::ErrorKind::SizeLimit => {
                    PayloadError::TooLarge { format: Self::NAME, limit: max_bytes }
                }
                _ => PayloadError::encode(Self::NAME, &error),
            })
        })
    }

    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, PayloadError> {
        let budget = Budget::new(MAX_PAYLOAD_DEPTH, payload.len());
        // Reading from a slice, bincode holds every declared length against what is left of it.
        options(payload.len())
            .deserialize_seed(DepthLimited::new(PhantomData::<T>, &budget), payload)
            .map_err(|error| decode_error(&error, &budget))
    }
}

fn decode_error(error: &bincode::ErrorKind, budget: &Budget) -> PayloadError {
    use bincode::ErrorKind;
    if let Some(reason) = budget.exceeded() {
        return PayloadError::Decode { format: Bincode::NAME, reason: reason.to_owned() };
    }
    let summary = match error {
        // bincode has no error of its own for this; the text is a constant of 1.3.3, which is frozen.
        ErrorKind::Custom(text) if text.starts_with("Slice had bytes remaining") => {
            return PayloadError::TrailingBytes { format: Bincode::NAME };
        }
        ErrorKind::Io(_) | ErrorKind::SizeLimit => "ends too early",
        ErrorKind::InvalidUtf8Encoding(_) => "text is not UTF-8",
        ErrorKind::DeserializeAnyNotSupported => "type needs a self-describing format",
        _ => "does not fit the expected type",
    };
    PayloadError::decode(Bincode::NAME, error, summary)
}
