//! Batches of items that a transport passes to their reader.

use std::{collections::VecDeque, fmt};

use bytes::{Buf, Bytes};

/// The position of the first item in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstItem {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// The position of the next item of the run: at least 1, and after the last item the length of
    /// the run.
    pub next: usize,
}

impl FirstItem {
    /// The whole of a run of `bytes` bytes, as one item.
    pub fn whole(bytes: usize) -> Self {
        Self { start: 0, end: bytes, next: bytes }
    }
}

/// A function that finds the first item of a run, or of the rest of a run. The run is not empty.
pub type SplitItem = fn(&[u8]) -> FirstItem;

/// Items in order, each on its own or in runs as they were received.
///
/// A run is split only when its items are taken. So a transport adds many items at the cost of one,
/// and [`next_slice`](Self::next_slice) reads them without a change of the reference count of their
/// buffer. Items that are taken as [`Bytes`] share this buffer: copy an item that is kept much
/// longer than the others.
#[derive(Default)]
pub struct ItemBatch {
    /// The first run. Mostly there is no other, and then there is no list.
    front: Option<Run>,
    rest: VecDeque<Run>,
    /// The run whose last item is being read.
    read: Bytes,
}

struct Run {
    bytes: Bytes,
    /// Bytes of it that are taken.
    at: usize,
    /// `None` for an item.
    split: Option<SplitItem>,
}

impl Run {
    #[inline]
    fn first(&self) -> FirstItem {
        match self.split {
            Some(split) => split(&self.bytes[self.at..]),
            None => FirstItem::whole(self.bytes.len()),
        }
    }
}

impl ItemBatch {
    /// Makes an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if no item is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    /// Adds an item.
    #[inline]
    pub fn push(&mut self, item: Bytes) {
        self.add(Run { bytes: item, at: 0, split: None });
    }

    /// Adds the items that `split` finds in `run`; an empty run has none.
    pub fn push_run(&mut self, run: Bytes, split: SplitItem) {
        if !run.is_empty() {
            self.add(Run { bytes: run, at: 0, split: Some(split) });
        }
    }

    #[inline]
    fn add(&mut self, run: Run) {
        if self.front.is_none() {
            self.front = Some(run);
        } else {
            self.rest.push_back(run);
        }
    }

    /// Takes the first item.
    #[inline]
    pub fn pop(&mut self) -> Option<Bytes> {
        let run = self.front.as_mut()?;
        let Some(split) = run.split else {
            let item = std::mem::take(&mut run.bytes);
            self.front = self.rest.pop_front();
            return Some(item);
        };
        let first = split(&run.bytes[run.at..]);
        let (start, end) = (run.at + first.start, run.at + first.end);
        run.at += first.next;
        if run.at < run.bytes.len() {
            return Some(run.bytes.slice(start..end));
        }
        // The last one: what holds the buffer passes to it.
        let mut item = std::mem::take(&mut run.bytes);
        self.front = self.rest.pop_front();
        item.truncate(end);
        item.advance(start);
        Some(item)
    }

    /// Takes the first item as a slice of its buffer. `None` also releases the buffer of the item
    /// before.
    #[inline]
    pub fn next_slice(&mut self) -> Option<&[u8]> {
        let Some(run) = &mut self.front else {
            self.read = Bytes::new();
            return None;
        };
        let first = run.first();
        let item = run.at + first.start..run.at + first.end;
        run.at += first.next;
        if run.at < run.bytes.len() {
            return self.front.as_ref().map(|run| &run.bytes[item]);
        }
        self.read = std::mem::take(&mut run.bytes);
        self.front = self.rest.pop_front();
        Some(&self.read[item])
    }

    /// Moves all items of `other` to the end. If this batch is empty, the two swap their buffers,
    /// so that neither has to grow again.
    #[inline]
    pub fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
        } else {
            self.rest.extend(other.front.take());
            self.rest.append(&mut other.rest);
        }
    }
}

impl Iterator for ItemBatch {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.pop()
    }

    /// The lower bound is the number of runs, each of which has at least one item.
    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.is_empty() { (0, Some(0)) } else { (1 + self.rest.len(), None) }
    }
}

impl fmt::Debug for ItemBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.front.iter().chain(&self.rest);
        let (count, bytes) =
            (runs.clone().count(), runs.map(|run| run.bytes.len() - run.at).sum::<usize>());
        f.debug_struct("ItemBatch").field("runs", &count).field("bytes", &bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte with the length, then the item, then a byte of no meaning.
    fn split(run: &[u8]) -> FirstItem {
        let end = 1 + usize::from(run[0]);
        FirstItem { start: 1, end, next: end + 1 }
    }

    fn mixed() -> ItemBatch {
        let mut batch = ItemBatch::new();
        batch.push(Bytes::from_static(b"first"));
        batch.push_run(Bytes::from_static(b"\x02ab-\x00-\x01c-"), split);
        batch.push_run(Bytes::new(), split);
        batch.push(Bytes::new());
        let mut more = ItemBatch::new();
        more.push(Bytes::from_static(b"last"));
        batch.append(&mut more);
        assert!(more.is_empty());
        batch
    }

    const MIXED: [&str; 6] = ["first", "ab", "", "c", "", "last"];

    #[test]
    fn items_come_out_in_order_whichever_way_they_went_in() {
        let mut batch = mixed();
        let items: Vec<Bytes> = batch.by_ref().collect();
        assert_eq!(items, MIXED);
        assert!(batch.is_empty());
    }

    #[test]
    fn items_are_read_where_they_stand() {
        let mut batch = mixed();
        for item in MIXED {
            assert_eq!(batch.next_slice(), Some(item.as_bytes()));
        }
        assert_eq!(batch.next_slice(), None);
        let mut batch = mixed();
        for pair in MIXED.chunks(2) {
            assert_eq!(batch.next_slice(), Some(pair[0].as_bytes()));
            assert_eq!(batch.pop().unwrap(), pair[1]);
        }
    }

    #[test]
    fn a_buffer_is_let_go_of_with_its_last_item() {
        let buffer = Bytes::from(b"\x01a-".to_vec());
        let mut batch = ItemBatch::new();
        batch.push_run(buffer.clone(), split);
        assert_eq!(batch.next_slice(), Some(&b"a"[..]));
        assert_eq!(batch.next_slice(), None);
        assert!(buffer.is_unique());
    }

    #[test]
    fn an_empty_batch_takes_the_buffer_of_the_other() {
        let mut full = ItemBatch::new();
        full.push(Bytes::from_static(b"x"));
        let mut empty = ItemBatch::new();
        empty.append(&mut full);
        assert_eq!((empty.pop().as_deref(), full.pop()), (Some(&b"x"[..]), None));
    }
}
