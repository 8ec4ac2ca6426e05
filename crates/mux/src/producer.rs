//! The sending end of one stream.

mod kept_items;

use bytes::Bytes;
use sinew_plane::{
    CancelReason, Checkpoint, Error, Headers, ItemRun, ResponseMetadata, Terminal, Window,
};

use self::kept_items::{KeptItem, KeptItems};
use crate::{
    Credit, Outbox, StreamViolation, consumer::REPORT_AT_LATEST, frame::Kind, outbox::CHUNK_BYTES,
};

/// What a kept item costs besides its bytes: its entry in the queue and its own small allocation.
pub const ITEM_COST_BYTES: usize = 64;

/// The sending end of one stream. It numbers the items, uses the credit, keeps items that are not
/// acknowledged, and sends them again to a consumer that attaches.
///
/// The window that the consumer granted plus one item bounds what it keeps, also if the consumer
/// reads nothing. [`with_limit`](Self::with_limit) bounds the window that a consumer may grant.
#[derive(Debug)]
pub struct Producer {
    /// Items from number `base` on: not acknowledged.
    items: KeptItems,
    base: u64,
    /// Bytes of all items below `base`.
    base_bytes: u64,
    /// Bytes of all items ever pushed.
    pushed_bytes: u64,
    /// Number of the item that is sent next.
    next: u64,
    /// Bytes of that item that are sent already.
    partial: usize,
    /// Items below this number may be sent, cumulative since the stream began.
    item_limit: u64,
    /// An item may start while fewer bytes than this were pushed before it.
    byte_limit: u64,
    /// No window counts for more than this.
    limit: Window,
    accept: Accept,
    /// Items that the handler made were dropped: the stream can no longer be complete.
    discarded: Option<CancelReason>,
    terminal: Option<Terminal>,
    terminal_sent: bool,
    attached: bool,
    /// The head is kept until an item is acknowledged.
    metadata: ResponseMetadata,
    /// There is a head, and the consumer may not have it.
    head_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    /// The consumer has not been told that the handler has begun.
    Untold,
    /// It is to be told.
    Due,
    /// It knows.
    Told,
}

/// Why an item was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum PushError {
    /// The credit is used up; the item comes back.
    Full(Bytes),
    /// The stream has ended.
    Ended,
}

/// What is left after [`Producer::poll_frame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollFrame {
    /// Nothing to send now.
    Idle,
    /// More to send when the outbox has room and the other streams had their turn.
    More,
    /// The terminal was sent: nothing more follows on this carrier.
    Ended,
}

impl Producer {
    /// Makes the producer of a new stream with the window that its consumer granted.
    pub fn new(window: Window) -> Self {
        Self {
            items: KeptItems::default(),
            base: 0,
            base_bytes: 0,
            pushed_bytes: 0,
            next: 0,
            partial: 0,
            item_limit: window.items.into(),
            byte_limit: window.bytes.into(),
            limit: Window { items: u32::MAX, bytes: u32::MAX },
            accept: Accept::Untold,
            discarded: None,
            terminal: None,
            terminal_sent: false,
            attached: true,
            metadata: ResponseMetadata::new(),
            head_due: false,
        }
    }

    /// Keeps no more than `limit` plus one item, however much the consumer grants: its window and
    /// each later credit count for at most `limit`. Call it before the first push.
    ///
    /// A limit under 256 items or 64 KiB counts as that, because a consumer may acknowledge nothing
    /// before it has received so much, and would never get more from a producer that stopped
    /// earlier.
    #[must_use]
    pub fn with_limit(mut self, limit: Window) -> Self {
        self.limit = Window {
            items: limit.items.max(REPORT_AT_LATEST.items),
            bytes: limit.bytes.max(REPORT_AT_LATEST.bytes),
        };
        self.item_limit = self.item_limit.min(self.limit.items.into());
        self.byte_limit = self.byte_limit.min(self.limit.bytes.into());
        self
    }

    /// Number of items pushed so far, without those that were dropped unsent.
    #[inline]
    pub fn pushed(&self) -> u64 {
        self.base + self.items.len() as u64
    }

