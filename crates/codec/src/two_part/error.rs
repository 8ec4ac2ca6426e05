//! Why bytes are not a two-part frame, or a message cannot become one.

use std::{fmt, io};

use crate::ForeignProtocol;

/// Failure of the two-part codec.
///
/// Exceeding a limit on encode is the caller's mistake; every other error is caused by the peer or
/// the network. After a decode error the framing is lost: close the connection. The buffer is
/// unchanged, so decoding again returns the same error. The layer above decides whether the request
/// may be sent again.
#[derive(Debug)]
#[non_exhaustive]
pub enum TwoPartError {
    /// The bytes belong to another protocol: the peer has connected to the wrong port.
    InvalidMessage {
        /// What the first bytes look like.
        looks_like: ForeignProtocol,
    },
    /// The declared or actual length of the header part is over the limit.
    HeaderTooLarge {
        /// Length of the header part in bytes.
        header_len: u64,
        /// The codec's limit.
        limit: usize,
    },
    /// The declared or actual length of the frame is over the limit.
    MessageTooLarge {
        /// Whole frame in bytes, prefix included; `u64::MAX` when the sum does not fit.
        frame_len: u64,
        /// The codec's limit.
        limit: usize,
    },
    /// The parts do not have the checksum that the prefix states.
    ChecksumMismatch {
        /// The value in the prefix.
        stated: u64,
        /// The value computed over the received parts.
        computed: u64,
    },
    /// The frame carries no checksum and the codec requires one.
    ChecksumMissing,
    /// The stream ended inside a frame.
    Truncated {
        /// Bytes received of the unfinished frame.
        received: usize,
        /// Bytes the whole frame would have, once its prefix has arrived.
        expected: Option<u64>,
    },
    /// A message that must be exactly one frame has bytes after it.
    TrailingBytes {
        /// How many bytes follow the frame.
        count: usize,
    },
    /// The underlying stream failed.
    Io(io::Error),
}

impl fmt::Display for TwoPartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Two Part Codec Error: ")?;
        match self {
            Self::InvalidMessage { looks_like } => {
                write!(f, "Invalid message: expected a two-part frame, received {looks_like}")
            }
            Self::HeaderTooLarge { header_len, limit } => {
                write!(f, "Invalid message: header of {header_len} bytes exceeds limit {limit}")
            }
            Self::MessageTooLarge { frame_len, limit } => {
                write!(f, "Invalid message: frame of {frame_len} bytes exceeds limit {limit}")
            }
            Self::ChecksumMismatch { stated, computed } => {
                write!(f, "Checksum mismatch: stated {stated:016x}, computed {computed:016x}")
            }
            Self::ChecksumMissing => f.write_str("Invalid message: checksum required but absent"),
            Self::Truncated { received, expected: Some(expected) } => {
                write!(f, "Truncated message: {received} of {expected} bytes received")
            }
            Self::Truncated { received, expected: None } => {
                write!(f, "Truncated message: {received} bytes of a prefix received")
            }
            Self::TrailingBytes { count } => {
                write!(f, "Invalid message: {count} bytes after the frame")
            }
            Self::Io(_) => f.write_str("the stream failed"),
        }
    }
}

impl std::error::Error for TwoPartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for TwoPartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
