//! The receiving end of one stream.

use std::collections::VecDeque;

use bytes::Bytes;
use sinew_plane::{Terminal, Window};

use crate::{StreamViolation, assembly::Assembly};

/// A consumer tells its producer at the latest when it has consumed this much, however large
/// its window: less than half a window, so that a producer which keeps less than it was granted
/// is not left waiting.
pub(crate) const TELL_AT_LATEST: Window = Window { items: 256, bytes: 64 << 10 };

/// What a consumer tells its producer: how much it has consumed, which acknowledges it, and how
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
    queue: VecDeque<Bytes>,
    /// Bytes of the items in the queue.
    queued_bytes: u64,
    assembly: Option<Assembly>,
    /// Items that arrived whole, and their bytes; a begun item's bytes are charged too.
    received: u64,
    charged_bytes: u64,
    /// Items handed out, and their bytes.
    taken: u64,
    taken_bytes: u64,
    /// Items consumed, and their bytes: handed out and come back for more.
    consumed: u64,
    consumed_bytes: u64,
    /// What the producer was last told it may send, cumulative.
    item_limit: u64,
    byte_limit: u64,
    /// `consumed` and its bytes when the producer was last told.
    told: u64,
    told_bytes: u64,
    started: bool,
    ended: Option<Ended>,
}

impl Consumer {
    /// The consumer of a new stream that grants `window`.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            queue: VecDeque::new(),
            queued_bytes: 0,
            assembly: None,
            received: 0,
            charged_bytes: 0,
            taken: 0,
            taken_bytes: 0,
            consumed: 0,
            consumed_bytes: 0,
            item_limit: window.items.into(),
            byte_limit: window.bytes.into(),
            told: 0,
            told_bytes: 0,
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

