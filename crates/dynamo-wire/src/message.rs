//! The messages of a call-home connection, each one two-part frame.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize};
use sinew_codec::{TWO_PART_PREFIX_BYTES, TwoPartMessage, checksum_of, decode_control};
use sinew_plane::{CancelReason, Code, Error, Executed, Headers, StopKind};

use crate::{StreamType, TypedError};

/// Longest handshake, in bytes: a subject, a word, and keys of later versions.
pub const MAX_HANDSHAKE_BYTES: usize = 1024;

/// Longest header, in bytes: an error whose texts are at their limits, with its causes.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// The prologue of a handler that has begun.
const BEGUN: &[u8; 14] = br#"{"error":null}"#;

/// The header of an item of no bytes, between Sinew's own ends. Without one it would be a heartbeat.
const EMPTY_ITEM: &[u8; 6] = br#""item""#;

/// The headers of the two messages that carry a header block, between Sinew's own ends.
const HEAD: &[u8; 6] = br#""head""#;
const FACTS: &[u8; 7] = br#""facts""#;

/// The first message of the side that dials.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallHomeHandshake {
    /// The stream that the connection is for.
    pub subject: String,
    /// The direction of its items.
    pub stream_type: StreamType,
    /// If true, the worker begins only after the caller has sent [`ControlMessage::Ready`]. Used
    /// only with Sinew callers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
}

impl fmt::Debug for CallHomeHandshake {
    /// Without the subject, which is a secret of the two ends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHomeHandshake")
            .field("stream_type", &self.stream_type)
            .field("confirm", &self.confirm)
            .finish_non_exhaustive()
    }
}

/// The first message of a response: the handler has begun, or has failed before it began.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ResponseStreamPrologue {
    /// The failure, for people.
    pub error: Option<String>,
    /// The failure, for programs. If it cannot be parsed it counts as absent, because `error` still
    /// describes the failure.
    #[serde(default, deserialize_with = "if_readable", skip_serializing_if = "Option::is_none")]
    pub typed_error: Option<TypedError>,
}

impl ResponseStreamPrologue {
    /// The prologue of a handler that failed before it began.
    pub fn failed(error: &Error) -> Self {
        Self {
            error: Some(error.message().to_owned()),
            typed_error: Some(TypedError::from_error(error)),
        }
    }

    /// The prologue of a stream that was cancelled, for a caller that did not cancel it.
    pub fn cancelled(reason: CancelReason) -> Self {
        Self { error: Some(reason.to_string()), typed_error: Some(TypedError::from_cancel(reason)) }
    }

    /// The failure that it reports.
    pub fn failure(self) -> Option<Failure> {
        let Some(typed) = self.typed_error else {
            let text = self.error?;
            let error = Error::new(Code::HandlerFailed, text).with_executed(Executed::Maybe);
            return Some(Failure::Failed(error));
        };
        Some(match typed.cancelled() {
            Some(reason) => Failure::Cancelled(reason),
            None => Failure::Failed(typed.to_error()),
        })
    }
}

fn if_readable<'de, D: Deserializer<'de>>(input: D) -> Result<Option<TypedError>, D::Error> {
    let value = serde_json::Value::deserialize(input)?;
    Ok(serde_json::from_value(value).ok())
}

/// The failure that a prologue or a later error message reports.
#[derive(Debug)]
pub enum Failure {
    /// The handler failed, or none ran.
    Failed(Error),
    /// The stream was cancelled, which is not a failure.
    Cancelled(CancelReason),
}

/// Control messages that end a stream, or ask for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlMessage {
    /// The worker should finish the current item and then end.
    Stop,
    /// The worker should end now.
    Kill,
    /// Every item was sent.
    Sentinel,
    /// The caller waits for the stream. The answer to a handshake that asks for it.
    Ready,
}

