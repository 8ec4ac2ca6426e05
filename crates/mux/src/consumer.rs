//! The receiving end of one stream.

use bytes::Bytes;
use sinew_plane::{ItemBatch, Terminal, Window};

use crate::{Arrived, Items, StreamViolation, items, items::RunSize};

/// A consumer reports to its producer at the latest when it has consumed this much, however large
/// its window: less than half a window, so that a producer which keeps less than it was granted
/// is not left waiting.
pub(crate) const REPORT_AT_LATEST: Window = Window { items: 256, bytes: 64 << 10 };

/// What a consumer reports to its producer: how much it has consumed, which acknowledges it, and how
/// much may come beyond that.
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
    /// Its carrier or its producer was lost and it did not come back.
    Lost,
}

/// The receiving end of one stream: takes the items in, hands them out, grants credit, and
/// knows where to go on after the loss of a carrier.
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
}

impl Consumer {
    /// The consumer of a new stream that grants `window`.
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
        }
    }

    /// The window it grants.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Items that arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the items that wait to be taken.
    #[inline]
    pub fn queued_bytes(&self) -> usize {
        usize::try_from(self.queued_bytes).unwrap_or(usize::MAX)
    }

    /// True once it is known that the handler has begun.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// True while an item has begun and is not whole.
    pub fn is_inside_item(&self) -> bool {
        self.partial
    }

    /// How the stream ended, once it has. Items may still be waiting to be taken.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// True when items wait to be taken.
    #[inline]
    pub fn has_items(&self) -> bool {
        !self.queue.is_empty() || !self.copies.is_empty()
    }

    /// The handler has begun.
    ///
    /// # Errors
    /// The stream has ended.
    pub fn on_accept(&mut self) -> Result<(), StreamViolation> {
        self.check_open()?;
        self.started = true;
        Ok(())
    }

    /// Whole items arrived.
    ///
    /// # Errors
    /// One of them came without credit, or they came inside another item, or after the end. None
    /// is taken in then.
    pub fn on_items(&mut self, items: Items) -> Result<(), StreamViolation> {
        self.charge_items(items.size)?;
        self.enqueue(items);
        Ok(())
    }

    /// As [`on_items`](Self::on_items), and keeps copies: for items that wait while the buffer
    /// they arrived in, which may be far larger, could be let go of.
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
        self.received += u64::from(size.count);
        self.queued_bytes += size.bytes as u64;
    }

    /// An item of `total` bytes began; [`Inbound::assemble`](crate::Inbound::assemble) puts it
    /// together.
    ///
    /// # Errors
    /// As [`on_items`](Self::on_items).
    pub fn on_item_begin(&mut self, total: usize) -> Result<(), StreamViolation> {
        self.charge((0, 0), total as u64)?;
        self.partial = true;
        Ok(())
    }

    /// The item that began is whole.
    ///
    /// # Errors
    /// None began.
    pub fn on_item_end(&mut self, item: Bytes) -> Result<(), StreamViolation> {
        if !std::mem::take(&mut self.partial) {
            return Err(StreamViolation("the end of an item that did not begin"));
        }
        self.enqueue(Items::one(item));
        Ok(())
    }

    /// A chunk came that belongs to no item.
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
            self.queue.push_run(std::mem::take(&mut self.copies).into(), items::take_item);
        }
    }

    /// The producer ended the stream after `items` items.
    ///
    /// # Errors
    /// The count does not fit what arrived, or there was an end before.
    pub fn on_terminal(&mut self, terminal: Terminal, items: u64) -> Result<(), StreamViolation> {
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
        self.ended = Some(Ended::Terminal(terminal));
        Ok(())
    }

    /// The carrier is gone: what arrived in part will come again as a whole.
    pub fn on_carrier_lost(&mut self) {
        if std::mem::take(&mut self.partial) {
            // The item was charged when it began, and will be again.
            self.charged_bytes = self.bytes_received();
        }
    }

    /// The stream will not come back. Changes nothing after a terminal.
    pub fn on_lost(&mut self) {
        self.on_carrier_lost();
        self.ended.get_or_insert(Ended::Lost);
    }

    /// What to say over a new carrier: the item that is needed next, and the credit.
    pub fn attach(&mut self) -> (u64, Credit) {
        (self.received, self.report())
    }

    /// Moves all items that are there to the back of `batch` and counts the ones taken before
    /// as consumed.
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
        self.item_limit = self.consumed + u64::from(self.window.items);
        self.byte_limit = self.consumed_bytes + u64::from(self.window.bytes);
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
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::FRAME_HEADER_BYTES;

    const WINDOW: Window = Window { items: 4, bytes: 100 };

    fn item(len: usize) -> Items {
        Items::one(vec![b'x'; len].into())
    }

    fn take(consumer: &mut Consumer) -> usize {
        let mut batch = ItemBatch::new();
        consumer.take(&mut batch);
        batch.count()
    }

    #[test]
    fn credit_is_due_after_half_a_window() {
        let mut consumer = Consumer::new(WINDOW);
        consumer.on_items(item(1)).unwrap();
        consumer.on_items(item(1)).unwrap();
        assert_eq!(take(&mut consumer), 2);
        assert_eq!(consumer.credit_due(), None, "taken is not yet consumed");
        assert_eq!(take(&mut consumer), 0);
        assert_eq!(consumer.credit_due(), Some(Credit { consumed: 2, items: 4, bytes: 100 }));
        assert_eq!(consumer.credit_due(), None);
    }

    #[test]
    fn a_large_window_is_told_of_before_its_half() {
        let mut consumer = Consumer::new(Window { items: 1 << 20, bytes: 1 << 30 });
        for _ in 0..REPORT_AT_LATEST.items {
            assert_eq!(consumer.credit_due(), None);
            consumer.on_items(item(1)).unwrap();
            take(&mut consumer);
        }
        take(&mut consumer);
        assert_eq!(consumer.credit_due().unwrap().consumed, REPORT_AT_LATEST.items.into());
        consumer.on_items(item(REPORT_AT_LATEST.bytes as usize)).unwrap();
        take(&mut consumer);
        take(&mut consumer);
        assert!(consumer.credit_due().is_some());
    }

    #[test]
    fn items_without_credit_are_told() {
        let mut by_items = Consumer::new(WINDOW);
        for _ in 0..4 {
            by_items.on_items(item(1)).unwrap();
        }
        assert!(by_items.on_items(item(1)).is_err());
        let mut by_bytes = Consumer::new(WINDOW);
        by_bytes.on_item_begin(1_000).unwrap();
        by_bytes.on_item_end(vec![0; 1_000].into()).unwrap();
        assert!(by_bytes.on_items(item(0)).is_err());
    }

    #[test]
    fn copies_stay_in_line() {
        let mut consumer = Consumer::new(Window { items: 9, bytes: 100 });
        let copied = |consumer: &mut Consumer, frame: &'static [u8]| {
            let frames = Bytes::from_static(frame);
            let (range, mut size) = (0..frame.len(), RunSize::default());
            size.add(frame.len() - FRAME_HEADER_BYTES);
            let arrived = Arrived { stream: 1, frames: &frames, range, checked: false, size };
            consumer.on_items_to_copy(&arrived).unwrap();
        };
        consumer.on_items(Items::one("a".into())).unwrap();
        copied(&mut consumer, b"\0\0\x01\x04\0\0\0\x01b");
        copied(&mut consumer, b"\0\0\0\x04\0\0\0\x01");
        consumer.on_items(Items::one("c".into())).unwrap();
        copied(&mut consumer, b"\0\0\x01\x04\0\0\0\x01d");
        let mut batch = ItemBatch::new();
        consumer.take(&mut batch);
        assert!(batch.eq(["a", "b", "", "c", "d"]));
        assert!(!consumer.has_items());
    }

    #[test]
    fn ends_must_fit() {
        let mut consumer = Consumer::new(WINDOW);
        consumer.on_items(item(1)).unwrap();
        assert!(consumer.on_terminal(Terminal::Complete { items: 2 }, 2).is_err());
        consumer.on_item_begin(10).unwrap();
        assert!(consumer.on_terminal(Terminal::Complete { items: 1 }, 1).is_err());
        let reason = sinew_plane::CancelReason::Caller;
        consumer.on_terminal(Terminal::Cancelled { reason }, 1).unwrap();
        assert!(consumer.on_items(item(1)).is_err());
        assert!(consumer.on_terminal(Terminal::Complete { items: 1 }, 1).is_err());
        consumer.on_lost();
        assert!(matches!(consumer.ended(), Some(Ended::Terminal(_))), "the first end stays");
    }

    #[test]
    fn a_lost_carrier_takes_the_begun_item_back() {
        let mut consumer = Consumer::new(WINDOW);
        consumer.on_items(item(5)).unwrap();
        consumer.on_item_begin(60).unwrap();
        consumer.on_carrier_lost();
        let (next_item, credit) = consumer.attach();
        assert_eq!((next_item, credit.consumed), (1, 0));
        consumer.on_item_begin(60).unwrap();
        consumer.on_item_end(vec![0; 60].into()).unwrap();
        // 65 of 100 bytes are used; charged twice, the item would leave none.
        consumer.on_items(item(1)).unwrap();
        assert_eq!(consumer.received(), 3);
    }
}
