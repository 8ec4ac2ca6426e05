//! Items between a transport and who takes them.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;

/// Cuts the next item off the front of a run, which is not empty, and leaves the rest. It takes
/// at least one byte from it.
pub type SplitItem = fn(&mut Bytes) -> Bytes;

/// Items in their order, each whole, or in runs as they stood in what was received.
///
/// A run is cut into items only when they are taken. So a transport puts in many at the price of
/// one, and the reference count of its buffer is touched by the thread that uses the items alone.
/// The items of a run share its buffer: whoever keeps one for long, and little of the others,
/// copies it.
#[derive(Default)]
pub struct ItemBatch {
    /// The first run. Mostly there is no other, and then there is no list.
    front: Option<Run>,
    rest: VecDeque<Run>,
}

struct Run {
    bytes: Bytes,
    /// `None` for an item.
    cut: Option<SplitItem>,
}

impl ItemBatch {
    /// A batch without items.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when no item is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.front.is_none()
    }

    /// Adds an item.
    #[inline]
    pub fn push(&mut self, item: Bytes) {
        self.add(Run { bytes: item, cut: None });
    }

    /// Adds the items that `cut` finds in `run`; an empty run has none.
    pub fn push_run(&mut self, run: Bytes, cut: SplitItem) {
        if !run.is_empty() {
            self.add(Run { bytes: run, cut: Some(cut) });
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
        let item = match run.cut {
            Some(cut) => cut(&mut run.bytes),
            None => std::mem::take(&mut run.bytes),
        };
        if run.bytes.is_empty() {
            self.front = self.rest.pop_front();
        }
        Some(item)
    }

    /// Moves all items of `other` behind those that are there. Where there are none, the two
    /// trade their buffers, so that neither has to grow again.
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

    /// Zero when there is nothing, and at most as many as there are.
    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.is_empty() { (0, Some(0)) } else { (1 + self.rest.len(), None) }
    }
}

impl fmt::Debug for ItemBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.front.iter().chain(&self.rest);
        let (count, bytes) = (runs.clone().count(), runs.map(|run| run.bytes.len()).sum::<usize>());
        f.debug_struct("ItemBatch").field("runs", &count).field("bytes", &bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte with the length, then the item.
    fn cut(run: &mut Bytes) -> Bytes {
        let len = usize::from(run.split_to(1)[0]);
        run.split_to(len)
    }

    #[test]
    fn items_come_out_in_order_whichever_way_they_went_in() {
        let mut batch = ItemBatch::new();
        batch.push(Bytes::from_static(b"first"));
        batch.push_run(Bytes::from_static(b"\x02ab\x00\x01c"), cut);
        batch.push_run(Bytes::new(), cut);
        batch.push(Bytes::new());
        let mut more = ItemBatch::new();
        more.push(Bytes::from_static(b"last"));
        batch.append(&mut more);
        assert!(more.is_empty());
        let items: Vec<Bytes> = batch.by_ref().collect();
        assert_eq!(items, ["first", "ab", "", "c", "", "last"]);
        assert!(batch.is_empty());
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
