//! Values to bytes and back, with a short cut for what is bytes already.

use std::any::Any;

use bytes::Bytes;
use serde_core::de::DeserializeOwned;
use sinew_codec::{PayloadError, PayloadFormat};
use sinew_plane::{Code, Error, Headers, header};

/// The format that a request is in and that its response is to be in.
pub(crate) fn format_of(headers: &Headers) -> Result<PayloadFormat, Error> {
    PayloadFormat::from_content_type(headers.get(header::CONTENT_TYPE)).map_err(|error| {
        Error::new(Code::InvalidPayload, format!("the request's content-type: {error}"))
    })
}

/// Reads a request.
pub(crate) fn decode<T: DeserializeOwned + 'static>(
    format: PayloadFormat,
    body: Bytes,
) -> Result<T, PayloadError> {
    if format == PayloadFormat::Raw {
        // Bytes that are wanted as bytes are passed on as they are, without a copy.
        let mut body = Some(body.clone());
        let slot: &mut dyn Any = &mut body;
        if let Some(value) = slot.downcast_mut::<Option<T>>().and_then(Option::take) {
            return Ok(value);
        }
    }
    format.decode(&body)
}

/// The error of a payload as its caller sees it.
pub(crate) fn payload_error(what: &str, error: &PayloadError) -> Error {
    let code = match error {
        PayloadError::TooLarge { .. } => Code::TooLarge,
        _ => Code::InvalidPayload,
    };
    Error::new(code, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_not_copied() {
        let body = Bytes::from(vec![7; 100]);
        let value: Bytes = decode(PayloadFormat::Raw, body.clone()).unwrap();
        assert_eq!(value.as_ptr(), body.as_ptr());
    }
}