    /// True once it is known that the handler has begun.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// How the stream ended, once it has. Items may still be waiting to be taken.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// True when items wait to be taken.
    pub fn has_items(&self) -> bool {
        !self.queue.is_empty()
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

    /// A whole item arrived.
    ///
    /// # Errors
    /// It came without credit, inside another item, or after the end.
    pub fn on_item(&mut self, item: Bytes) -> Result<(), StreamViolation> {
        self.charge(item.len())?;
        self.enqueue(item);
        Ok(())
    }

    /// An item of `total` bytes began.
    ///
    /// # Errors
    /// As [`on_item`](Self::on_item), or the lengths do not fit.
    pub fn on_item_begin(&mut self, total: usize, chunk: &[u8]) -> Result<(), StreamViolation> {
        self.charge(total)?;
        self.assembly = Some(Assembly::begin(total, chunk)?);
        Ok(())
    }

    /// More of the item that began.
    ///
    /// # Errors
    /// No item began, or the chunk does not fit it.
    pub fn on_chunk(&mut self, chunk: &[u8]) -> Result<(), StreamViolation> {
        let Some(assembly) = &mut self.assembly else {
            return Err(StreamViolation("a chunk outside an item"));
        };
        if let Some(item) = assembly.push(chunk)? {
            self.assembly = None;
            self.enqueue(item);
        }
        Ok(())
    }

    fn enqueue(&mut self, item: Bytes) {
        self.received += 1;
        self.queued_bytes += item.len() as u64;
        self.queue.push_back(item);
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
        if complete && self.assembly.is_some() {
            return Err(StreamViolation("a complete end inside an item"));
        }
        self.assembly = None;
        self.started |= complete;
        self.ended = Some(Ended::Terminal(terminal));
        Ok(())
    }

    /// The carrier is gone: what arrived in part will come again as a whole.
    pub fn on_carrier_lost(&mut self) {
        if self.assembly.take().is_some() {
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
        (self.received, self.tell())
    }

    /// Moves all items that are there to the back of `batch` and counts the ones taken before
    /// as consumed.
    pub fn take(&mut self, batch: &mut VecDeque<Bytes>) {
        self.consumed = self.taken;
        self.consumed_bytes = self.taken_bytes;
        self.taken = self.received;
        self.taken_bytes += std::mem::take(&mut self.queued_bytes);
        if batch.is_empty() {
            std::mem::swap(batch, &mut self.queue);
        } else {
            batch.append(&mut self.queue);
        }
    }

    /// Credit worth sending: since the producer was last told, half a window was consumed, or
    /// 256 items or 64 KiB, whichever is less.
    pub fn credit_due(&mut self) -> Option<Credit> {
        if self.ended.is_some() {
            return None;
        }
        let items = self.consumed - self.told;
        let bytes = self.consumed_bytes - self.told_bytes;
        let due = items >= self.window.items.div_ceil(2).min(TELL_AT_LATEST.items).into()
            || bytes >= self.window.bytes.div_ceil(2).min(TELL_AT_LATEST.bytes).into();
        (due && items > 0).then(|| self.tell())
    }

    fn tell(&mut self) -> Credit {
        self.told = self.consumed;
        self.told_bytes = self.consumed_bytes;
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

    fn charge(&mut self, len: usize) -> Result<(), StreamViolation> {
        self.check_open()?;
        if self.assembly.is_some() {
            return Err(StreamViolation("an item inside another"));
        }
        if self.received >= self.item_limit || self.charged_bytes >= self.byte_limit {
            return Err(StreamViolation("an item without credit"));
        }
        self.charged_bytes += len as u64;
        self.started = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { items: 4, bytes: 100 };

    fn item(len: usize) -> Bytes {
        Bytes::from(vec![b'x'; len])
    }

    fn take(consumer: &mut Consumer) -> usize {
        let mut batch = VecDeque::new();
        consumer.take(&mut batch);
        batch.len()
    }

    #[test]
    fn credit_is_due_after_half_a_window() {
        let mut consumer = Consumer::new(WINDOW);
        consumer.on_item(item(1)).unwrap();
        consumer.on_item(item(1)).unwrap();
        assert_eq!(take(&mut consumer), 2);
        assert_eq!(consumer.credit_due(), None, "taken is not yet consumed");
        assert_eq!(take(&mut consumer), 0);
        assert_eq!(consumer.credit_due(), Some(Credit { consumed: 2, items: 4, bytes: 100 }));
        assert_eq!(consumer.credit_due(), None);
    }

    #[test]
    fn a_large_window_is_told_of_before_its_half() {
        let mut consumer = Consumer::new(Window { items: 1 << 20, bytes: 1 << 30 });
        for _ in 0..TELL_AT_LATEST.items {
            assert_eq!(consumer.credit_due(), None);
            consumer.on_item(item(1)).unwrap();
            take(&mut consumer);
        }
        take(&mut consumer);
        assert_eq!(consumer.credit_due().unwrap().consumed, TELL_AT_LATEST.items.into());
        consumer.on_item(item(TELL_AT_LATEST.bytes as usize)).unwrap();
        take(&mut consumer);
        take(&mut consumer);
        assert!(consumer.credit_due().is_some());
    }

    #[test]
    fn items_without_credit_are_told() {
        let mut by_items = Consumer::new(WINDOW);
        for _ in 0..4 {
            by_items.on_item(item(1)).unwrap();
        }
        assert!(by_items.on_item(item(1)).is_err());
        let mut by_bytes = Consumer::new(WINDOW);
        by_bytes.on_item_begin(1_000, &[0; 10]).unwrap();
        by_bytes.on_chunk(&[0; 990]).unwrap();
        assert!(by_bytes.on_item(item(0)).is_err());
    }

    #[test]
    fn ends_must_fit() {
        let mut consumer = Consumer::new(WINDOW);
        consumer.on_item(item(1)).unwrap();
        assert!(consumer.on_terminal(Terminal::Complete { items: 2 }, 2).is_err());
        consumer.on_item_begin(10, b"abc").unwrap();
        assert!(consumer.on_terminal(Terminal::Complete { items: 1 }, 1).is_err());
        let reason = sinew_plane::CancelReason::Caller;
        consumer.on_terminal(Terminal::Cancelled { reason }, 1).unwrap();
        assert!(consumer.on_item(item(1)).is_err());
        assert!(consumer.on_terminal(Terminal::Complete { items: 1 }, 1).is_err());
        consumer.on_lost();
        assert!(matches!(consumer.ended(), Some(Ended::Terminal(_))), "the first end stays");
    }

    #[test]
    fn a_lost_carrier_takes_the_begun_item_back() {
        let mut consumer = Consumer::new(WINDOW);
        consumer.on_item(item(5)).unwrap();
        consumer.on_item_begin(60, &[0; 30]).unwrap();
        consumer.on_carrier_lost();
        let (next_item, credit) = consumer.attach();
        assert_eq!((next_item, credit.consumed), (1, 0));
        consumer.on_item_begin(60, &[0; 30]).unwrap();
        consumer.on_chunk(&[0; 30]).unwrap();
        // 65 of 100 bytes are used; charged twice, the item would leave none.
        consumer.on_item(item(1)).unwrap();
        assert_eq!(consumer.received(), 3);
    }
}
