//! Reads chunks directly into their messages, without a copy through the read buffer.
//!
//! If a read ends in the middle of a large chunk, the received part is moved to its message, and
//! the rest of the chunk is read to its place there. That saves one copy of each byte, which is a
//! third of the work of receiving.

use bytes::{Buf, BytesMut, buf::Limit};

use super::{Inbound, Phase, response::StartedItem};
use crate::{
    Event,
    assembly::Assembly,
    buffer_pool::BufferPool,
    frame::{FRAME_HEADER_BYTES, FrameHeader, Kind},
};

/// Chunks in shorter frames wait until they are whole: a system call for the rest of one costs
/// as much as copying it.
const DIRECT_BYTES: usize = 2 << 10;

/// Length of what stands before the first bytes of an item that begins.
const TOTAL_BYTES: usize = 4;

/// A chunk of which a part has arrived.
#[derive(Debug, Default)]
pub(super) struct DirectRead {
    arriving: Option<Arriving>,
    /// What became whole with the chunk.
    whole: Option<Event>,
}

#[derive(Debug, Clone, Copy)]
struct Arriving {
    stream: u32,
    /// Bytes of the chunk still to come; not 0.
    rest: usize,
}

impl Inbound {
    /// The memory for the next bytes of the connection, if they are the rest of a chunk that is
    /// arriving. Read into it and report the number of bytes with [`filled`](Self::filled), or read
    /// into the buffer, which costs a copy.
    ///
    /// It has room for the rest of the chunk and 128 more bytes, so that the same read gets the
    /// next header. Without a read nothing changes.
    pub fn room(&mut self) -> Option<Limit<&mut BytesMut>> {
        let Arriving { stream, rest } = self.direct_read.arriving?;
        let (assembly, pool) = self.assembly(stream)?;
        // Asked for twice, because what is lent in the first could not be let go of here.
        if assembly.room(rest, pool).is_err() {
            self.direct_read.whole = Some(self.refuse(stream));
            return None;
        }
        let (assembly, pool) = self.assembly(stream)?;
        assembly.room(rest, pool).ok()
    }

    /// Records that `bytes` bytes were read into the [`room`](Self::room), and moves those after
    /// the chunk to `buffer`, for [`ingest`](Self::ingest).
    pub fn filled(&mut self, bytes: usize, buffer: &mut BytesMut) {
        let Some(Arriving { stream, rest }) = self.direct_read.arriving else { return };
        let surplus = bytes.saturating_sub(rest);
        if surplus > 0
            && let Some((assembly, _)) = self.assembly(stream)
        {
            assembly.move_surplus(surplus, buffer);
        }
        self.arrived(stream, rest, bytes - surplus);
    }

    /// The event of a message that became whole.
    pub(super) fn take_whole(&mut self) -> Option<Event> {
        self.direct_read.whole.take()
    }

    /// Takes the rest of a chunk that is arriving off the front of `buffer`, as much as there is.
    /// False when something behind it may be looked at.
    pub(super) fn take_chunk(&mut self, buffer: &mut BytesMut) -> bool {
        if let Some(Arriving { stream, rest }) = self.direct_read.arriving {
            let piece = rest.min(buffer.len());
            // Without an assembly, nobody wanted the item that began with this chunk.
            if let Some((assembly, pool)) = self.assembly(stream)
                && assembly.append(&buffer[..piece], pool).is_err()
            {
                self.direct_read.whole = Some(self.refuse(stream));
            }
            buffer.advance(piece);
            self.arrived(stream, rest, piece);
        }
        self.direct_read.arriving.is_some()
    }

    /// True when a message is whole that nobody has been told of.
    #[inline]
    pub(super) fn has_whole(&self) -> bool {
        self.direct_read.whole.is_some()
    }

    /// Looks at the frame in `buffer`, which is not whole. If it is a large chunk of a message
    /// that is known, what there is of it is taken. True when there is an event.
    pub(super) fn take_partial_frame(&mut self, buffer: &mut BytesMut) -> bool {
        let Some(header) = FrameHeader::read(buffer) else { return false };
        // A check covers a whole frame; and before the hello it is not known whether there is one.
        if self.integrity || self.phase != Phase::Streams || header.len < DIRECT_BYTES {
            return false;
        }
        match Kind::from_wire(header.kind) {
            Some(Kind::Chunk) => {
                self.take_partial_chunk(header, buffer);
                false
            }
            Some(Kind::ItemBegin) => self.take_partial_item(header, buffer),
            _ => false,
        }
    }

    fn take_partial_chunk(&mut self, header: FrameHeader, buffer: &mut BytesMut) {
        let missing = self.assembly(header.stream).map_or(0, |(assembly, _)| assembly.missing());
        // What breaks a rule is told when the frame is whole.
        if header.len <= missing {
            buffer.advance(FRAME_HEADER_BYTES);
            self.direct_read.arriving = Some(Arriving { stream: header.stream, rest: header.len });
            self.take_chunk(buffer);
        }
    }

    fn take_partial_item(&mut self, header: FrameHeader, buffer: &mut BytesMut) -> bool {
        let head = buffer.get(FRAME_HEADER_BYTES..).and_then(|rest| rest.first_chunk());
        let Some(total) = head.map(|total| u32::from_be_bytes(*total) as usize) else {
            return false;
        };
        let chunk = header.len - TOTAL_BYTES;
        let fits = total <= self.max_message_bytes && chunk < total;
        // What breaks a rule is told when the frame is whole.
        if !self.role.opens(header.stream) || !fits || self.items.contains_key(&header.stream) {
            return false;
        }
        buffer.advance(FRAME_HEADER_BYTES + TOTAL_BYTES);
        let first = buffer.split().freeze();
        let (stream, rest) = (header.stream, chunk - first.len());
        self.started = Some(StartedItem { stream, total, first });
        self.direct_read.arriving = Some(Arriving { stream, rest });
        self.direct_read.whole = Some(Event::ItemBegin { stream, total });
        true
    }

    /// The message of this stream that is on its way, and where it gets its memory.
    fn assembly(&mut self, stream: u32) -> Option<(&mut Assembly, &mut BufferPool)> {
        let assembly = if self.role.opens(stream) {
            self.items.get_mut(&stream)
        } else {
            self.request_bodies.assembly(stream)
        };
        Some((assembly?, &mut self.pool))
    }

    /// Of the `rest` bytes of a chunk, so many came.
    fn arrived(&mut self, stream: u32, rest: usize, bytes: usize) {
        let rest = rest - bytes;
        self.direct_read.arriving = (rest > 0).then_some(Arriving { stream, rest });
        if rest > 0 {
            return;
        }
        let Some((assembly, _)) = self.assembly(stream) else { return };
        let Some(message) = assembly.finish() else { return };
        self.direct_read.whole = if self.role.opens(stream) {
            self.items.remove(&stream);
            Some(Event::ItemEnd { stream, item: message.bytes })
        } else {
            self.request_bodies.finish(stream, message).map(Event::Opened)
        };
    }
}
