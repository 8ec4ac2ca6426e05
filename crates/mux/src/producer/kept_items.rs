//! The items from the first that is not acknowledged, in order, and which of them is sent next.

use std::collections::VecDeque;

use bytes::Bytes;
use sinew_plane::split_run;

/// Items that are kept, each by itself or in runs as they were pushed.
///
/// An acknowledgement inside a run moves an index; the run goes with its last item.
#[derive(Debug, Default)]
pub(super) struct KeptItems {
    entries: VecDeque<Entry>,
    /// How many items there are.
    count: usize,
    /// The first of them. Its entry is 0.
    first: Cursor,
    /// The one that is sent next.
    next: Cursor,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    is_run: bool,
}

/// An item, where it stands in its buffer.
pub(super) struct KeptItem<'a> {
    pub(super) bytes: &'a Bytes,
    pub(super) item: &'a [u8],
    /// Where the one after it stands.
    pub(super) after: Cursor,
}

/// Where an item stands: its entry, and from which byte on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    entry: u32,
    at: u32,
}

impl KeptItems {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Bytes that are held besides those of the items: of a run, what is acknowledged.
    #[inline]
    pub(super) fn held_bytes(&self) -> usize {
        self.first.at as usize
    }

    #[inline]
    pub(super) fn push(&mut self, item: Bytes) {
        self.entries.push_back(Entry { bytes: item, is_run: false });
        self.count += 1;
    }

    /// Adds a run of `count` items, at least one.
    #[inline]
    pub(super) fn push_run(&mut self, run: Bytes, count: usize) {
        self.entries.push_back(Entry { bytes: run, is_run: true });
        self.count += count;
    }

    /// Lets go of the first `count` items, which have been sent. Returns their bytes.
    pub(super) fn acknowledge(&mut self, count: usize) -> usize {
        self.count -= count;
        let (mut bytes, mut left) = (0, count);
        while left > 0
            && let Some(entry) = self.entries.front()
        {
            left -= 1;
            if entry.is_run
                && let Some(kept) = self.at(self.first)
            {
                bytes += kept.item.len();
                self.first = kept.after;
                if self.first.entry == 0 {
                    continue;
                }
            } else {
                bytes += entry.bytes.len();
            }
            self.first = Cursor::default();
            self.entries.pop_front();
            self.next.entry = self.next.entry.saturating_sub(1);
        }
        bytes
    }

    /// The item that is sent next.
    #[inline]
    pub(super) fn unsent(&self) -> Option<KeptItem<'_>> {
        self.at(self.next)
    }

    /// The item before this one was sent.
    #[inline]
    pub(super) fn sent_before(&mut self, after: Cursor) {
        self.next = after;
    }

    /// Sends again from the one on that stands `count` items behind the first.
    pub(super) fn resend_after(&mut self, count: usize) {
        self.next = self.first;
        for _ in 0..count {
            self.next = self.at(self.next).map_or(self.next, |kept| kept.after);
        }
    }

    /// Drops what is not sent. Returns how many items and how many bytes that was.
    pub(super) fn drop_unsent(&mut self) -> (usize, usize) {
        let (mut count, mut bytes, mut at) = (0, 0, self.next);
        while let Some(kept) = self.at(at) {
            (count, bytes, at) = (count + 1, bytes + kept.item.len(), kept.after);
        }
        let Cursor { entry, at } = self.next;
        if let Some(cut) = self.entries.get_mut(entry as usize).filter(|_| at > 0) {
            cut.bytes.truncate(at as usize);
            self.next = Cursor { entry: entry + 1, at: 0 };
        }
        self.entries.truncate(self.next.entry as usize);
        self.count -= count;
        if self.count == 0 {
            // Of a run that is acknowledged as far as it was sent, nothing is left.
            *self = Self::default();
        }
        (count, bytes)
    }

    #[inline]
    fn at(&self, at: Cursor) -> Option<KeptItem<'_>> {
        let Entry { bytes, is_run } = self.entries.get(at.entry as usize)?;
        let mut after = Cursor { entry: at.entry + 1, at: 0 };
        if !is_run {
            return Some(KeptItem { bytes, item: bytes, after });
        }
        let start = at.at as usize;
        let found = split_run(&bytes[start..]);
        if start + found.next < bytes.len() {
            // A run is far smaller than 4 GiB.
            after = Cursor { entry: at.entry, at: (start + found.next) as u32 };
        }
        Some(KeptItem { bytes, item: &bytes[start + found.start..start + found.end], after })
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::ItemRun;

    use super::*;

    /// `a`, then a run of `bb`, an empty one and `ccc`, then `d`.
    fn mixed() -> KeptItems {
        let mut items = KeptItems::default();
        items.push("a".into());
        let mut run = ItemRun::new();
        ["bb", "", "ccc"].iter().for_each(|item| run.push(item.as_bytes()));
        items.push_run(run.take(3, 5), 3);
        items.push("d".into());
        items
    }

    fn send(items: &mut KeptItems, count: usize) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(kept) = items.unsent().filter(|_| sent.len() < count) {
            sent.push(String::from_utf8(kept.item.to_vec()).unwrap());
            let after = kept.after;
            items.sent_before(after);
        }
        sent
    }

    #[test]
    fn items_are_sent_once_and_again_from_any() {
        let mut items = mixed();
        let all = ["a", "bb", "", "ccc", "d"];
        assert_eq!((send(&mut items, 9), items.len()), (all.map(String::from).into(), 5));
        for from in 0..=all.len() {
            items.resend_after(from);
            assert_eq!(send(&mut items, 9), all[from..]);
        }
    }

    #[test]
    fn an_acknowledgement_inside_a_run_keeps_the_rest() {
        let mut items = mixed();
        send(&mut items, 4);
        assert_eq!((items.acknowledge(2), items.len()), (3, 3));
        assert!(items.held_bytes() > 0, "the run is still there");
        items.resend_after(1);
        assert_eq!(send(&mut items, 1), ["ccc"]);
        assert_eq!((items.acknowledge(2), items.len(), items.held_bytes()), (3, 1, 0));
        assert_eq!(send(&mut items, 9), ["d"]);
        assert_eq!((items.acknowledge(1), items.len()), (1, 0));
        items.push("e".into());
        assert_eq!(send(&mut items, 9), ["e"]);
    }

    #[test]
    fn what_is_not_sent_can_be_dropped() {
        for (sent, dropped) in [(0, (5, 7)), (1, (4, 6)), (2, (3, 4)), (4, (1, 1)), (5, (0, 0))] {
            let mut items = mixed();
            let before = send(&mut items, sent);
            assert_eq!((items.drop_unsent(), items.len()), (dropped, sent));
            assert!(items.unsent().is_none());
            items.resend_after(0);
            assert_eq!(send(&mut items, 9), before);
        }
    }

    #[test]
    fn of_a_run_that_is_acknowledged_as_far_as_it_was_sent_the_rest_can_be_dropped() {
        let mut items = mixed();
        send(&mut items, 2);
        items.acknowledge(2);
        assert_eq!(items.drop_unsent(), (3, 4));
        items.resend_after(0);
        assert!(items.unsent().is_none());
        assert_eq!((items.len(), items.held_bytes()), (0, 0));
    }
}
