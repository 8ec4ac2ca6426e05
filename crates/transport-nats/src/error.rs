//! The errors of this crate that are not the contract's own.

use std::fmt;

/// A request is larger than the NATS server takes. Nothing was sent.
///
/// It is the [source](std::error::Error::source) of an error with
/// [`Code::TooLarge`](sinew_plane::Code::TooLarge).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTooLarge {
    /// What the server takes, in bytes, headers included: its `max_payload`.
    pub limit: usize,
    /// What the request comes to, in bytes, headers included.
    pub size: usize,
}

impl fmt::Display for PayloadTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, size } = self;
        write!(f, "{size} bytes with headers, over the server's max_payload of {limit} bytes")
    }
}

impl std::error::Error for PayloadTooLarge {}

/// Which setting cannot be used, and why. Nothing was connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfigError {
    /// The field of [`NatsConfig`](crate::NatsConfig), or of the settings of a queue.
    pub field: &'static str,
    /// The rule it breaks and the way out. Names no secret.
    pub reason: String,
}

impl fmt::Display for NatsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.reason)
    }
}

impl std::error::Error for NatsConfigError {}
