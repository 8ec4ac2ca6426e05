//! Encodes and decodes values, and passes on unchanged what is bytes already.

use std::any::Any;

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::{DEFAULT_MAX_MESSAGE_SIZE, PayloadError, PayloadFormat};
use sinew_plane::{Code, Error, Headers, ItemRun, header, same_type};

/// The payload format of a request, which its response has too.
pub(crate) fn format_of(headers: &Headers) -> Result<PayloadFormat, Error> {
    PayloadFormat::from_content_type(headers.get(header::CONTENT_TYPE)).map_err(|error| {
        Error::new(Code::InvalidPayload, format!("the request's content-type: {error}"))
    })
}

/// Decodes a request.
pub(crate) fn decode<T: DeserializeOwned + 'static>(
    format: PayloadFormat,
    body: Bytes,
) -> Result<T, PayloadError> {
    if format == PayloadFormat::Raw {
        // Bytes that are wanted as bytes are passed on as they are, without a copy.
        return same_type(body).or_else(|body| format.decode(&body));
    }
    format.decode(&body)
}

/// Encodes items that are sent one by one.
pub(crate) struct Encoder {
    format: PayloadFormat,
    run: ItemRun,
}

impl Encoder {
    pub(crate) fn new(format: PayloadFormat) -> Self {
        Self { format, run: ItemRun::new() }
    }

    pub(crate) fn encode<T: Serialize + 'static>(
        &mut self,
        item: &T,
    ) -> Result<Bytes, PayloadError> {
        if self.format == PayloadFormat::Raw
            && let Some(bytes) = (item as &dyn Any).downcast_ref::<Bytes>()
        {
            return Ok(bytes.clone());
        }
        let format = self.format;
        self.run.write(|buffer| format.encode_into(item, buffer, DEFAULT_MAX_MESSAGE_SIZE))?;
        Ok(self.run.pop().unwrap_or_default())
    }
}

/// The error that the caller gets for a payload that cannot be encoded or decoded.
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
        let item = Encoder::new(PayloadFormat::Raw).encode(&value).unwrap();
        assert_eq!(item.as_ptr(), body.as_ptr());
    }

    #[cfg(feature = "json")]
    #[test]
    fn items_of_one_response_share_buffers_and_keep_their_bytes() {
        let mut encoder = Encoder::new(PayloadFormat::Json);
        let items: Vec<_> = (0..5_000_u32).map(|n| encoder.encode(&n).unwrap()).collect();
        for (n, item) in items.iter().enumerate() {
            assert_eq!(item, n.to_string().as_bytes());
        }
    }
}
