//! Why bytes are not a request or an acknowledgement, or a message cannot become one.

use std::{fmt, io};

use crate::{ForeignProtocol, tcp_request::MAX_REQUEST_PATH_BYTES};

/// Failure of a codec of the TCP request plane.
///
/// An error on encode is the caller's mistake, and nothing was written. An error on decode is
/// caused by the peer or the network, and the framing is lost: close the connection. The buffer is
/// unchanged.
#[derive(Debug)]
#[non_exhaustive]
pub enum TcpRequestError {
    /// The bytes belong to another protocol: the peer has connected to the wrong port.
    InvalidMessage {
        /// What the first bytes look like.
        looks_like: ForeignProtocol,
    },
    /// A path must have 1 to 1,024 bytes.
    PathLength {
        /// Its length in bytes, as it is or as it was declared.
        len: usize,
    },
    /// The path is not UTF-8 or holds control characters.
    PathText,
    /// The headers are longer than 65,535 bytes. Only encoding returns this error, because the
    /// length field of a frame cannot hold a larger number.
    HeadersTooLarge {
        /// Their length in bytes.
        len: usize,
    },
    /// The declared or actual length of the frame is over the limit.
    MessageTooLarge {
        /// Whole frame in bytes, as far as it is known: at least this.
        frame_len: u64,
        /// The codec's limit.
        limit: usize,
    },
    /// The declared or actual length of the acknowledgement is over the limit.
    AnswerTooLarge {
        /// Its length in bytes.
        len: usize,
        /// The codec's limit.
        limit: usize,
    },
    /// The stream ended inside a frame.
    Truncated {
        /// Bytes received of the unfinished frame.
        received: usize,
        /// Bytes the whole frame would have, once that is known.
        expected: Option<u64>,
    },
    /// A buffer that must be exactly one frame has bytes after it.
    TrailingBytes {
        /// How many bytes follow the frame.
        count: usize,
    },
    /// The underlying stream failed.
    Io(io::Error),
}

impl fmt::Display for TcpRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidMessage { looks_like } => {
                write!(f, "expected a request frame, received {looks_like}")
            }
            Self::PathLength { len } => {
                write!(f, "a path of {len} bytes, not of 1 to {MAX_REQUEST_PATH_BYTES}")
            }
            Self::PathText => f.write_str("the path is not UTF-8 or holds control characters"),
            Self::HeadersTooLarge { len } => {
                write!(f, "headers of {len} bytes exceed the limit of 65535")
            }
            Self::MessageTooLarge { frame_len, limit } => {
                write!(f, "a request of {frame_len} bytes exceeds the limit of {limit}")
            }
            Self::AnswerTooLarge { len, limit } => {
                write!(f, "an acknowledgement of {len} bytes exceeds the limit of {limit}")
            }
            Self::Truncated { received, expected: Some(expected) } => {
                write!(f, "the stream ended after {received} of {expected} bytes of a frame")
            }
            Self::Truncated { received, expected: None } => {
                write!(f, "the stream ended after {received} bytes of a frame")
            }
            Self::TrailingBytes { count } => write!(f, "{count} bytes after the frame"),
            Self::Io(_) => f.write_str("the stream failed"),
        }
    }
}

impl std::error::Error for TcpRequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for TcpRequestError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
