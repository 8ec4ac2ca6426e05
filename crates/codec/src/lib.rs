//! Bytes to frames and back: two-part frames, the frames of Dynamo's TCP request plane, the node
//! envelope, payload formats.
//!
//! It converts bytes to frames and values to bytes. It has no sockets, tasks, clocks or peers, so
//! every rule can be tested with bytes alone.
//!
//! Bytes are taken to come from a hostile peer: no input panics, no declared length is allocated
//! before its bytes have arrived, every limit is enforced on encode and on decode, and an error
//! never quotes a payload.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use sinew_codec::{TwoPartCodec, TwoPartMessage, TwoPartMessageType};
//!
//! let mut codec = TwoPartCodec::default();
//! let mut wire = BytesMut::new();
//! codec.encode_frame(&TwoPartMessage::from_parts("{\"id\":1}", "hello"), &mut wire)?;
//!
//! // Half a frame is not an error, only not yet a frame.
//! let mut received = wire.split_to(20);
//! assert!(codec.decode_frame(&mut received)?.is_none());
//! received.unsplit(wire);
//!
//! let message = codec.decode_frame(&mut received)?.expect("whole frame received");
//! assert_eq!(
//!     message.into_message_type(),
//!     TwoPartMessageType::HeaderAndData(Bytes::from("{\"id\":1}"), Bytes::from("hello")),
//! );
//! # Ok::<(), sinew_codec::TwoPartError>(())
//! ```
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `tokio` | `tokio_util::codec::{Encoder, Decoder}` for the frame codecs | yes |
//! | `serde` | the payload layer with the `raw` format | no |
//! | `json`, `msgpack`, `bincode` | one payload format each, and `serde` | no |
//!
//! `json` also adds `decode_control`, the strict decoder for header parts.

mod checksum;
mod foreign;
mod limits;
mod retention;

mod envelope;
mod payload;
mod tcp_request;
mod two_part;

pub use crate::{
    checksum::{ChecksumMode, checksum_of},
    envelope::{
        DispatchTable, DuplicateMessageType, Envelope, EnvelopeCodec, EnvelopeError, MAGIC,
        UnknownMessageType, VERSION,
    },
    foreign::ForeignProtocol,
    limits::{
        DEFAULT_MAX_HEADER_SIZE, DEFAULT_MAX_MESSAGE_SIZE, ENVELOPE_PREFIX_BYTES,
        TWO_PART_PREFIX_BYTES,
    },
    payload::{PayloadFormat, UnknownFormat},
    retention::detach_if_small,
    tcp_request::{
        MAX_REQUEST_PATH_BYTES, TcpRequestCodec, TcpRequestError, TcpRequestMessage,
        TcpResponseCodec, TcpResponseMessage,
    },
    two_part::{
        EncodedParts, MessageKind, TwoPartCodec, TwoPartError, TwoPartMessage, TwoPartMessageType,
        WrongKind,
    },
};

#[cfg(feature = "bincode")]
pub use crate::payload::Bincode;
#[cfg(feature = "msgpack")]
pub use crate::payload::Msgpack;
#[cfg(feature = "serde")]
pub use crate::payload::{Deferred, Format, PayloadError, Raw};
#[cfg(feature = "json")]
pub use crate::payload::{Json, MAX_CONTROL_DEPTH, decode_control};

/// Runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
