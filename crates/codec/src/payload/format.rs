//! The payload formats by name, and the trait they implement.

use std::{fmt, str::FromStr};

#[cfg(feature = "serde")]
use {
    crate::payload::PayloadError,
    bytes::{Bytes, BytesMut},
    serde_core::{Serialize, de::DeserializeOwned},
};

/// The format in which the values of a request or of a stream are encoded.
///
/// The list is the same in every build, so a peer's choice can always be named; whether this build
/// can encode and decode it is [`PayloadFormat::is_enabled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PayloadFormat {
    /// JSON text, the format of a peer that names none.
    #[default]
    Json,
    /// MessagePack, structs as maps with named fields, as Dynamo writes it.
    Msgpack,
    /// bincode 1.3 with fixed-width little-endian integers. Not self-describing: both ends must have
    /// the same types.
    Bincode,
    /// The bytes as they are. Carries byte strings and text only.
    Raw,
}

/// A format name or content type that this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFormat {
    /// The requested name, cut to 64 bytes and escaped.
    pub name: String,
}

/// A payload format: encodes values to bytes and decodes them.
///
/// Implemented by `Json`, `Msgpack`, `Bincode` and `Raw`; implement it to add one. Use
/// [`PayloadFormat`] where the choice is made at run time.
#[cfg(feature = "serde")]
pub trait Format {
    /// Short name, as advertised in discovery.
    const NAME: &'static str;
    /// Media type, as used in a `content-type` header.
    const CONTENT_TYPE: &'static str;

    /// Appends `value` to `out`, adding at most `max_bytes`. On error `out` is unchanged.
    fn encode_into<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut BytesMut,
        max_bytes: usize,
    ) -> Result<(), PayloadError>;

    /// Decodes the one value that `payload` consists of. Bytes after it are an error.
    fn decode<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, PayloadError>;
}

/// First room of an encoded value: most requests fit, and no buffer grows step by step for them.
#[cfg(feature = "serde")]
const ROOM: usize = 256;

/// Calls `$call` with the format's type, or reports that this build lacks it.
#[cfg(feature = "serde")]
macro_rules! with_format {
    ($self:expr, $format:ident => $call:expr) => {
        match $self {
            #[cfg(feature = "json")]
            Self::Json => {
                let $format = crate::payload::Json;
                $call
            }
            #[cfg(feature = "msgpack")]
            Self::Msgpack => {
                let $format = crate::payload::Msgpack;
                $call
            }
            #[cfg(feature = "bincode")]
            Self::Bincode => {
                let $format = crate::payload::Bincode;
                $call
            }
            Self::Raw => {
                let $format = crate::payload::Raw;
                $call
            }
            #[cfg(not(all(feature = "json", feature = "msgpack", feature = "bincode")))]
            missing => Err(PayloadError::Disabled { format: missing.name() }),
        }
    };
}

impl PayloadFormat {
    /// Every format, in order of readability. Which one is preferred for speed is a matter of
    /// configuration.
    pub const ALL: [Self; 4] = [Self::Json, Self::Msgpack, Self::Bincode, Self::Raw];

    /// Short name, as advertised in discovery: `json`, `msgpack`, `bincode`, `raw`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Msgpack => "msgpack",
            Self::Bincode => "bincode",
            Self::Raw => "raw",
        }
    }

    /// The format with that short name; names are lower case.
    pub fn from_name(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat::new(name))
    }

    /// Media type: `application/json`, `application/msgpack`, `application/x-bincode` or
    /// `application/octet-stream`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Msgpack => "application/msgpack",
            Self::Bincode => "application/x-bincode",
            Self::Raw => "application/octet-stream",
        }
    }

    /// The format of a `content-type` header. Case and parameters (`; charset=utf-8`) do not
    /// matter; no header at all means JSON.
    pub fn from_content_type(content_type: Option<&str>) -> Result<Self, UnknownFormat> {
        let Some(content_type) = content_type else { return Ok(Self::Json) };
        let mut formats = Self::ALL.into_iter();
        // As Sinew's callers write it.
        if let Some(format) = formats.find(|format| format.content_type() == content_type) {
            return Ok(format);
        }
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        Self::ALL
            .into_iter()
            .find(|format| format.content_type().eq_ignore_ascii_case(essence))
            .ok_or_else(|| UnknownFormat::new(content_type))
    }

    /// Whether this build can encode and decode the format.
    pub const fn is_enabled(self) -> bool {
        match self {
            Self::Json => cfg!(feature = "json"),
            Self::Msgpack => cfg!(feature = "msgpack"),
            Self::Bincode => cfg!(feature = "bincode"),
            Self::Raw => cfg!(feature = "serde"),
        }
    }

    /// Writes `value` as a payload of at most [`crate::DEFAULT_MAX_MESSAGE_SIZE`] bytes.
    #[cfg(feature = "serde")]
    pub fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes, PayloadError> {
        let mut out = BytesMut::with_capacity(ROOM);
        self.encode_into(value, &mut out, crate::DEFAULT_MAX_MESSAGE_SIZE)?;
        Ok(out.freeze())
    }

    /// Appends `value` to `out`, adding at most `max_bytes`. On error `out` is unchanged.
    #[cfg(feature = "serde")]
    pub fn encode_into<T: Serialize + ?Sized>(
        self,
        value: &T,
        out: &mut BytesMut,
        max_bytes: usize,
    ) -> Result<(), PayloadError> {
        with_format!(self, format => format.encode_into(value, out, max_bytes))
    }

    /// Decodes the one value that `payload` consists of. Bytes after it are an error.
    #[cfg(feature = "serde")]
    pub fn decode<T: DeserializeOwned>(self, payload: &[u8]) -> Result<T, PayloadError> {
        with_format!(self, format => format.decode(payload))
    }
}

impl UnknownFormat {
    fn new(name: &str) -> Self {
        // A peer chose this text, and it ends up in logs.
        Self { name: name.as_bytes()[..name.len().min(64)].escape_ascii().to_string() }
    }
}

impl fmt::Display for PayloadFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PayloadFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::from_name(name)
    }
}

impl fmt::Display for UnknownFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown payload format `{}`", self.name)
    }
}

impl std::error::Error for UnknownFormat {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_content_types_lead_back() {
        for format in PayloadFormat::ALL {
            assert_eq!(PayloadFormat::from_name(format.name()), Ok(format));
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(PayloadFormat::from_content_type(Some(format.content_type())), Ok(format));
        }
    }

    #[test]
    fn content_type_parameters_and_case_do_not_matter_and_none_is_json() {
        let from = PayloadFormat::from_content_type;
        assert_eq!(from(None), Ok(PayloadFormat::Json));
        assert_eq!(from(Some("Application/JSON ; charset=utf-8")), Ok(PayloadFormat::Json));
        assert!(from(Some("")).is_err());
        assert!(from(Some("application/jsonx")).is_err());
    }

    #[test]
    fn unknown_names_are_bounded_and_escaped() {
        let error = PayloadFormat::from_name(&"\u{1b}[31m".repeat(100)).unwrap_err();
        assert!(error.to_string().is_ascii() && error.to_string().len() < 300, "{error}");
        assert!(!error.to_string().contains('\u{1b}'));
        assert!(PayloadFormat::from_name("JSON").is_err());
    }
}