impl ControlMessage {
    fn json(self) -> &'static [u8] {
        match self {
            Self::Stop => b"\"stop\"",
            Self::Kill => b"\"kill\"",
            Self::Sentinel => b"\"sentinel\"",
            Self::Ready => b"\"ready\"",
        }
    }

    fn parse(header: &[u8]) -> Option<Self> {
        let all = [Self::Stop, Self::Kill, Self::Sentinel, Self::Ready];
        all.into_iter().find(|it| it.json() == header)
    }

    /// The whole frame.
    pub fn frame(self) -> Bytes {
        static STOP: [u8; 30] = framed(br#""stop""#);
        static KILL: [u8; 30] = framed(br#""kill""#);
        static SENTINEL: [u8; 34] = framed(br#""sentinel""#);
        static READY: [u8; 31] = framed(br#""ready""#);
        Bytes::from_static(match self {
            Self::Stop => &STOP,
            Self::Kill => &KILL,
            Self::Sentinel => &SENTINEL,
            Self::Ready => &READY,
        })
    }
}

impl From<StopKind> for ControlMessage {
    fn from(kind: StopKind) -> Self {
        match kind {
            StopKind::Stop => Self::Stop,
            StopKind::Kill => Self::Kill,
        }
    }
}

/// A message that either side may send after the handshake.
#[derive(Debug)]
pub enum Message {
    /// An item.
    Item(Bytes),
    /// A message without header and body, which says that the peer is alive. It is not an item, and
    /// [`Heartbeats`](crate::Heartbeats) limits its number.
    Heartbeat,
    /// A message that ends the stream, or asks for its end.
    Control(ControlMessage),
    /// The prologue of a handler that has begun.
    Begun,
    /// The prologue of a handler that has failed, or an error of the same form after the first
    /// item.
    Failed(Failure),
    /// The head of the response.
    Head(Headers),
    /// The facts of the response, before its end.
    Facts(Headers),
}

impl Message {
    /// Decodes a frame.
    ///
    /// # Errors
    /// What is wrong with the frame, for the log and the error of the stream.
    pub fn read(frame: TwoPartMessage) -> Result<Self, &'static str> {
        if frame.header.is_empty() {
            return Ok(if frame.body.is_empty() {
                Self::Heartbeat
            } else {
                Self::Item(frame.body)
            });
        }
        if frame.header == HEAD[..] {
            return read_block(&frame.body).map(Self::Head).ok_or("a head that cannot be read");
        }
        if frame.header == FACTS[..] {
            return read_block(&frame.body).map(Self::Facts).ok_or("facts that cannot be read");
        }
        if !frame.body.is_empty() {
            return Err("a control message that carries data");
        }
        if let Some(control) = ControlMessage::parse(&frame.header) {
            return Ok(Self::Control(control));
        }
        if frame.header == EMPTY_ITEM[..] {
            return Ok(Self::Item(Bytes::new()));
        }
        // As both Dynamo and this side write it.
        if frame.header == BEGUN[..] {
            return Ok(Self::Begun);
        }
        decode_control(&frame.header, MAX_HEADER_BYTES)
            .map(|prologue: ResponseStreamPrologue| {
                prologue.failure().map_or(Self::Begun, Self::Failed)
            })
            .map_err(|_| "a control message that cannot be read")
    }
}

/// Decodes a handshake.
///
/// # Errors
/// What is wrong with the handshake, for the log.
pub fn read_handshake(frame: &TwoPartMessage) -> Result<CallHomeHandshake, &'static str> {
    if !frame.body.is_empty() {
        return Err("a handshake that carries data");
    }
    decode_control(&frame.header, MAX_HANDSHAKE_BYTES)
        .map_err(|_| "a handshake that cannot be read")
}

/// The frame of a prologue that says that the handler has begun.
pub fn begun_frame() -> Bytes {
    static FRAME: [u8; TWO_PART_PREFIX_BYTES + BEGUN.len()] = framed(BEGUN);
    Bytes::from_static(&FRAME)
}

/// The frame of an empty item, for a Sinew peer; Dynamo has no empty items.
pub fn empty_item_frame() -> Bytes {
    static FRAME: [u8; TWO_PART_PREFIX_BYTES + EMPTY_ITEM.len()] = framed(EMPTY_ITEM);
    Bytes::from_static(&FRAME)
}

/// The frame of the head of a response, for a caller that
/// [knows it](crate::ParsedOffer::knows_metadata).
pub fn head_frame(head: &Headers) -> Bytes {
    block_frame(HEAD, head)
}

/// The frame of the facts of a response, for such a caller.
pub fn facts_frame(facts: &Headers) -> Bytes {
    block_frame(FACTS, facts)
}

fn block_frame(header: &[u8], block: &Headers) -> Bytes {
    let block = block.as_block();
    let mut frame = BytesMut::with_capacity(TWO_PART_PREFIX_BYTES + header.len() + block.len());
    frame.put_u64(header.len() as u64);
    frame.put_u64(block.len() as u64);
    frame.put_u64(0);
    frame.put_slice(header);
    frame.put_slice(block);
    frame.freeze()
}

/// A header block, copied: it lives as long as the stream, and the read buffer should not.
fn read_block(block: &[u8]) -> Option<Headers> {
    Headers::decode(Bytes::copy_from_slice(block)).ok()
}

/// A frame that is only a short header.
const fn framed<const HEADER: usize, const FRAME: usize>(header: &[u8; HEADER]) -> [u8; FRAME] {
    assert!(FRAME == TWO_PART_PREFIX_BYTES + HEADER && HEADER < 256);
    let mut frame = [0; FRAME];
    frame[7] = HEADER as u8;
    let mut at = 0;
    while at < HEADER {
        frame[TWO_PART_PREFIX_BYTES + at] = header[at];
        at += 1;
    }
    frame
}

/// A frame that is only a header. The checksum is left out, as Dynamo does.
fn header_frame(header: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(TWO_PART_PREFIX_BYTES + header.len());
    frame.put_u64(header.len() as u64);
    frame.put_u64(0);
    frame.put_u64(0);
    frame.put_slice(header);
    frame.freeze()
}

/// A header-only frame with a JSON value.
pub fn json_frame(value: &impl Serialize) -> Bytes {
    // Structs of strings and numbers: JSON can hold all of them.
    header_frame(&serde_json::to_vec(value).unwrap_or_default())
}

/// The prefix of an item, with its checksum.
pub fn sealed_prefix(item: &[u8]) -> [u8; TWO_PART_PREFIX_BYTES] {
    let mut prefix = item_prefix(item.len());
    prefix[16..].copy_from_slice(&checksum_of(&[], item).to_be_bytes());
    prefix
}

/// The prefix of an item of `len` bytes, without a checksum, as Dynamo sends it.
pub fn item_prefix(len: usize) -> [u8; TWO_PART_PREFIX_BYTES] {
    let mut prefix = [0; TWO_PART_PREFIX_BYTES];
    prefix[8..16].copy_from_slice(&(len as u64).to_be_bytes());
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &str) -> TwoPartMessage {
        TwoPartMessage::from_header(json.as_bytes().to_vec())
    }

    #[test]
    fn messages_have_the_bytes_of_dynamo() {
        let handshake = CallHomeHandshake {
            subject: "s".into(),
            stream_type: StreamType::Response,
            confirm: false,
        };
        let shown = format!("{handshake:?}");
        assert!(!shown.contains("subject"), "the subject is in no log: {shown}");
        let frame = json_frame(&handshake);
        assert_eq!(&frame[24..], br#"{"subject":"s","stream_type":"response"}"#);
        assert_eq!(frame[..8], 40_u64.to_be_bytes());
        assert!(frame[8..24].iter().all(|byte| *byte == 0));
        assert_eq!(begun_frame(), json_frame(&ResponseStreamPrologue::default()));
        assert_eq!(&begun_frame()[24..], br#"{"error":null}"#);
        assert_eq!(&ControlMessage::Sentinel.frame()[24..], br#""sentinel""#);
        assert_eq!(item_prefix(5)[8..16], 5_u64.to_be_bytes());
        for control in [ControlMessage::Stop, ControlMessage::Kill, ControlMessage::Sentinel] {
            assert_eq!(serde_json::to_vec(&control).unwrap(), control.json());
            assert_eq!(json_frame(&control), control.frame());
        }
    }

    #[test]
    fn frames_are_told_apart() {
        assert!(matches!(Message::read(TwoPartMessage::from_data("x")), Ok(Message::Item(_))));
        assert!(matches!(Message::read(TwoPartMessage::empty()), Ok(Message::Heartbeat)));
        let Ok(Message::Item(empty)) = Message::read(header("\"item\"")) else { panic!("an item") };
        assert!(empty.is_empty());
        assert_eq!(&empty_item_frame()[24..], b"\"item\"");
        let stop = Message::read(header("\"stop\""));
        assert!(matches!(stop, Ok(Message::Control(ControlMessage::Stop))));
        for begun in [r#"{"error":null}"#, r#"{"error": null,"new":1}"#, "{}"] {
            assert!(matches!(Message::read(header(begun)), Ok(Message::Begun)), "{begun}");
        }
        let failed = Message::read(header(r#"{"error":"boom"}"#));
        assert!(matches!(failed, Ok(Message::Failed(Failure::Failed(_)))));
        for bad in
            ["\"halt\"", "7", "[1]", "{", "null", r#"{"error":1}"#, r#"{"error":"a","error":"b"}"#]
        {
            assert!(Message::read(header(bad)).is_err(), "{bad}");
        }
        let both = TwoPartMessage::from_parts("\"sentinel\"", "x");
        assert!(Message::read(both).is_err());
    }

    #[test]
    fn head_and_facts_carry_a_header_block() {
        let mut block = Headers::new();
        block.insert("model", "m").unwrap();
        let frame = head_frame(&block);
        let expected =
            b"\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\"head\"\x05model\0\x01m";
        assert_eq!(frame[..], expected[..]);
        assert_eq!(&facts_frame(&Headers::new())[24..], b"\"facts\"");
        let read = |header: &'static str, body: &Bytes| {
            Message::read(TwoPartMessage::from_parts(header, body.clone()))
        };
        assert!(matches!(read("\"head\"", block.as_block()), Ok(Message::Head(it)) if it == block));
        assert!(
            matches!(read("\"facts\"", block.as_block()), Ok(Message::Facts(it)) if it == block)
        );
        assert!(matches!(read("\"head\"", &Bytes::new()), Ok(Message::Head(it)) if it.is_empty()));
        let cut = block.as_block().slice(..8);
        assert!(read("\"head\"", &cut).is_err() && read("\"facts\"", &cut).is_err());
        let large = Bytes::from(vec![b'a'; 65_537]);
        assert!(read("\"head\"", &large).is_err() && read("\"facts\"", &large).is_err());
    }

    #[test]
    fn an_untyped_error_may_have_run_and_a_typed_one_says_so() {
        let read = |json: &str| serde_json::from_str::<ResponseStreamPrologue>(json).unwrap();
        assert!(read(r#"{"error":null}"#).failure().is_none());
        let Some(Failure::Failed(untyped)) = read(r#"{"error":"boom"}"#).failure() else {
            panic!("a failure")
        };
        assert_eq!((untyped.code(), untyped.executed()), (Code::HandlerFailed, Executed::Maybe));
        assert_eq!(untyped.message(), "boom");
        let unknown = read(r#"{"error":"boom","typed_error":{"error_type":"New","message":"b"}}"#);
        let Some(Failure::Failed(unknown)) = unknown.failure() else { panic!("a failure") };
        assert_eq!(unknown.code(), Code::HandlerFailed);
        let broken = read(r#"{"error":"boom","typed_error":7}"#);
        let Some(Failure::Failed(broken)) = broken.failure() else { panic!("a failure") };
        assert_eq!(broken.message(), "boom");
    }
}
