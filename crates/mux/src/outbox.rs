//! Frames waiting for the next write: control first, then data.

use std::sync::Arc;

use bytes::Bytes;
use sinew_plane::{
    BudgetUse, Headers, Terminal,
    budget::{Account, Hold, Work},
};

use crate::{
    batch::{Batch, Part},
    frame::{self, CHECK_BYTES, FRAME_HEADER_BYTES, FrameHeader, Kind},
    message,
};

/// Longest piece of a message in one frame, in bytes: at 1 GB/s it delays another stream's item by
/// 64 microseconds, and a 1 MiB body costs 16 headers.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Payloads up to this many bytes are copied behind their header; larger ones go to the socket
/// as they are. A copy of 2 KiB costs about as much as one more part of a vectored write.
const COPY_BYTES: usize = 2 << 10;

/// Data waiting beyond this makes producers wait. Enough to fill a socket buffer at one go,
/// small enough that a cancelled stream has little left on its way.
const ROOM_BYTES: usize = 256 << 10;

/// So much of it a connection has without a charge to the memory budget. It grows by four times.
const FREE_ROOM_BYTES: usize = 16 << 10;

/// Spent buffers that are kept, and up to which capacity: control and data of one write.
const SPARE_BUFFERS: usize = 2;
const SPARE_BYTES: usize = ROOM_BYTES + CHUNK_BYTES;

/// Longest list of parts that is kept: a few hundred bytes.
const SPARE_PARTS: usize = 16;

/// Frames waiting for the next write.
#[derive(Debug)]
pub struct Outbox {
    control: Vec<u8>,
    /// Bytes in `control` that are requests of this side, not answers to the peer.
    request_bytes: usize,
    data: Vec<Part>,
    /// The buffer that small data frames gather in; behind everything in `data`.
    tail: Vec<u8>,
    data_bytes: usize,
    /// Data waiting beyond this makes producers wait.
    room: usize,
    /// Where more than the free room is charged, and what is.
    account: Option<Arc<Account>>,
    grown: Option<Hold>,
    /// A batch is being written.
    lent: bool,
    integrity: bool,
    spare: Vec<Vec<u8>>,
    /// A batch that was written, for its lists.
    spare_batch: Batch,
    /// Batches taken so far; wraps.
    batches: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            control: Vec::new(),
            request_bytes: 0,
            data: Vec::new(),
            tail: Vec::new(),
            data_bytes: 0,
            room: ROOM_BYTES,
            account: None,
            grown: None,
            lent: false,
            integrity: false,
            spare: Vec::new(),
            spare_batch: Batch::default(),
            batches: 1,
        }
    }
}

impl Outbox {
    /// Has more than the free room only as far as `account` has.
    pub(crate) fn charge_to(&mut self, account: Arc<Account>) {
        (self.room, self.account) = (FREE_ROOM_BYTES, Some(account));
    }

    /// Follow each frame with a check from now on.
    pub(crate) fn set_integrity(&mut self, integrity: bool) {
        self.integrity = integrity;
    }

