//! A run: items that are sent together.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{ItemBatch, SplitItem, batch::FirstItem};

/// Before each item stands its length, in four bytes, big-endian.
const LENGTH_BYTES: usize = 4;

/// A run without room for so many more bytes has no [room](ItemRun::has_room): a new buffer is
/// cheaper than to grow the old one, and small items never move.
const MIN_ROOM: usize = 256;

/// Room for the first item, so that a single small answer does not pay for a stream.
const FIRST_BUFFER: usize = 512;

/// Room of the buffers that follow.
const BUFFER: usize = 4 << 10;

/// Items of one response, in order, written one after the other into one buffer.
///
/// A [`ResponseSink`](crate::ResponseSink) takes them as one
/// ([`try_send_run`](crate::ResponseSink::try_send_run)), so that many small items cost their
/// transport no more steps than one. Each item stays an item of its own: it is numbered, counted
/// against the window and acknowledged as if it had been sent by itself.
#[derive(Default)]
pub struct ItemRun {
    buffer: BytesMut,
    count: usize,
    /// Bytes of the items, without their lengths.
    bytes: usize,
    largest: usize,
    /// Later buffers are larger than the first.
    used: bool,
}

impl ItemRun {
    /// Makes an empty run, without a buffer yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if no item is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many items there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all items together.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of the largest item that was added since the run was last empty.
    #[inline]
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// True while the buffer has room for another small item.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.buffer.capacity() - self.buffer.len() >= MIN_ROOM
    }

    /// Adds a copy of an item, which is smaller than 4 GiB.
    pub fn push(&mut self, item: &[u8]) {
        let start = self.begin();
        self.buffer.put_slice(item);
        self.end(start);
    }

    /// Adds the item that `write` appends to the buffer, and returns its length, which is under 4
    /// GiB.
    ///
    /// # Errors
    /// The error of `write`; the run is then unchanged.
    #[inline]
    pub fn write<E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<usize, E> {
        let start = self.begin();
        if let Err(error) = write(&mut self.buffer) {
            self.buffer.truncate(start);
            return Err(error);
        }
        Ok(self.end(start))
    }

    fn begin(&mut self) -> usize {
        if self.count == 0 && !self.has_room() {
            let room = if self.used { BUFFER } else { FIRST_BUFFER };
            (self.buffer, self.used) = (BytesMut::with_capacity(room), true);
        }
        let start = self.buffer.len();
        self.buffer.put_slice(&[0; LENGTH_BYTES]);
        start
    }

    fn end(&mut self, start: usize) -> usize {
        let len = self.buffer.len() - start - LENGTH_BYTES;
        // Frames and messages have lower limits by far.
        let prefix = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
        self.buffer[start..start + LENGTH_BYTES].copy_from_slice(&prefix);
        self.count += 1;
        self.bytes += len;
        self.largest = self.largest.max(len);
        len
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<Bytes> {
        let first = (self.count > 0).then(|| first_item(&self.buffer))?;
        let mut item = self.buffer.split_to(first.next).freeze();
        item.advance(first.start);
        self.taken(1, item.len());
        Some(item)
    }

    /// Puts an item back that [`pop`](Self::pop) has taken. It copies the rest of the run, so use
    /// it only in the rare case that there is no credit for the item.
    pub fn put_back(&mut self, item: &[u8]) {
        let rest = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(item.len()));
        let (count, bytes) = (self.count, self.bytes);
        self.push(item);
        self.buffer.extend_from_slice(&rest);
        (self.count, self.bytes) = (count + 1, bytes + item.len());
    }

    /// How many items at the front this credit covers, and their bytes: at most `items` items, each
    /// only while those before it have fewer than `bytes` bytes.
    #[inline]
    pub fn within(&self, items: u64, bytes: u64) -> (usize, usize) {
        if self.count as u64 <= items && (self.bytes as u64) < bytes {
            return (self.count, self.bytes);
        }
        let (mut count, mut taken, mut at) = (0, 0, 0);
        while count < self.count && (count as u64) < items && (taken as u64) < bytes {
            let first = first_item(&self.buffer[at..]);
            taken += first.end - first.start;
            (count, at) = (count + 1, at + first.next);
        }
        (count, taken)
    }

    /// Takes the first `count` items, which have `bytes` in all, as [`within`](Self::within)
    /// returned, in the form that [`split_run`] splits.
    #[inline]
    pub fn take(&mut self, count: usize, bytes: usize) -> Bytes {
        let run = self.buffer.split_to(bytes + count * LENGTH_BYTES).freeze();
        self.taken(count, bytes);
        run
    }

    /// Moves all items to the end of `batch`.
    pub fn move_into(&mut self, batch: &mut ItemBatch) {
        let run = self.take(self.count, self.bytes);
        batch.push_run(run, split_run as SplitItem);
    }

    #[inline]
    fn taken(&mut self, count: usize, bytes: usize) {
        self.count -= count;
        self.bytes -= bytes;
        if self.count == 0 {
            self.largest = 0;
        }
    }
}

