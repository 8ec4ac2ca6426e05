//! Encodes typed requests into bodies, and decodes items into values.

use std::any::Any;

use bytes::Bytes;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{Code, Error, Executed, same_type};

/// The format for an instance: the first of its list that this build can encode.
pub(crate) fn format_for(instance: &Instance) -> Result<PayloadFormat, Error> {
    let known = |name: &String| PayloadFormat::from_name(name).ok();
    let usable = instance.codecs.iter().filter_map(known).find(|format| format.is_enabled());
    usable.ok_or_else(|| {
        let ours: Vec<_> = PayloadFormat::ALL.iter().filter(|format| format.is_enabled()).collect();
        let ours: Vec<_> = ours.into_iter().map(|format| format.name()).collect();
        let message = format!(
            "{} reads [{}] and this build writes [{}]: enable one payload format on both sides",
            instance.key(),
            instance.codecs.join(", "),
            ours.join(", ")
        );
        Error::new(Code::NoTransport, message)
    })
}

/// True if the instance reads and writes the format.
pub(crate) fn reads(instance: &Instance, format: PayloadFormat) -> bool {
    instance.codecs.iter().any(|name| PayloadFormat::from_name(name).ok() == Some(format))
}

/// True for `Bytes`, which is passed on unchanged.
pub(crate) fn is_bytes<T: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<Bytes>()
}

/// The body of a request.
pub(crate) fn encode<T: Serialize + 'static>(
    format: PayloadFormat,
    value: &T,
) -> Result<Bytes, Error> {
    if let (PayloadFormat::Raw, Some(bytes)) = (format, (value as &dyn Any).downcast_ref()) {
        return Ok(Bytes::clone(bytes));
    }
    format.encode(value).map_err(|error| {
        let code = match error {
            sinew_codec::PayloadError::TooLarge { .. } => Code::TooLarge,
            _ => Code::InvalidPayload,
        };
        Error::new(code, format!("the request was not sent: {error}")).with_source(error)
    })
}

/// Decodes an item. The handler has run, so an item that cannot be decoded is no reason to send the
/// request again.
pub(crate) fn decode<T: DeserializeOwned>(format: PayloadFormat, item: &[u8]) -> Result<T, Error> {
    format.decode(item).map_err(|error| unreadable(&error.to_string()).with_source(error))
}

/// Returns an item as bytes, for a type for which [`is_bytes`] is true.
pub(crate) fn same<T: 'static>(item: Bytes) -> Result<T, Error> {
    same_type(item).map_err(|_| unreadable("bytes are wanted as something else"))
}

fn unreadable(reason: &str) -> Error {
    let message = format!("an item of the response cannot be read: {reason}");
    Error::new(Code::InvalidPayload, message).with_executed(Executed::Yes)
}

/// The body in the format that was used last, so that a resend does not have to encode again.
#[derive(Default)]
pub(crate) struct BodyCache(Option<(PayloadFormat, Bytes)>);

impl BodyCache {
    /// Takes the body that was made last, and its format.
    pub(crate) fn take(&mut self) -> Option<(PayloadFormat, Bytes)> {
        self.0.take()
    }

    pub(crate) fn body<T: Serialize + 'static>(
        &mut self,
        format: PayloadFormat,
        value: &T,
    ) -> Result<Bytes, Error> {
        if let Some((_, body)) = self.0.as_ref().filter(|(cached, _)| *cached == format) {
            return Ok(body.clone());
        }
        let body = encode(format, value)?;
        self.0 = Some((format, body.clone()));
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::InstanceId;

    use super::*;

    fn instance(codecs: &[&str]) -> Instance {
        let mut one = Instance::new("a/b/c".parse().unwrap(), InstanceId(1), Vec::new());
        one.codecs = codecs.iter().map(|name| (*name).to_owned()).collect();
        one
    }

    #[test]
    fn the_first_known_format_of_the_instance_counts() {
        let format = |codecs: &[&str]| format_for(&instance(codecs)).ok();
        assert_eq!(format(&["martian", "msgpack", "json"]), Some(PayloadFormat::Msgpack));
        assert_eq!(format(&["json", "msgpack"]), Some(PayloadFormat::Json));
        let error = format_for(&instance(&["martian"])).unwrap_err();
        assert!(error.is_safe_to_resend(), "another instance may read what we write");
        assert!(error.message().contains("reads [martian]"), "{error}");
    }

    #[test]
    fn raw_bytes_are_the_same_bytes() {
        let bytes = Bytes::from_static(b"\xff not json");
        let body = encode(PayloadFormat::Raw, &bytes).unwrap();
        assert_eq!(body.as_ptr(), bytes.as_ptr(), "not copied");
        let back: Bytes = same(body).unwrap();
        assert_eq!(back.as_ptr(), bytes.as_ptr());
    }
}
