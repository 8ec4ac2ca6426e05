//! Frames that wait for the socket.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Bytes, BytesMut};
use sinew_codec::{TWO_PART_PREFIX_BYTES, checksum_of};
use sinew_dynamo_wire::item_prefix;

/// Frames that wait. Each costs some 64 bytes, and more of them would only be more that a caller
/// who stops the stream does not get.
const QUEUE_FRAMES: usize = 64;

/// Bytes that wait; one item may exceed it.
const QUEUE_BYTES: usize = 1 << 20;

/// Pieces in one vectored write: two for each frame, so a full queue goes in two.
pub(crate) const SLICES: usize = 64;

/// A frame: an item with its prefix, which is not put together, or a whole control frame.
pub(crate) struct Frame {
    prefix: Option<[u8; TWO_PART_PREFIX_BYTES]>,
    body: Bytes,
}

impl Frame {
    pub(crate) fn item(body: Bytes) -> Self {
        Self { prefix: Some(item_prefix(body.len())), body }
    }

    pub(crate) fn whole(frame: Bytes) -> Self {
        Self { prefix: None, body: frame }
    }

    /// Writes the checksum over header and body into the frame.
    fn seal(&mut self) {
        const AT: std::ops::Range<usize> = 16..TWO_PART_PREFIX_BYTES;
        if let Some(prefix) = &mut self.prefix {
            prefix[AT].copy_from_slice(&checksum_of(&[], &self.body).to_be_bytes());
        } else if let Some(parts) = self.body.get(TWO_PART_PREFIX_BYTES..) {
            // A control message or the prologue: short, and a few in the life of a stream.
            let sum = checksum_of(parts, &[]).to_be_bytes();
            let mut frame = BytesMut::from(&self.body[..]);
            frame[AT].copy_from_slice(&sum);
            self.body = frame.freeze();
        }
    }

    fn len(&self) -> usize {
        self.body.len() + self.prefix.map_or(0, |prefix| prefix.len())
    }
}

/// Frames in their order, of which the first may be written in part.
#[derive(Default)]
pub(crate) struct WriteQueue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Bytes of the first frame that are written.
    written: usize,
    /// Frames carry a checksum.
    sealed: bool,
}

impl WriteQueue {
    /// An empty queue whose frames carry a checksum, or none, as Dynamo's do.
    pub(crate) fn new(sealed: bool) -> Self {
        Self { sealed, ..Self::default() }
    }

    pub(crate) fn push(&mut self, mut frame: Frame) {
        if self.sealed {
            frame.seal();
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// True while another item may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.frames.len() < QUEUE_FRAMES && self.bytes < QUEUE_BYTES
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The unwritten pieces in their order. Returns how many there are.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.written;
        let mut filled = 0;
        for frame in &self.frames {
            let prefix = frame.prefix.as_ref().map_or(&[][..], |prefix| &prefix[..]);
            for piece in [prefix, &frame.body[..]] {
                if filled == slices.len() {
                    return filled;
                }
                let rest = &piece[skip.min(piece.len())..];
                skip = skip.saturating_sub(piece.len());
                if !rest.is_empty() {
                    slices[filled] = IoSlice::new(rest);
                    filled += 1;
                }
            }
        }
        filled
    }

    /// So many bytes were written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        while let Some(first) = self.frames.front() {
            let len = first.len();
            if self.written < len {
                return;
            }
            self.written -= len;
            self.bytes -= len;
            self.frames.pop_front();
        }
    }

    /// Drops all but a frame whose beginning is written: what follows could not be read without
    /// its rest.
    pub(crate) fn drop_unbegun(&mut self) {
        let begun = usize::from(self.written > 0);
        let dropped: usize = self.frames.drain(begun..).map(|frame| frame.len()).sum();
        self.bytes -= dropped;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.sealed);
    }
}

#[cfg(test)]
mod tests {
    use sinew_codec::TwoPartCodec;
    use sinew_dynamo_wire::ControlMessage;

    use super::*;

    fn item(body: &'static str) -> Frame {
        Frame::item(Bytes::from_static(body.as_bytes()))
    }

    /// What is left to write, as one piece.
    fn rest(queue: &WriteQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = queue.fill(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn writes_that_end_anywhere_go_on_where_they_ended() {
        let mut queue = WriteQueue::default();
        queue.push(Frame::whole(ControlMessage::Stop.frame()));
        queue.push(item("one"));
        queue.push(item(""));
        queue.push(item("two"));
        let mut expected = rest(&queue);
        assert_eq!(expected.len(), 24 + 6 + 24 + 3 + 24 + 24 + 3);
        // Pieces of every length, one after the other.
        let mut piece = 0;
        while !queue.is_empty() {
            piece = (piece % 29 + 1).min(expected.len());
            queue.advance(piece);
            expected.drain(..piece);
            assert_eq!(rest(&queue), expected);
        }
        assert_eq!((queue.bytes, queue.written), (0, 0));
    }

    #[test]
    fn frames_carry_a_checksum_when_they_are_to() {
        let mut codec = TwoPartCodec::default().with_required_checksum(true);
        for sealed in [true, false] {
            let mut queue = WriteQueue::new(sealed);
            for frame in [Frame::whole(ControlMessage::Stop.frame()), item("one"), item("")] {
                queue.push(frame);
                let mut bytes = BytesMut::from(&rest(&queue)[..]);
                assert_eq!(codec.decode_frame(&mut bytes).is_ok(), sealed);
                queue.clear();
            }
        }
    }

    #[test]
    fn what_is_begun_is_finished_and_the_rest_dropped() {
        for (written, kept) in [(0, 0), (1, 27), (27, 0), (30, 27)] {
            let mut queue = WriteQueue::default();
            for _ in 0..3 {
                queue.push(item("one"));
            }
            queue.advance(written);
            queue.drop_unbegun();
            assert_eq!(queue.bytes, kept, "after {written} bytes");
        }
    }

    #[test]
    fn the_queue_has_a_bound_in_frames_and_in_bytes() {
        let mut queue = WriteQueue::default();
        for _ in 0..QUEUE_FRAMES {
            assert!(queue.has_room());
            queue.push(item("x"));
        }
        assert!(!queue.has_room());
        let mut queue = WriteQueue::default();
        let body = Bytes::from(vec![0; QUEUE_BYTES]);
        queue.push(Frame::whole(body));
        assert!(!queue.has_room(), "one item may exceed it, and no more");
    }
}
