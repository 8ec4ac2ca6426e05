//! The errors of this crate, in addition to those of `sinew-plane`.

/// A request is larger than the NATS server takes. Nothing was sent.
///
/// It is the [source](std::error::Error::source) of an error with
/// [`Code::TooLarge`](sinew_plane::Code::TooLarge).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{size} bytes with headers, over the server's max_payload of {limit} bytes")]
pub struct PayloadTooLarge {
    /// The limit of the server, in bytes, headers included: its `max_payload`.
    pub limit: usize,
    /// The size of the request, in bytes, headers included.
    pub size: usize,
}

/// A setting that cannot be used, and why. No connection was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct NatsConfigError {
    /// The field of [`NatsConfig`](crate::NatsConfig), or of the settings of a queue.
    pub field: &'static str,
    /// The rule that it breaks, and the remedy. Contains no secret.
    pub reason: String,
}
