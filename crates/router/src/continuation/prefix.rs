//! What the caller has of a response, so that a second run can be compared with it.

use std::collections::VecDeque;

use bytes::Bytes;
use sinew_plane::Checkpoint;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Of how many of the newest items the hash is kept by itself: 1 KiB for each stream. A worker sends a
/// checkpoint at most one run of 64 items after the item that it belongs to.
const RECENT: usize = 128;

/// The items that the caller has: their number, and a running hash of them. The hash after an item is
/// the XXH3 of its encoded bytes with the hash before it as the seed, so it covers the length and the
/// order of all items.
#[derive(Debug)]
pub(super) struct Prefix {
    items: u64,
    /// The hashes after the newest items, oldest first; the last one is that of all items.
    recent: VecDeque<u64>,
    /// Where a run begins that goes on from the newest checkpoint.
    begin: Begin,
}

/// Where a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Begin {
    /// The number of its first item.
    pub(super) at: u64,
    /// The hash of the items before.
    hash: u64,
    /// The handler's state after them; `None` at the beginning of the response.
    pub(super) state: Option<Bytes>,
}

/// The items of a run so far.
#[derive(Debug)]
pub(super) struct Run {
    /// The number of its next item.
    pub(super) at: u64,
    hash: u64,
}

impl Prefix {
    pub(super) fn new() -> Self {
        Self { items: 0, recent: [0].into(), begin: Begin::default() }
    }

    /// How many items the caller has.
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// Where the next run begins.
    pub(super) fn begin(&self) -> &Begin {
        &self.begin
    }

    /// The hash after the first `items` items, if it is kept.
    fn hash_after(&self, items: u64) -> Option<u64> {
        let back = usize::try_from(self.items.checked_sub(items)?).ok()?;
        let place = self.recent.len().checked_sub(1 + back)?;
        self.recent.get(place).copied()
    }

    /// Keeps a checkpoint, if it is newer than the last one and the items that it covers are known.
    /// Its number of items counts from the beginning of the response.
    pub(super) fn keep(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { items, state } = checkpoint;
        let is_newer = self.begin.state.is_none() || items > self.begin.at;
        if let Some(hash) = self.hash_after(items).filter(|_| is_newer) {
            self.begin = Begin { at: items, hash, state: Some(state) };
        }
    }
}

impl Run {
    pub(super) fn new(begin: &Begin) -> Self {
        Self { at: begin.at, hash: begin.hash }
    }

    /// True while the caller has the next item already.
    pub(super) fn is_behind(&self, prefix: &Prefix) -> bool {
        self.at < prefix.items
    }

    /// Adds an item that the caller has.
    ///
    /// # Errors
    /// It is known to differ from that of the caller, or one before it is.
    pub(super) fn repeat(&mut self, item: &[u8], prefix: &Prefix) -> Result<(), Differs> {
        self.add(item);
        match prefix.hash_after(self.at) {
            Some(hash) if hash != self.hash => Err(Differs),
            _ => Ok(()),
        }
    }

    /// Adds an item that is new to the caller.
    pub(super) fn go_on(&mut self, item: &[u8], prefix: &mut Prefix) {
        self.add(item);
        if prefix.recent.len() > RECENT {
            prefix.recent.pop_front();
        }
        prefix.recent.push_back(self.hash);
        prefix.items = self.at;
    }

    fn add(&mut self, item: &[u8]) {
        self.hash = xxh3_64_with_seed(item, self.hash);
        self.at += 1;
    }
}

/// The run is not the one that the caller has items of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Differs;

#[cfg(test)]
mod tests {
    use super::*;

    /// The items `numbers`, received by a caller.
    fn caller(numbers: impl IntoIterator<Item = u64>) -> Prefix {
        let mut prefix = Prefix::new();
        let mut run = Run::new(prefix.begin());
        for number in numbers {
            assert!(!run.is_behind(&prefix));
            run.go_on(&number.to_be_bytes(), &mut prefix);
        }
        prefix
    }

    /// The number of the item at which a run of these items is found to differ.
    fn differs(prefix: &Prefix, numbers: impl IntoIterator<Item = u64>) -> Option<u64> {
        let mut run = Run::new(prefix.begin());
        for number in numbers {
            if !run.is_behind(prefix) {
                break;
            }
            if run.repeat(&number.to_be_bytes(), prefix).is_err() {
                return Some(run.at - 1);
            }
        }
        None
    }

    #[test]
    fn the_same_items_are_the_same_however_many() {
        for items in [0, 1, 127, 128, 129, 1_000] {
            let prefix = caller(0..items);
            assert_eq!((prefix.items(), differs(&prefix, 0..items)), (items, None), "{items}");
        }
    }

    #[test]
    fn another_item_is_found_where_it_is_or_where_the_first_hash_is_known() {
        let changed = |at| (0..1_000).map(move |n| if n == at { 7_777 } else { n });
        let prefix = caller(0..1_000);
        for (at, found) in [(999, 999), (900, 900), (872, 872), (871, 871), (870, 871), (0, 871)] {
            assert_eq!(differs(&prefix, changed(at)), Some(found), "{at}");
        }
        assert_eq!(differs(&caller(0..9), changed(0)), Some(0));
    }

    #[test]
    fn what_lies_across_a_border_of_items_is_another_sequence() {
        let mut prefix = Prefix::new();
        let mut run = Run::new(prefix.begin());
        for item in ["ab", "", "c"] {
            run.go_on(item.as_bytes(), &mut prefix);
        }
        for other in [["a", "b", "c"], ["", "ab", "c"], ["abc", "", ""], ["ab", "c", ""]] {
            let mut run = Run::new(prefix.begin());
            assert!(other.iter().any(|item| run.repeat(item.as_bytes(), &prefix).is_err()));
        }
    }

    fn checkpoint(items: u64) -> Checkpoint {
        Checkpoint { items, state: items.to_string().into() }
    }

    #[test]
    fn the_newest_checkpoint_that_is_covered_is_where_the_next_run_begins() {
        let mut prefix = caller(0..300);
        prefix.keep(checkpoint(301));
        assert_eq!(prefix.begin(), &Begin::default(), "its item has not come");
        prefix.keep(checkpoint(171));
        assert_eq!(prefix.begin().at, 0, "too far back to compare from there");
        prefix.keep(checkpoint(172));
        prefix.keep(checkpoint(290));
        prefix.keep(checkpoint(200));
        let begin = prefix.begin();
        assert_eq!((begin.at, begin.state.as_deref()), (290, Some(&b"290"[..])));
        assert_eq!(differs(&prefix, 290..300), None);
        assert_eq!(differs(&prefix, (290..299).chain([0])), Some(299));
        prefix.keep(checkpoint(300));
        assert!(!Run::new(prefix.begin()).is_behind(&prefix));
    }

    #[test]
    fn a_checkpoint_before_the_first_item_is_one() {
        let mut prefix = Prefix::new();
        prefix.keep(checkpoint(0));
        assert_eq!(prefix.begin().state.as_deref(), Some(&b"0"[..]));
    }
}
