//! Why a record is not one.

use std::fmt;

/// Why bytes under a key are not the record of an instance. The writer's fault, or that of
/// whoever wrote at the same moment: reading again later may help.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// Larger than [`MAX_RECORD_BYTES`](super::MAX_RECORD_BYTES).
    TooLarge,
    /// Not JSON, or a field is missing or of another type.
    Malformed(serde_json::Error),
    /// A valid value of another kind than `Endpoint`, such as a model card.
    OtherKind,
    /// The names or the id inside are not those of the key.
    WrongKey,
    /// No address is in it.
    NoAddress,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "larger than 65,536 bytes",
            Self::Malformed(_) => "not the JSON of an endpoint",
            Self::OtherKind => "not of type Endpoint",
            Self::WrongKey => "names another instance than its key",
            Self::NoAddress => "holds no address",
        })
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            _ => None,
        }
    }
}
