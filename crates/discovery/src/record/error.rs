//! Why bytes are not a valid record.

/// Why the bytes with a key are not the record of an instance. Either the writer made a mistake or
/// two processes wrote at the same time; a later read may succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Larger than [`MAX_RECORD_BYTES`](super::MAX_RECORD_BYTES).
    #[error("larger than 65,536 bytes")]
    TooLarge,
    /// Not JSON, or a field is missing or of another type.
    #[error("not the JSON of an endpoint")]
    Malformed(#[source] serde_json::Error),
    /// A valid value of another kind than `Endpoint`, such as a model card.
    #[error("not of type Endpoint")]
    OtherKind,
    /// The names or the id inside are not those of the key.
    #[error("names another instance than its key")]
    WrongKey,
    /// No address is in it.
    #[error("holds no address")]
    NoAddress,
}
