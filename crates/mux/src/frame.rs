//! The frame header: 8 bytes in front of every frame.

/// The bytes that a dialler sends first, and that an acceptor answers with.
///
/// No other protocol on the same port can begin like this: HTTP begins with ASCII letters, TLS
/// with `16 03`, and a Dynamo peer with a 16-bit path length and a UTF-8 path, which cannot
/// hold the `FF` that stands sixth; a Dynamo call-home begins with zero bytes.
pub const PREFACE: [u8; 8] = [0xFF, b'S', b'N', b'E', b'W', 0xFF, b'\r', b'\n'];

/// Length of a frame header in bytes.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Length of the check that follows each frame when either side asked for integrity.
pub(crate) const CHECK_BYTES: usize = 4;

/// Kinds with this bit may be ignored by who does not know them.
const NON_CRITICAL: u8 = 0x80;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)+) => {
        /// The kind of a frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $name = $number,)+ }

        impl Kind {
            /// Every kind of protocol version 1.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];

            /// Reads the number on the wire.
            pub const fn from_wire(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// First frame each way: versions, limits, identity.
    Hello = 0x01,
    /// A new stream with its request.
    Open = 0x02,
    /// The worker has accepted the request.
    Accept = 0x03,
    /// A whole item.
    Item = 0x04,
    /// The begin of an item that continues in chunks.
    ItemBegin = 0x05,
    /// The next part of an item, or of a request body.
    Chunk = 0x06,
    /// Terminal: every item was sent.
    Complete = 0x07,
    /// Terminal: an error.
    Failed = 0x08,
    /// Terminal: ended early on purpose.
    Cancelled = 0x09,
    /// Terminal: refused before anything ran.
    Reject = 0x0A,
    /// Items consumed so far, and how much more may be sent.
    Credit = 0x0B,
    /// The consumer of an open stream attaches it to this connection.
    Attach = 0x0C,
    /// The consumer asks the producer to end.
    Cancel = 0x0D,
    /// Streams whose end the consumer has received: the producer may drop them.
    Done = 0x0E,
    /// More room for request bodies on this connection.
    Grant = 0x0F,
    /// A question whether the peer is alive.
    Ping = 0x10,
    /// The answer to a ping.
    Pong = 0x11,
    /// No new streams on this connection.
    GoAway = 0x12,
    /// What the handler says of the response before its first item.
    Head = 0x13,
    /// The state of the handler behind an item.
    Checkpoint = 0x14,
}

/// A frame's length, kind and stream as they stand on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes that follow the header, without the check.
    pub(crate) len: usize,
    /// The kind's number, possibly unknown.
    pub(crate) kind: u8,
    /// The stream; 0 is the connection itself.
    pub(crate) stream: u32,
}

impl FrameHeader {
    /// Reads a header from the front of `bytes`; `None` when they are too few.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
        Some(Self {
            len: u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize,
            kind: head[3],
            stream: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        })
    }

    /// The header's bytes. Lengths of 2^24 and more do not occur: chunks are far smaller.
    pub(crate) fn bytes(len: usize, kind: Kind, stream: u32) -> [u8; FRAME_HEADER_BYTES] {
        debug_assert!(len < 1 << 24, "frame payloads are bounded by the chunk size");
        let [_, a, b, c] = (len as u32).to_be_bytes();
        let [d, e, f, g] = stream.to_be_bytes();
        [a, b, c, kind as u8, d, e, f, g]
    }

    /// True when an unknown kind may be skipped.
    pub(crate) fn may_be_ignored(self) -> bool {
        self.kind & NON_CRITICAL != 0
    }
}

/// The check behind a frame: the low half of XXH3-64 over header and payload.
pub(crate) fn check(parts: &[&[u8]]) -> [u8; CHECK_BYTES] {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for part in parts {
        hash.update(part);
    }
    low_half(hash.digest())
}

/// The same over one contiguous piece, without the streaming state.
pub(crate) fn check_one(frame: &[u8]) -> [u8; CHECK_BYTES] {
    low_half(xxhash_rust::xxh3::xxh3_64(frame))
}

fn low_half(digest: u64) -> [u8; CHECK_BYTES] {
    (digest as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let bytes = FrameHeader::bytes(0x01_02_03, Kind::Item, 0xA0B0_C0D0);
        assert_eq!(bytes, [1, 2, 3, 4, 0xA0, 0xB0, 0xC0, 0xD0]);
        let header = FrameHeader::read(&bytes).unwrap();
        assert_eq!((header.len, header.kind, header.stream), (0x01_02_03, 4, 0xA0B0_C0D0));
        assert_eq!(FrameHeader::read(&bytes[..7]), None);
    }

    #[test]
    fn kinds_have_their_numbers() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_wire(*kind as u8), Some(*kind));
        }
        assert_eq!(Kind::from_wire(0), None);
        assert!(FrameHeader { len: 0, kind: 0x91, stream: 0 }.may_be_ignored());
        assert!(!FrameHeader { len: 0, kind: 0x15, stream: 0 }.may_be_ignored());
    }

    #[test]
    fn the_check_does_not_depend_on_how_the_frame_is_cut() {
        assert_eq!(check(&[b"ab", b"", b"c"]), check_one(b"abc"));
    }

    #[test]
    fn the_preface_is_no_other_protocol() {
        assert!(!PREFACE[0].is_ascii());
        assert_ne!(PREFACE[0], 0x16);
        // A Dynamo request frame: u16 path length, then a path that must be UTF-8.
        assert!(std::str::from_utf8(&PREFACE[2..6]).is_err());
    }
}