    /// Number of items that the consumer has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.base
    }

    /// From which item on an attach may ask, and up to which: those that are acknowledged are gone,
    /// and those that were not sent cannot be asked for.
    pub(crate) fn resumable(&self) -> (u64, u64) {
        (self.base, self.next)
    }

    /// Items that are kept because they are not acknowledged.
    pub fn kept(&self) -> usize {
        self.items.len()
    }

    /// Cost of what is kept, in bytes: the items with [`ITEM_COST_BYTES`] for each, the head,
    /// the facts and the checkpoints.
    #[inline]
    pub fn kept_bytes(&self) -> usize {
        let bytes = usize::try_from(self.pushed_bytes - self.base_bytes).unwrap_or(usize::MAX);
        let held = bytes.saturating_add(self.items.held_bytes());
        held.saturating_add(self.items.len() * ITEM_COST_BYTES + self.metadata.bytes())
    }

    /// True while another item would be taken.
    #[inline]
    pub fn is_ready(&self) -> bool {
        !self.refuses() && self.pushed() < self.item_limit && self.pushed_bytes < self.byte_limit
    }

    /// Adds an item. It is charged in full: it may exceed the byte credit that is left.
    ///
    /// # Errors
    /// No credit; or the stream has ended, or what was pushed before was dropped.
    #[inline]
    pub fn push(&mut self, item: Bytes) -> Result<(), PushError> {
        if self.refuses() {
            return Err(PushError::Ended);
        }
        if !self.is_ready() {
            return Err(PushError::Full(item));
        }
        self.pushed_bytes += item.len() as u64;
        self.items.push(item);
        Ok(())
    }

    /// Sends the head before the first item, which also tells the consumer that the handler has
    /// begun. Changes nothing after another head or an item, or when the stream has ended.
    pub fn set_head(&mut self, head: Headers) {
        if self.pushed() == 0 && !self.refuses() && self.metadata.set_head(head) {
            self.head_due = true;
        }
    }

    /// Keeps the facts that leave with the terminal, in place of earlier ones. Changes nothing
    /// after [`finish`](Self::finish).
    pub fn set_facts(&mut self, facts: Headers) {
        if self.terminal.is_none() {
            self.metadata.set_facts(facts);
        }
    }

    /// Keeps a checkpoint, to be sent behind the items that it covers. Changes nothing when the
    /// stream has ended.
    pub fn add_checkpoint(&mut self, checkpoint: Checkpoint) {
        if !self.refuses() {
            self.metadata.add_unsent(checkpoint);
        }
    }

    /// True when a [reject](crate::Outbound::reject) can end the stream: it says that nothing ran,
    /// and has no place for facts.
    pub(crate) fn may_reject(&self) -> bool {
        self.pushed() == 0 && self.metadata.head().is_none() && self.metadata.facts().is_empty()
    }

    /// Returns how many items at the front of the run the credit covers, and their total bytes.
    ///
    /// # Errors
    /// The stream has ended, or what was pushed before was dropped.
    #[inline]
    pub fn takes(&self, run: &ItemRun) -> Result<(usize, usize), PushError> {
        if self.refuses() {
            return Err(PushError::Ended);
        }
        let items = self.item_limit.saturating_sub(self.pushed());
        Ok(run.within(items, self.byte_limit.saturating_sub(self.pushed_bytes)))
    }

    /// Adds the first `count` items of the run, which have `bytes` in all, as
    /// [`takes`](Self::takes) returned. Returns how many more items of their size would be taken
    /// now.
    #[inline]
    pub fn push_run(&mut self, run: &mut ItemRun, (count, bytes): (usize, usize)) -> usize {
        if count > 0 {
            self.pushed_bytes += bytes as u64;
            self.items.push_run(run.take(count, bytes), count);
        }
        if !self.is_ready() {
            return 0;
        }
        // As many as those that were pushed now, by their size.
        let of_bytes = (self.byte_limit - self.pushed_bytes) * count as u64 / bytes.max(1) as u64;
        let room = (self.item_limit - self.pushed()).min(of_bytes.max(1));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Records that the handler has begun. The next frame tells the consumer.
    pub fn accept(&mut self) {
        if self.accept == Accept::Untold {
            self.accept = Accept::Due;
        }
    }

    /// Ends the stream. A second end changes nothing. After
    /// [`discard_unsent`](Self::discard_unsent) dropped an item, a complete end counts as
    /// cancelled by the caller.
    pub fn finish(&mut self, terminal: Terminal) {
        self.terminal.get_or_insert(terminal);
        self.apply_discard();
    }

    /// Drops what is not sent yet, for a consumer that has cancelled. An item that was sent in part
    /// is dropped as a whole; the consumer drops its part with the terminal.
    ///
    /// If it dropped an item, no more items are taken, and a complete end, declared before or
    /// after, becomes cancelled for `reason`, so that the consumer does not take a part for the
    /// whole.
    pub fn discard_unsent(&mut self, reason: CancelReason) {
        let (dropped, bytes) = self.items.drop_unsent();
        if dropped > 0 {
            self.discarded.get_or_insert(reason);
        }
        self.pushed_bytes -= bytes as u64;
        // `partial` stays: what the consumer has of an item goes with the terminal, and no checkpoint
        // may come before that.
        self.head_due = false;
        self.apply_discard();
    }

    /// Drops everything that is kept, and ends the stream with `error` after what was sent. The
    /// stream cannot be resumed.
    pub fn abandon(&mut self, error: Error) {
        self.discard_unsent(CancelReason::Evicted);
        (self.items, self.metadata) = (KeptItems::default(), ResponseMetadata::new());
        (self.base, self.base_bytes) = (self.next, self.pushed_bytes);
        if !self.terminal_sent {
            self.terminal = Some(Terminal::Failed { error });
        }
    }

    fn apply_discard(&mut self) {
        if let (Some(reason), Some(Terminal::Complete { .. })) = (self.discarded, &self.terminal) {
            self.terminal = Some(Terminal::Cancelled { reason });
        }
    }

    #[inline]
    fn refuses(&self) -> bool {
        self.discarded.is_some() || self.terminal.is_some()
    }

    /// True once [`finish`](Self::finish) was called.
    pub fn is_finished(&self) -> bool {
        self.terminal.is_some()
    }

    /// Handles credit, which is also the acknowledgement. True if it had an effect: more room or an
    /// acknowledgement.
    ///
    /// # Errors
    /// The consumer claims items that were not sent.
    pub fn on_credit(&mut self, credit: Credit) -> Result<bool, StreamViolation> {
        if credit.consumed > self.next {
            return Err(StreamViolation("credit for items that were not sent"));
        }
        if credit.consumed < self.base {
            return Ok(false); // overtaken by a later one
        }
        let acknowledged = credit.consumed - self.base;
        self.base_bytes += self.items.acknowledge(acknowledged as usize) as u64;
        self.base = credit.consumed;
        if acknowledged > 0 {
            // Who has an item has the head that went before it.
            self.metadata.take_head();
        }
        let items = credit.items.min(self.limit.items);
        let bytes = credit.bytes.min(self.limit.bytes);
        let item_limit = self.base.saturating_add(items.into());
        let byte_limit = self.base_bytes.saturating_add(bytes.into());
        let brought =
            acknowledged > 0 || item_limit > self.item_limit || byte_limit > self.byte_limit;
        // Limits never go back: what was granted may be on its way already.
        self.item_limit = self.item_limit.max(item_limit);
        self.byte_limit = self.byte_limit.max(byte_limit);
        Ok(brought)
    }

    /// Handles the loss of the carrier. The stream waits for its consumer to attach again.
    pub fn on_carrier_lost(&mut self) {
        self.attached = false;
        self.partial = 0;
    }

    /// Handles an attach over a new carrier: the consumer needs the items from `next_item` on.
    ///
    /// # Errors
    /// The consumer asks for items that it has acknowledged, or that were never sent.
    pub fn on_attach(&mut self, next_item: u64, credit: Credit) -> Result<(), StreamViolation> {
        if next_item < credit.consumed {
            return Err(StreamViolation("an attach that consumed more than it received"));
        }
        if next_item > self.next {
            return Err(StreamViolation("an attach beyond what was sent"));
        }
        if next_item < self.base {
            return Err(StreamViolation("an attach behind what was acknowledged"));
        }
        self.on_credit(credit)?;
        self.next = next_item;
        self.items.resend_after((next_item - self.base) as usize);
        self.partial = 0;
        self.terminal_sent = false;
        if self.accept == Accept::Told {
            self.accept = Accept::Due;
        }
        self.head_due = next_item == 0 && self.metadata.head().is_some();
        self.metadata.resend_checkpoint();
        self.attached = true;
        Ok(())
    }

    /// True if there is something to send.
    pub fn has_output(&self) -> bool {
        // A terminal goes behind everything, and makes an accept that is still due needless.
        let untold = self.accept == Accept::Due || self.next < self.pushed() || self.head_due;
        let untold = untold || self.metadata.has_checkpoint_due(self.next);
        self.attached && !self.terminal_sent && (untold || self.terminal.is_some())
    }

    /// Puts frames of `stream` into the outbox: all small items for which there is room, or one
    /// chunk of a large item.
    pub fn poll_frame(&mut self, stream: u32, outbox: &mut Outbox) -> PollFrame {
        if !self.attached || self.terminal_sent {
            return PollFrame::Idle;
        }
        if self.head_due && !self.send_head(stream, outbox) {
            return PollFrame::More;
        }
        self.send_small_items(stream, outbox);
        if self.next < self.pushed() {
            // Before the next item begins, which it would have to wait for.
            if self.metadata.has_checkpoint_due(self.next) {
                self.send_checkpoint(stream, outbox);
            }
            if outbox.has_room() {
                self.send_chunk(stream, outbox);
            }
            if self.has_output() {
                return PollFrame::More;
            }
        }
        if self.metadata.has_checkpoint_due(self.next) && !self.send_checkpoint(stream, outbox) {
            return PollFrame::More;
        }
        if let Some(terminal) = &self.terminal {
            let items = self.base + self.items.len() as u64;
            outbox.terminal(stream, terminal, items, self.metadata.facts());
            self.terminal_sent = true;
            return PollFrame::Ended;
        }
        if self.accept == Accept::Due {
            outbox.control(Kind::Accept, stream, |_| {});
            self.accept = Accept::Told;
        }
        PollFrame::Idle
    }

    /// Sends the head. False when there is no room for it.
    #[cold]
    fn send_head(&mut self, stream: u32, outbox: &mut Outbox) -> bool {
        if !outbox.has_room() {
            return false;
        }
        if let Some(head) = self.metadata.head() {
            outbox.payload(Kind::Head, stream, b"", head.as_block());
        }
        (self.head_due, self.accept) = (false, Accept::Told);
        true
    }

    /// Sends the checkpoint that is due, unless an item is sent in part. False when there is no room
    /// for it.
    #[cold]
    fn send_checkpoint(&mut self, stream: u32, outbox: &mut Outbox) -> bool {
        if self.partial > 0 {
            return true;
        }
        if !outbox.has_room() {
            return false;
        }
        if let Some(Checkpoint { items, state }) = self.metadata.send_checkpoint(self.next) {
            outbox.payload(Kind::Checkpoint, stream, &items.to_be_bytes(), state);
            self.accept = Accept::Told;
        }
        true
    }

    /// Sends items that need no chunks, up to the first that does.
    fn send_small_items(&mut self, stream: u32, outbox: &mut Outbox) {
        if self.partial > 0 {
            return;
        }
        while let Some(KeptItem { bytes, item, after }) = self.items.unsent() {
            if item.len() > CHUNK_BYTES || !outbox.has_room() {
                break;
            }
            outbox.item(stream, bytes, item);
            self.items.sent_before(after);
            self.next += 1;
            self.accept = Accept::Told;
        }
    }

    /// Sends the next chunk of a large item.
    fn send_chunk(&mut self, stream: u32, outbox: &mut Outbox) {
        let Some(KeptItem { bytes, item, after }) = self.items.unsent() else { return };
        self.accept = Accept::Told;
        let end = item.len().min(self.partial + CHUNK_BYTES);
        let chunk = bytes.slice_ref(&item[self.partial..end]);
        if self.partial == 0 {
            let total = (item.len() as u32).to_be_bytes();
            outbox.payload(Kind::ItemBegin, stream, &total, &chunk);
        } else {
            outbox.payload(Kind::Chunk, stream, b"", &chunk);
        }
        self.partial = end;
        if end == item.len() {
            self.partial = 0;
            self.items.sent_before(after);
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests;
