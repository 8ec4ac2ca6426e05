//! Two-part frames: a header part for control, a body part for data.
//!
//! Wire format, all numbers big-endian:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `header_len` |
//! | 8 | 8 | `body_len` |
//! | 16 | 8 | `checksum`: xxh3-64 of header then body, 0 = absent |
//! | 24 | `header_len` | header bytes |
//! | 24 + `header_len` | `body_len` | body bytes |

mod codec;
mod error;
mod message;
mod prefix;
#[cfg(test)]
mod tests;

pub use self::{
    codec::{EncodedParts, TwoPartCodec},
    error::TwoPartError,
    message::{MessageKind, TwoPartMessage, TwoPartMessageType, WrongKind},
};
