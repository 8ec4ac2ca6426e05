//! The receiving end of one stream.

use bytes::Bytes;
use sinew_plane::{Checkpoint, Headers, ItemBatch, ResponseMetadata, Terminal, Window};

use crate::{Arrived, Items, StreamViolation, items, items::RunSize};

/// A consumer reports to its producer at the latest when it has consumed this much, however large
/// its window: less than half a window, so that a producer which keeps less than it was granted
/// is not left waiting.
pub(crate) const REPORT_AT_LATEST: Window = Window { items: 256, bytes: 64 << 10 };

/// What a consumer reports to its producer: how much it has consumed, which acknowledges those
/// items, and how much more the producer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Items consumed since the stream began.
    pub consumed: u64,
    /// Items that may be sent beyond those.
    pub items: u32,
    /// Bytes that may be sent beyond those.
    pub bytes: u32,
}

/// How a stream ended for its consumer.
#[derive(Debug, Clone)]
pub enum Ended {
    /// The producer ended it.
    Terminal(Terminal),
    /// The carrier or the producer was lost, and the stream was not attached again.
    Lost,
}

/// The receiving end of one stream. It takes items in, passes them out, grants credit, and after
/// the loss of a carrier asks for the next item that it needs.
#[derive(Debug)]
pub struct Consumer {
    window: Window,
    /// A report to the producer is due when this much was consumed.
    report_at: Window,
    queue: ItemBatch,
    /// Copies of items behind those in the queue, in frames.
    copies: Vec<u8>,
    /// Bytes of the items in both.
    queued_bytes: u64,
    /// An item began and is not whole.
    partial: bool,
    /// An item has begun, if only over a carrier that is lost.
    has_begun_item: bool,
    /// A whole item has arrived.
    has_item: bool,
    /// Items that arrived whole, and their bytes; a begun item's bytes are charged too.
    received: u64,
    charged_bytes: u64,
    /// Items handed out, and their bytes.
    taken: u64,
    taken_bytes: u64,
    /// Items consumed, and their bytes: handed out and come back for more.
    consumed: u64,
    consumed_bytes: u64,
    /// What the last report lets the producer send, cumulative.
    item_limit: u64,
    byte_limit: u64,
    /// `consumed` and its bytes at the last report to the producer.
    reported: u64,
    reported_bytes: u64,
    started: bool,
    ended: Option<Ended>,
    metadata: ResponseMetadata,
}

impl Consumer {
    /// Makes the consumer of a new stream that grants `window`.
    pub fn new(window: Window) -> Self {
        let report_at = Window {
            items: window.items.div_ceil(2).min(REPORT_AT_LATEST.items),
            bytes: window.bytes.div_ceil(2).min(REPORT_AT_LATEST.bytes),
        };
        Self {
            window,
            report_at,
            queue: ItemBatch::new(),
            copies: Vec::new(),
            queued_bytes: 0,
            partial: false,
            has_begun_item: false,
            has_item: false,
            received: 0,
            charged_bytes: 0,
            taken: 0,
            taken_bytes: 0,
            consumed: 0,
            consumed_bytes: 0,
            item_limit: window.items.into(),
            byte_limit: window.bytes.into(),
            reported: 0,
            reported_bytes: 0,
            started: false,
            ended: None,
            metadata: ResponseMetadata::new(),
        }
    }

    /// Makes the consumer of a stream that it takes over in its middle: the items before `item` count
    /// as consumed. What the consumer before it has granted is not known: up to `most` beyond that
    /// item is within the credit, however small the window. Less than 256 items or 64 KiB counts as
    /// that, because [each producer](crate::Producer::with_limit) keeps that much.
    #[must_use]
    pub fn beginning_at(mut self, item: u64, most: Window) -> Self {
        (self.received, self.taken, self.consumed, self.reported) = (item, item, item, item);
        let items = self.window.items.max(most.items).max(REPORT_AT_LATEST.items);
        let bytes = self.window.bytes.max(most.bytes).max(REPORT_AT_LATEST.bytes);
        (self.item_limit, self.byte_limit) = (item.saturating_add(items.into()), bytes.into());
        self
    }

    /// The window it grants.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Items that arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Items that were handed out.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes of the items that wait to be taken, of the head, the facts and the checkpoint.
    #[inline]
    pub fn queued_bytes(&self) -> usize {
        let items = usize::try_from(self.queued_bytes).unwrap_or(usize::MAX);
        items.saturating_add(self.metadata.bytes())
    }