    /// True while producers may add data.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.data_bytes < self.room
    }

    /// Makes more room when there is none and the memory budget has it: for what waits, and as
    /// much again for what is being written. True when there is some.
    pub(crate) fn make_room(&mut self) -> bool {
        self.has_room() || self.grow()
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let Some(account) = self.account.as_ref().filter(|_| self.room < ROOM_BYTES) else {
            return false;
        };
        let room = (4 * self.room).min(ROOM_BYTES);
        let budget = account.budget();
        // An eighth of the budget for all of them: streams would be ended for more.
        let own = if self.grown.is_some() { 2 * self.room } else { 0 };
        let others = budget.used(BudgetUse::Buffers).saturating_sub(own);
        let fits = others + 2 * room <= budget.limit() / 8;
        if !fits || is_tight(account) {
            return false;
        }
        let charged = match &mut self.grown {
            Some(hold) => hold.grow_to(2 * room, Work::Running),
            None => {
                self.grown = account.hold(BudgetUse::Buffers, 2 * room, Work::Running);
                self.grown.is_some()
            }
        };
        if charged {
            self.room = room;
        }
        self.has_room()
    }

    /// Bytes of waiting control frames and terminals, without the requests of this side. A peer
    /// that causes many answers and reads none makes this grow; the driver then stops reading from
    /// that peer.
    pub fn answer_bytes(&self) -> usize {
        let control = self.control.len() - self.request_bytes;
        control + self.data_bytes.saturating_sub(ROOM_BYTES + CHUNK_BYTES)
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data_bytes == 0
    }

    /// The number of the batch that is being gathered: odd, so never 0. It wraps.
    pub fn batch_number(&self) -> u32 {
        self.batches
    }

    /// Bytes written without a frame around them: the preface.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.control.extend_from_slice(bytes);
    }

    /// A frame that goes before all data.
    pub(crate) fn control(&mut self, kind: Kind, stream: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        if self.control.capacity() == 0 {
            self.control = self.spare.pop().unwrap_or_default();
        }
        write_frame(&mut self.control, self.integrity, kind, stream, fill);
    }

    /// The frame of a new request, which goes before all data too.
    pub(crate) fn request(&mut self, stream: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        let before = self.control.len();
        self.control(Kind::Open, stream, fill);
        self.request_bytes += self.control.len() - before;
    }

    /// A small frame in line with the data.
    fn inline(&mut self, kind: Kind, stream: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        let integrity = self.integrity;
        let tail = self.tail();
        let before = tail.len();
        write_frame(tail, integrity, kind, stream, fill);
        self.data_bytes += self.tail.len() - before;
    }

    /// A frame of `head` and `body` in line with the data; a large body is not copied.
    pub(crate) fn payload(&mut self, kind: Kind, stream: u32, head: &[u8], body: &Bytes) {
        if body.len() <= COPY_BYTES {
            self.small_payload(kind, stream, head, body);
            return;
        }
        let header = FrameHeader::bytes(head.len() + body.len(), kind, stream);
        self.data_bytes += header.len() + head.len() + body.len();
        self.tail.extend_from_slice(&header);
        self.tail.extend_from_slice(head);
        let check = self.integrity.then(|| frame::check(&[&header, head, body]));
        let next_tail = self.spare.pop().unwrap_or_default();
        self.data.push(Part::Buffer(std::mem::replace(&mut self.tail, next_tail)));
        self.data.push(Part::Body(body.clone()));
        if let Some(check) = check {
            self.tail.extend_from_slice(&check);
            self.data_bytes += check.len();
        }
    }

    /// An item that stands in `bytes`.
    #[inline]
    pub(crate) fn item(&mut self, stream: u32, bytes: &Bytes, item: &[u8]) {
        if item.len() <= COPY_BYTES {
            self.small_payload(Kind::Item, stream, b"", item);
        } else {
            self.payload(Kind::Item, stream, b"", &bytes.slice_ref(item));
        }
    }

    /// What most items are: the lengths are known, so room is made once and the header is right
    /// from the start.
    fn small_payload(&mut self, kind: Kind, stream: u32, head: &[u8], body: &[u8]) {
        let tail = self.tail();
        let start = tail.len();
        let payload_bytes = head.len() + body.len();
        tail.reserve(FRAME_HEADER_BYTES + payload_bytes + CHECK_BYTES);
        tail.extend_from_slice(&FrameHeader::bytes(payload_bytes, kind, stream));
        if !head.is_empty() {
            tail.extend_from_slice(head);
        }
        tail.extend_from_slice(body);
        if self.integrity {
            let check = frame::check_one(&self.tail[start..]);
            self.tail.extend_from_slice(&check);
        }
        self.data_bytes += self.tail.len() - start;
    }

    fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = self.spare.pop().unwrap_or_default();
        }
        &mut self.tail
    }

    /// A terminal, behind its stream's items. It needs no room.
    pub(crate) fn terminal(
        &mut self,
        stream: u32,
        terminal: &Terminal,
        items: u64,
        facts: &Headers,
    ) {
        let kind = match terminal {
            Terminal::Complete { .. } => Kind::Complete,
            Terminal::Failed { .. } => Kind::Failed,
            Terminal::Cancelled { .. } => Kind::Cancelled,
        };
        self.inline(kind, stream, |out| message::encode_terminal(terminal, items, facts, out));
    }

    /// Everything that waits, in the order it is to be written.
    pub(crate) fn take_batch(&mut self) -> Batch {
        if self.is_empty() {
            return Batch::default();
        }
        let mut batch = std::mem::take(&mut self.spare_batch);
        self.batches = self.batches.wrapping_add(2);
        self.lent = true;
        // Two small buffers make one write cheaper as one: the common case at low load.
        let both = !self.control.is_empty() && !self.tail.is_empty();
        if both && self.data.is_empty() && self.control.len() + self.tail.len() <= COPY_BYTES {
            let mut tail = std::mem::take(&mut self.tail);
            self.control.append(&mut tail);
            self.tail = tail;
        }
        batch.push(Part::Buffer(std::mem::take(&mut self.control)));
        self.request_bytes = 0;
        for part in self.data.drain(..) {
            batch.push(part);
        }
        if !self.tail.is_empty() {
            batch.push(Part::Buffer(std::mem::take(&mut self.tail)));
        }
        self.data_bytes = 0;
        batch
    }

    /// Lets go of the buffers that are kept for later, and of room that nothing is in.
    pub(crate) fn shrink(&mut self) {
        self.give_room_back();
        self.spare = Vec::new();
        self.spare_batch = Batch::default();
        for buffer in [&mut self.control, &mut self.tail] {
            if buffer.is_empty() {
                *buffer = Vec::new();
            }
        }
        if self.data.is_empty() {
            self.data = Vec::new();
        }
    }

    fn give_room_back(&mut self) {
        if self.grown.is_some() && self.is_empty() && !self.lent {
            (self.room, self.grown) = (FREE_ROOM_BYTES, None);
        }
    }

    /// Takes back the buffers of a batch.
    pub(crate) fn recycle(&mut self, batch: &mut Batch) {
        self.lent = false;
        if self.grown.is_some() && self.account.as_deref().is_some_and(is_tight) {
            // Others need it more.
            self.give_room_back();
            self.spare = Vec::new();
            batch.spent = Vec::new();
        }
        for mut buffer in batch.spent.drain(..) {
            if self.spare.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BYTES {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
        if batch.is_empty() && batch.lists() <= SPARE_PARTS {
            self.spare_batch = std::mem::take(batch);
        }
    }
}

/// From half of the budget on, nothing is held that is only quicker with it.
fn is_tight(account: &Account) -> bool {
    let budget = account.budget();
    budget.total() >= budget.limit() / 2
}

fn write_frame(
    out: &mut Vec<u8>,
    integrity: bool,
    kind: Kind,
    stream: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    fill(out);
    let payload_len = out.len() - start - FRAME_HEADER_BYTES;
    let header = FrameHeader::bytes(payload_len, kind, stream);
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&header);
    if integrity {
        let check = frame::check_one(&out[start..]);
        out.extend_from_slice(&check);
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::Budget;

    use super::*;

    fn written(outbox: &mut Outbox) -> Vec<u8> {
        outbox.take_batch().parts().flatten().copied().collect()
    }

    #[test]
    fn control_goes_before_data() {
        let mut outbox = Outbox::default();
        outbox.payload(Kind::Item, 1, b"", &Bytes::from_static(b"data"));
        outbox.control(Kind::Ping, 0, |out| out.push(9));
        assert_eq!(written(&mut outbox)[3], Kind::Ping as u8);
        assert!(outbox.is_empty());
    }

    #[test]
    fn large_bodies_are_not_copied() {
        let body = Bytes::from(vec![7; COPY_BYTES + 1]);
        let mut outbox = Outbox::default();
        outbox.payload(Kind::Chunk, 1, b"", &body);
        let batch = outbox.take_batch();
        let at = body.as_ptr();
        assert!(batch.parts().any(|part| part.as_ptr() == at));
    }

    #[test]
    fn the_same_frames_leave_whichever_way_they_were_put() {
        for integrity in [false, true] {
            let body = Bytes::from(vec![7; COPY_BYTES + 1]);
            let (mut a, mut b) = (Outbox::default(), Outbox::default());
            a.set_integrity(integrity);
            b.set_integrity(integrity);
            a.payload(Kind::ItemBegin, 3, b"head", &body);
            b.inline(Kind::ItemBegin, 3, |out| {
                out.extend_from_slice(b"head");
                out.extend_from_slice(&body);
            });
            assert_eq!(a.data_bytes, b.data_bytes);
            assert_eq!(written(&mut a), written(&mut b));
        }
    }

    #[test]
    fn room_ends_and_comes_back() {
        let mut outbox = Outbox::default();
        while outbox.has_room() {
            outbox.payload(Kind::Chunk, 1, b"", &Bytes::from(vec![0; CHUNK_BYTES]));
        }
        let batch = outbox.take_batch();
        assert!(batch.remaining() < ROOM_BYTES + CHUNK_BYTES + FRAME_HEADER_BYTES);
        assert!(outbox.has_room());
    }

    #[test]
    fn room_beyond_what_is_free_is_charged_until_nothing_waits() {
        let budget = Budget::new(4 << 20);
        let account = budget.open();
        let mut outbox = Outbox::default();
        outbox.charge_to(Arc::clone(&account));
        let body = Bytes::from(vec![0; 1 << 10]);
        let fill = |outbox: &mut Outbox| {
            while outbox.make_room() {
                outbox.payload(Kind::Item, 1, b"", &body);
            }
            outbox.data_bytes
        };
        assert!(fill(&mut outbox) >= ROOM_BYTES);
        assert_eq!(budget.used(BudgetUse::Buffers), 2 * ROOM_BYTES);
        let mut batch = outbox.take_batch();
        outbox.shrink();
        assert_eq!(budget.total(), 2 * ROOM_BYTES, "it is not written yet");
        batch.advance(batch.remaining());
        outbox.recycle(&mut batch);
        outbox.shrink();
        assert_eq!(budget.total(), 0);
        let _others: Vec<_> = (0..2)
            .map(|_| budget.open().hold(BudgetUse::Kept, budget.share(), Work::Running).unwrap())
            .collect();
        assert!(fill(&mut outbox) < FREE_ROOM_BYTES + (2 << 10), "there is no more to be had");
    }

    #[test]
    fn buffers_are_used_again() {
        let mut outbox = Outbox::default();
        outbox.control(Kind::Ping, 0, |out| out.resize(100, 0));
        let mut batch = outbox.take_batch();
        let first = batch.parts().next().unwrap().as_ptr();
        batch.advance(batch.remaining());
        outbox.recycle(&mut batch);
        outbox.control(Kind::Ping, 0, |out| out.resize(50, 0));
        assert_eq!(outbox.take_batch().parts().next().unwrap().as_ptr(), first);
    }
}
