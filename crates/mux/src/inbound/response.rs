//! Received frames of responses to streams that this side opened.

use bytes::Bytes;
use sinew_plane::{CancelReason, Checkpoint, Executed, Headers, Terminal};

use super::{Inbound, Phase};
use crate::{
    Arrived, ConnectionError, Event, StreamViolation,
    assembly::{Assembly, NotTaken, Purpose},
    frame::{FrameHeader, Kind},
    items::RunSize,
    message::{self, Fields},
};

const ITEM_TOO_LARGE: &str = "an item over the announced limit";

/// An item that began, until somebody says that it is wanted.
#[derive(Debug)]
pub(super) struct StartedItem {
    pub(super) stream: u32,
    pub(super) total: usize,
    pub(super) first: Bytes,
}

impl Inbound {
    /// Returns the next item and those of the same stream that follow it, without an
    /// [`Event::Items`]; `None` if another event is next. They end before an item with a fault,
    /// whose error the next call returns.
    ///
    /// # Errors
    /// As [`poll_event`](Self::poll_event).
    pub fn poll_items(&mut self) -> Result<Option<Arrived<'_>>, ConnectionError> {
        let Some(first) = FrameHeader::read(&self.frames[self.at..]) else { return Ok(None) };
        if first.kind != Kind::Item as u8 || self.phase != Phase::Streams {
            return Ok(None);
        }
        let start = self.at;
        let end = self.end_of(first)?;
        self.check_response(first.stream)?;
        if first.len > self.max_message_bytes {
            self.faulty = Some(first.stream);
            return Err(ConnectionError::Violation(ITEM_TOO_LARGE));
        }
        let mut size = RunSize::default();
        size.add(first.len);
        self.at = end;
        while let Some(header) = FrameHeader::read(&self.frames[self.at..]) {
            let continues = (header.kind, header.stream) == (first.kind, first.stream);
            if !continues || header.len > self.max_message_bytes {
                break;
            }
            let Ok(end) = self.end_of(header) else { break };
            self.at = end;
            size.add(header.len);
        }
        let range = start..self.at;
        let (frames, checked) = (&self.frames, self.integrity);
        Ok(Some(Arrived { stream: first.stream, frames, range, checked, size }))
    }

    /// Puts together the item that the last event, [`ItemBegin`](Event::ItemBegin), began on this
    /// stream. It comes with an [`ItemEnd`](Event::ItemEnd) when it is whole. Call it before the
    /// next event, or the item is skipped and its chunks come as [`Chunk`](Event::Chunk) without
    /// bytes.
    ///
    /// False if the memory budget has no room for it: end the stream here, and cancel it at the
    /// peer.
    ///
    /// # Errors
    /// Its first chunk is as long as the item or longer.
    pub fn assemble(&mut self, stream: u32) -> Result<bool, StreamViolation> {
        let Some(item) = self.started.take_if(|item| item.stream == stream) else {
            return Ok(true);
        };
        match Assembly::begin(item.total, &item.first, Purpose::Item, &mut self.pool) {
            Ok(assembly) => {
                self.items.insert(stream, assembly);
                Ok(true)
            }
            Err(NotTaken::NoRoom) => Ok(false),
            Err(NotTaken::Violation(violation)) => Err(violation),
        }
    }

    /// Drops the received part of an item of this stream, and skips its further items.
    pub fn forget(&mut self, stream: u32) {
        self.items.remove(&stream);
    }

    /// The peer has not begun the streams above this one, so nothing of theirs will become whole.
    pub(super) fn forget_above(&mut self, last_stream: u32) {
        self.items.retain(|stream, _| *stream <= last_stream);
    }

    fn check_response(&self, stream: u32) -> Result<(), ConnectionError> {
        if !self.role.opens(stream) {
            return Err(ConnectionError::Violation("a response on a stream of its own sender"));
        }
        Ok(())
    }

    pub(super) fn read_response(
        &mut self,
        kind: Kind,
        stream: u32,
        payload: Bytes,
    ) -> Result<Option<Event>, ConnectionError> {
        self.check_response(stream)?;
        let broken = ConnectionError::Violation("a response frame that cannot be read");
        let mut fields = Fields(&payload);
        match kind {
            Kind::Accept => Ok(Some(Event::Accept { stream })),
            Kind::Head => {
                let head = message::decode_headers(&payload)?;
                Ok(Some(Event::Head { stream, head }))
            }
            Kind::Checkpoint => {
                let items = fields.u64().ok_or(broken)?;
                let state = payload.slice(8..);
                if state.len() > Checkpoint::MAX_BYTES {
                    return Err(StreamViolation("a checkpoint over the limit").into());
                }
                // It may be kept for as long as the stream runs, so not in the read buffer.
                let state = Bytes::copy_from_slice(&state);
                let checkpoint = Checkpoint { items, state };
                Ok(Some(Event::Checkpoint { stream, checkpoint }))
            }
            Kind::Chunk => Ok(self.read_chunk(stream, &payload)?),
            Kind::ItemBegin => {
                let total = fields.u32().ok_or(broken)? as usize;
                if total > self.max_message_bytes {
                    return Err(ConnectionError::Violation(ITEM_TOO_LARGE));
                }
                if self.items.contains_key(&stream) {
                    return Err(StreamViolation("an item inside another").into());
                }
                self.started = Some(StartedItem { stream, total, first: payload.slice(4..) });
                Ok(Some(Event::ItemBegin { stream, total }))
            }
            _ => {
                let (terminal, items) = read_terminal(kind, &mut fields).ok_or(broken)?;
                // It says that nothing ran, and a handler began the item.
                if kind == Kind::Reject && self.items.contains_key(&stream) {
                    return Err(StreamViolation("a reject inside an item").into());
                }
                // What of an item came before an early end is of no use to anybody.
                if !self.items.is_empty() {
                    self.items.remove(&stream);
                }
                let facts = match kind {
                    Kind::Reject => Headers::new(),
                    _ => message::decode_facts(&mut fields)?,
                };
                Ok(Some(Event::Ended { stream, terminal, items, facts }))
            }
        }
    }

    fn read_chunk(&mut self, stream: u32, chunk: &[u8]) -> Result<Option<Event>, StreamViolation> {
        let Some(assembly) = self.items.get_mut(&stream) else {
            return Ok(Some(Event::Chunk { stream }));
        };
        match assembly.push(chunk, &mut self.pool) {
            Ok(None) => Ok(None),
            Ok(Some(whole)) => {
                self.items.remove(&stream);
                Ok(Some(Event::ItemEnd { stream, item: whole.bytes }))
            }
            Err(NotTaken::NoRoom) => Ok(Some(self.refuse(stream))),
            Err(NotTaken::Violation(violation)) => Err(violation),
        }
    }
}

fn read_terminal(kind: Kind, fields: &mut Fields<'_>) -> Option<(Terminal, u64)> {
    if kind == Kind::Reject {
        let error = message::decode_error(fields)?.with_executed(Executed::No);
        return Some((Terminal::Failed { error }, 0));
    }
    let items = fields.u64()?;
    let terminal = match kind {
        Kind::Complete => Terminal::Complete { items },
        Kind::Failed => Terminal::Failed { error: message::decode_error(fields)? },
        _ => {
            let [reason] = fields.take()?;
            Terminal::Cancelled { reason: CancelReason::from_wire(reason) }
        }
    };
    Some((terminal, items))
}