    /// The head of the response once it is known; empty if an item or the end arrived first.
    /// Returns the same head until the end.
    pub fn head(&self) -> Option<Headers> {
        let is_late = self.has_item || self.has_begun_item || self.ended.is_some();
        self.metadata.head().cloned().or_else(|| is_late.then(Headers::new))
    }

    /// The facts that came with the terminal.
    pub fn facts(&self) -> &Headers {
        self.metadata.facts()
    }

    /// The newest checkpoint that has arrived.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.metadata.checkpoint()
    }

    /// True once the handler is known to have begun.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// True while an item has arrived in part.
    pub fn is_inside_item(&self) -> bool {
        self.partial
    }

    /// How the stream ended, once it has. Items may still be waiting to be taken.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// True if items wait to be taken.
    #[inline]
    pub fn has_items(&self) -> bool {
        !self.queue.is_empty() || !self.copies.is_empty()
    }

    /// Handles an accept: the handler has begun.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn on_accept(&mut self) -> Result<(), StreamViolation> {
        self.check_open()?;
        self.started = true;
        Ok(())
    }

    /// Handles the head of the response. False if it was known already, as after an attach, which
    /// sends it again.
    ///
    /// # Errors
    /// An item began before it, or the stream has ended.
    pub fn on_head(&mut self, head: Headers) -> Result<bool, StreamViolation> {
        self.check_open()?;
        // An item that began over a carrier that is lost came after a head, or there is none.
        let is_late = self.has_begun_item && self.metadata.head().is_none();
        if self.has_item || self.partial || is_late {
            return Err(StreamViolation("a head after an item"));
        }
        self.started = true;
        Ok(self.metadata.set_head(head))
    }

    /// Handles a checkpoint, which replaces an earlier one. False if it covers no more items than
    /// that, as after an attach, which sends it again.
    ///
    /// # Errors
    /// It covers items that have not arrived, it stands inside an item, or the stream has ended.
    pub fn on_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<bool, StreamViolation> {
        self.check_open()?;
        if self.partial {
            return Err(StreamViolation("a checkpoint inside an item"));
        }
        if checkpoint.items > self.received {
            return Err(StreamViolation("a checkpoint for items that have not arrived"));
        }
        self.started = true;
        Ok(self.metadata.set_checkpoint(checkpoint))
    }

    /// Handles whole items.
    ///
    /// # Errors
    /// An item arrived without credit, inside another item, or after the end. No item is taken in
    /// then.
    pub fn on_items(&mut self, items: Items) -> Result<(), StreamViolation> {
        self.charge_items(items.size)?;
        self.enqueue(items);
        Ok(())
    }

    /// As [`on_items`](Self::on_items), and copies the items, so that waiting items do not keep the
    /// read buffer, which may be far larger.
    ///
    /// # Errors
    /// As [`on_items`](Self::on_items).
    pub fn on_items_to_copy(&mut self, items: &Arrived<'_>) -> Result<(), StreamViolation> {
        self.charge_items(items.size)?;
        self.count(items.size);
        items.copy_to(&mut self.copies);
        Ok(())
    }

    fn charge_items(&mut self, size: RunSize) -> Result<(), StreamViolation> {
        let before_last = (u64::from(size.count) - 1, size.bytes_before_last() as u64);
        self.charge(before_last, size.bytes as u64)
    }

    fn count(&mut self, size: RunSize) {
        self.has_item = true;
        self.received += u64::from(size.count);
        self.queued_bytes += size.bytes as u64;
    }

    /// Handles the begin of an item of `total` bytes, which
    /// [`Inbound::assemble`](crate::Inbound::assemble) puts together.
    ///
    /// # Errors
    /// As [`on_items`](Self::on_items).
    pub fn on_item_begin(&mut self, total: usize) -> Result<(), StreamViolation> {
        self.charge((0, 0), total as u64)?;
        (self.partial, self.has_begun_item) = (true, true);
        Ok(())
    }

    /// Handles the end of the item that began.
    ///
    /// # Errors
    /// No item began.
    pub fn on_item_end(&mut self, item: Bytes) -> Result<(), StreamViolation> {
        if !std::mem::take(&mut self.partial) {
            return Err(StreamViolation("the end of an item that did not begin"));
        }
        self.enqueue(Items::one(item));
        Ok(())
    }

    /// Handles a chunk that belongs to no item.
    ///
    /// # Errors
    /// Always.
    pub fn on_chunk(&self) -> Result<(), StreamViolation> {
        Err(StreamViolation("a chunk outside an item"))
    }

    fn enqueue(&mut self, items: Items) {
        self.count(items.size);
        self.enqueue_copies();
        items.put_into(&mut self.queue);
    }

    fn enqueue_copies(&mut self) {
        if !self.copies.is_empty() {
            self.queue.push_run(std::mem::take(&mut self.copies).into(), items::split_frame);
        }
    }

    /// Handles the terminal after `items` items, with `facts`.
    ///
    /// # Errors
    /// The count differs from the items that arrived, or the stream had ended before.
    pub fn on_terminal(
        &mut self,
        terminal: Terminal,
        items: u64,
        facts: Headers,
    ) -> Result<(), StreamViolation> {
        self.check_open()?;
        if items != self.received {
            return Err(StreamViolation("an end that does not fit the items that arrived"));
        }
        let complete = matches!(terminal, Terminal::Complete { .. });
        if complete && self.partial {
            return Err(StreamViolation("a complete end inside an item"));
        }
        self.partial = false;
        self.started |= complete;
        self.metadata.set_facts(facts);
        self.ended = Some(Ended::Terminal(terminal));
        Ok(())
    }

    /// Handles the loss of the carrier. An item that arrived in part will be sent again as a whole.
    pub fn on_carrier_lost(&mut self) {
        if std::mem::take(&mut self.partial) {
            // The item was charged when it began, and will be again.
            self.charged_bytes = self.bytes_received();
        }
    }

    /// Ends the stream as lost. Changes nothing after a terminal.
    pub fn on_lost(&mut self) {
        self.on_carrier_lost();
        self.ended.get_or_insert(Ended::Lost);
    }

    /// What to send over a new carrier: the number of the next item that is needed, and the credit.
    pub fn attach(&mut self) -> (u64, Credit) {
        (self.received, self.report())
    }

    /// Drops head, facts and checkpoint, for a caller that stops reading.
    pub fn drop_metadata(&mut self) {
        self.metadata = ResponseMetadata::new();
    }

    /// Moves all items that have arrived to the end of `batch` and counts those taken before as
    /// consumed.
    #[inline]
    pub fn take(&mut self, batch: &mut ItemBatch) {
        self.consumed = self.taken;
        self.consumed_bytes = self.taken_bytes;
        if self.taken == self.received {
            return;
        }
        self.taken = self.received;
        self.taken_bytes += std::mem::take(&mut self.queued_bytes);
        self.enqueue_copies();
        batch.append(&mut self.queue);
    }

    /// Credit worth sending: since the last report to the producer, half a window was consumed, or
    /// 256 items or 64 KiB, whichever is less.
    #[inline]
    pub fn credit_due(&mut self) -> Option<Credit> {
        if self.ended.is_some() {
            return None;
        }
        let items = self.consumed - self.reported;
        let bytes = self.consumed_bytes - self.reported_bytes;
        let due = items >= self.report_at.items.into() || bytes >= self.report_at.bytes.into();
        (due && items > 0).then(|| self.report())
    }

    fn report(&mut self) -> Credit {
        self.reported = self.consumed;
        self.reported_bytes = self.consumed_bytes;
        let item_limit = self.consumed.saturating_add(self.window.items.into());
        let byte_limit = self.consumed_bytes + u64::from(self.window.bytes);
        self.item_limit = self.item_limit.max(item_limit);
        self.byte_limit = self.byte_limit.max(byte_limit);
        Credit { consumed: self.consumed, items: self.window.items, bytes: self.window.bytes }
    }

    fn bytes_received(&self) -> u64 {
        self.taken_bytes + self.queued_bytes
    }

    fn check_open(&self) -> Result<(), StreamViolation> {
        if self.ended.is_some() {
            return Err(StreamViolation("a frame after the end of its stream"));
        }
        Ok(())
    }

    /// Charges items of `bytes` in all. The last may begin while credit is left behind the items
    /// and bytes `before_last`, and so may those before it, which need less.
    fn charge(&mut self, before_last: (u64, u64), bytes: u64) -> Result<(), StreamViolation> {
        self.check_open()?;
        if self.partial {
            return Err(StreamViolation("an item inside another"));
        }
        let (items_before, bytes_before) = before_last;
        let in_items = self.received + items_before < self.item_limit;
        let in_bytes = self.charged_bytes + bytes_before < self.byte_limit;
        if !(in_items && in_bytes) {
            return Err(StreamViolation("an item without credit"));
        }
        self.charged_bytes += bytes;
        self.started = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
