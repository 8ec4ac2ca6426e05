//! The errors of this crate that are not the contract's own.

/// A request is larger than the NATS server takes. Nothing was sent.
///
/// It is the [source](std::error::Error::source) of an error with
/// [`Code::TooLarge`](sinew_plane::Code::TooLarge).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes with headers, over the server's max_payload of {limit} bytes")]
pub struct PayloadTooLarge {
    /// What the server takes, in bytes, headers included: its `max_payload`.
    pub limit: usize,
    /// What the request comes to, in bytes, headers included.
    pub size: usize,
}

/// Which setting cannot be used, and why. Nothing was connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct NatsConfigError {
    /// The field of [`NatsConfig`](crate::NatsConfig), or of the settings of a queue.
    pub field: &'static str,
    /// The rule it breaks and the way out. Names no secret.
    pub reason: String,
}
