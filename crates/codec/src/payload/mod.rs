//! Values to payload bytes and back: json, msgpack, bincode, raw.
//!
//! Names and content types are known in every build; turning values into bytes needs the feature
//! `serde` or one of the format features.
//!
//! What every format here guarantees: a payload is one value and nothing after it; nesting is at
//! most 128 levels; nothing is allocated from a declared length beyond what the payload could hold;
//! errors carry no payload bytes in their text.

#[cfg(feature = "bincode")]
mod bincode;
#[cfg(feature = "serde")]
mod bounded;
#[cfg(feature = "json")]
mod control;
#[cfg(feature = "serde")]
mod deferred;
#[cfg(feature = "serde")]
mod error;
mod format;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(any(feature = "msgpack", feature = "bincode"))]
mod nesting;
#[cfg(feature = "serde")]
mod raw;
#[cfg(test)]
#[cfg(all(feature = "json", feature = "msgpack", feature = "bincode"))]
mod tests;

pub use self::format::{PayloadFormat, UnknownFormat};

#[cfg(feature = "bincode")]
pub use self::bincode::Bincode;
#[cfg(feature = "json")]
pub use self::control::{MAX_CONTROL_DEPTH, decode_control};
#[cfg(feature = "serde")]
pub use self::deferred::Deferred;
#[cfg(feature = "serde")]
pub use self::error::PayloadError;
#[cfg(feature = "serde")]
pub use self::format::Format;
#[cfg(feature = "json")]
pub use self::json::Json;
#[cfg(feature = "msgpack")]
pub use self::msgpack::Msgpack;
#[cfg(feature = "serde")]
pub use self::raw::Raw;

/// Deepest nesting of a payload. Both serde_json's own limit and enough for any sensible schema;
/// each level costs stack, and a stack overflow cannot be caught.
#[cfg(any(feature = "msgpack", feature = "bincode"))]
const MAX_PAYLOAD_DEPTH: usize = 128;
