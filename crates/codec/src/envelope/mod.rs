//! The envelope around every message between two nodes.
//!
//! Wire format, all numbers big-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic: `SNEW` |
//! | 4 | 2 | `version` |
//! | 6 | 2 | `message_type` |
//! | 8 | 4 | `size` of the payload |
//! | 12 | `size` | payload |

mod codec;
mod dispatch;
mod error;
#[cfg(test)]
mod tests;

pub use self::{
    codec::{Envelope, EnvelopeCodec},
    dispatch::{DispatchTable, DuplicateMessageType, UnknownMessageType},
    error::EnvelopeError,
};

/// The first four bytes of every envelope. As the length word of a two-part frame, or as the first
/// bytes of HTTP, TLS, SSH or NATS, they are impossible, so a wrong port is noticed at once.
pub const MAGIC: [u8; 4] = *b"SNEW";

/// The envelope version this crate writes.
pub const VERSION: u16 = 1;