/// Finds the first item in the bytes that [`ItemRun::take`] returned, or in the rest of them.
#[inline]
pub fn split_run(run: &[u8]) -> FirstItem {
    first_item(run)
}

#[inline]
fn first_item(run: &[u8]) -> FirstItem {
    let Some(length) = run.first_chunk() else { return FirstItem::whole(run.len()) };
    let end = LENGTH_BYTES + u32::from_be_bytes(*length) as usize;
    FirstItem { start: LENGTH_BYTES, end, next: end }
}

impl fmt::Debug for ItemRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemRun").field("count", &self.count).field("bytes", &self.bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(items: &[&str]) -> ItemRun {
        let mut run = ItemRun::new();
        items.iter().for_each(|item| run.push(item.as_bytes()));
        run
    }

    #[test]
    fn items_come_out_in_order() {
        let mut run = run(&["a", "", "bcd"]);
        assert_eq!((run.count(), run.bytes(), run.largest()), (3, 4, 3));
        assert_eq!(run.pop().unwrap(), "a");
        run.push(b"e");
        let mut batch = ItemBatch::new();
        run.move_into(&mut batch);
        assert!(batch.eq(["", "bcd", "e"]));
        assert!(run.is_empty() && run.pop().is_none());
        assert_eq!((run.bytes(), run.largest()), (0, 0));
    }

    #[test]
    fn an_item_that_could_not_be_written_leaves_nothing() {
        let mut run = run(&["a"]);
        let failed = run.write(|out| {
            out.put_slice(b"half");
            Err::<(), _>("no")
        });
        assert_eq!(failed, Err("no"));
        let written = run.write(|out| {
            out.put_slice(b"bc");
            Ok::<_, ()>(())
        });
        assert_eq!(written, Ok(2));
        assert_eq!((run.pop().unwrap(), run.pop().unwrap()), ("a".into(), "bc".into()));
    }

    #[test]
    fn credit_bounds_what_is_taken() {
        let mut run = run(&["aa", "bb", "cc"]);
        for (items, bytes, expected) in
            [(9, 9, (3, 6)), (2, 9, (2, 4)), (9, 3, (2, 4)), (9, 2, (1, 2)), (0, 9, (0, 0))]
        {
            assert_eq!(run.within(items, bytes), expected, "{items} items, {bytes} bytes");
        }
        assert_eq!(run.within(9, 0), (0, 0));
        let taken = run.take(2, 4);
        let mut batch = ItemBatch::new();
        batch.push_run(taken, split_run);
        assert!(batch.eq(["aa", "bb"]));
        assert_eq!(run.pop().unwrap(), "cc");
    }

    #[test]
    fn an_item_that_was_put_back_is_first_again() {
        let mut run = run(&["a", "b"]);
        let first = run.pop().unwrap();
        run.put_back(&first);
        assert_eq!((run.count(), run.bytes()), (2, 2));
        assert_eq!((run.pop().unwrap(), run.pop().unwrap()), (first, "b".into()));
    }
}
