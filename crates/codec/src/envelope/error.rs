//! Why bytes are not a node envelope.

use std::{fmt, io, ops::RangeInclusive};

use crate::ForeignProtocol;

/// Failure of the envelope codec.
///
/// [`EnvelopeError::TooLarge`] on encode is the caller's mistake; every other error is caused by
/// the peer or the network. After a decode error the framing is lost: close the connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The bytes do not start with the magic.
    BadMagic {
        /// The four bytes in its place.
        found: [u8; 4],
        /// The protocol that they look like, if it is known.
        looks_like: Option<ForeignProtocol>,
    },
    /// The peer speaks a version outside the accepted range.
    UnsupportedVersion {
        /// The peer's version.
        found: u16,
        /// The versions this codec accepts.
        accepted: RangeInclusive<u16>,
    },
    /// The declared or actual length of the payload is over the limit.
    TooLarge {
        /// Payload length in bytes.
        size: u64,
        /// The codec's limit.
        limit: usize,
    },
    /// The stream ended inside an envelope.
    Truncated {
        /// Bytes received of the unfinished envelope.
        received: usize,
    },
    /// The underlying stream failed.
    Io(io::Error),
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadMagic { looks_like: Some(protocol), .. } => {
                write!(f, "expected a node envelope, received {protocol}")
            }
            Self::BadMagic { found, looks_like: None } => {
                write!(f, "not a node envelope: first bytes are {}", found.escape_ascii())
            }
            Self::UnsupportedVersion { found, accepted } => write!(
                f,
                "envelope version {found} is not in the accepted range {} to {}",
                accepted.start(),
                accepted.end()
            ),
            Self::TooLarge { size, limit } => {
                write!(f, "envelope payload of {size} bytes exceeds limit {limit}")
            }
            Self::Truncated { received } => {
                write!(f, "stream ended {received} bytes into an envelope")
            }
            Self::Io(_) => f.write_str("the stream under the envelope codec failed"),
        }
    }
}

impl std::error::Error for EnvelopeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for EnvelopeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
