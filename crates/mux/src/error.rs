//! The errors of a peer that breaks the protocol.

use std::fmt;

use sinew_plane::{Code, Error};

/// Why a connection has to end. The cause is the peer or the network, never the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The first bytes are not the preface of this protocol.
    NotSinew,
    /// No version in common.
    Version {
        /// The versions the peer speaks.
        peer: (u8, u8),
    },
    /// The checksum of a frame does not match.
    Corrupt,
    /// A frame is longer than the limit that this side announced.
    FrameTooLarge {
        /// The length that the frame claims.
        bytes: usize,
    },
    /// The bytes break a rule of the protocol.
    Violation(&'static str),
    /// The peer sent more frames without effect than it may.
    Abuse(&'static str),
    /// Nothing has arrived for the keep-alive timeout.
    Silent,
}

impl ConnectionError {
    /// The code that a goaway carries.
    pub fn code(&self) -> Code {
        match self {
            Self::NotSinew | Self::FrameTooLarge { .. } | Self::Violation(_) => Code::Violation,
            Self::Version { .. } => Code::Version,
            Self::Corrupt => Code::Corrupt,
            Self::Abuse(_) => Code::Exhausted,
            Self::Silent => Code::ConnectionLost,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSinew => f.write_str("the peer does not speak the sinew protocol"),
            Self::Version { peer: (low, high) } => {
                write!(f, "the peer speaks protocol versions {low} to {high}, this side only 1")
            }
            Self::Corrupt => f.write_str("a frame arrived damaged: its check does not match"),
            Self::FrameTooLarge { bytes } => {
                write!(f, "the peer sent a frame of {bytes} bytes, over the announced limit")
            }
            Self::Violation(what) => write!(f, "the peer broke the protocol: {what}"),
            Self::Abuse(what) => write!(f, "the peer sent too much useless work: {what}"),
            Self::Silent => f.write_str("the peer was silent for the keep-alive timeout"),
        }
    }
}

impl std::error::Error for ConnectionError {}

impl From<ConnectionError> for Error {
    /// The error with which the streams of the connection end. For streams, `Abuse` becomes
    /// `Violation`: the peer reached the limit, not the stream or its handler.
    fn from(error: ConnectionError) -> Self {
        let code = match error {
            ConnectionError::Abuse(_) => Code::Violation,
            _ => error.code(),
        };
        Self::new(code, error.to_string())
    }
}

/// A rule that a peer broke on one stream. Frames arrive in order, so the peer's state machine is
/// faulty, and the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamViolation(pub &'static str);

impl fmt::Display for StreamViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for StreamViolation {}

impl From<StreamViolation> for ConnectionError {
    fn from(violation: StreamViolation) -> Self {
        Self::Violation(violation.0)
    }
}
