//! The errors of encoding a value and of decoding a payload.

use std::fmt;

/// Failure of a payload format.
///
/// The text never quotes the payload, since errors end up in logs. The caller causes encoding
/// errors, the sender decoding errors; sending the same payload again does not help.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// The value cannot be written in this format.
    Encode {
        /// Name of the format.
        format: &'static str,
        /// What is wrong, without payload data.
        reason: String,
    },
    /// The payload is not a value of the expected type.
    Decode {
        /// Name of the format.
        format: &'static str,
        /// What is wrong, without payload data.
        reason: String,
    },
    /// The payload is, or would become, longer than allowed.
    TooLarge {
        /// Name of the format.
        format: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The payload has bytes after its value.
    TrailingBytes {
        /// Name of the format.
        format: &'static str,
    },
    /// The raw format cannot carry a value other than a byte string or text.
    NotBytes {
        /// The kind of the value.
        found: &'static str,
    },
    /// This build lacks the format: enable the feature of the same name.
    Disabled {
        /// Name of the format.
        format: &'static str,
    },
}

impl PayloadError {
    #[cfg(any(feature = "json", feature = "msgpack", feature = "bincode"))]
    pub(super) fn encode(format: &'static str, error: &dyn fmt::Display) -> Self {
        Self::Encode { format, reason: without_payload(&error.to_string(), "value not supported") }
    }

    #[cfg(any(feature = "json", feature = "msgpack", feature = "bincode"))]
    pub(super) fn decode(format: &'static str, error: &dyn fmt::Display, summary: &str) -> Self {
        Self::Decode { format, reason: without_payload(&error.to_string(), summary) }
    }
}

/// `summary`, and the name of the field concerned if the error says only that.
///
/// Serde's messages quote the input ("invalid type: string \"...\""). The two that are built from
/// the Rust type alone are also the two that help most.
#[cfg(any(feature = "json", feature = "msgpack", feature = "bincode"))]
fn without_payload(text: &str, summary: &str) -> String {
    for opening in ["missing field `", "duplicate field `"] {
        let field = text.strip_prefix(opening).and_then(|rest| rest.split('`').next());
        if let Some(field) = field {
            return format!("{opening}{field}`, {summary}");
        }
    }
    summary.to_owned()
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode { format, reason } => write!(f, "cannot encode as {format}: {reason}"),
            Self::Decode { format, reason } => write!(f, "invalid {format} payload: {reason}"),
            Self::TooLarge { format, limit } => {
                write!(f, "{format} payload exceeds limit of {limit} bytes")
            }
            Self::TrailingBytes { format } => {
                write!(f, "invalid {format} payload: bytes after the value")
            }
            Self::NotBytes { found } => {
                write!(f, "the raw format carries bytes or text only, not {found}")
            }
            Self::Disabled { format } => {
                write!(f, "payload format {format} is not part of this build")
            }
        }
    }
}

impl std::error::Error for PayloadError {}
