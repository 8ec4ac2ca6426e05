//! Decides whether an entry counts as alive, by the monotonic clock of this process only.
//!
//! The owner of a record touches it. The touch writes the time of the owner's clock or of the file
//! server's; it is compared only with the time that the last scan has read. An entry is alive while
//! it changes at least once per TTL, counted on the monotonic clock of this process from the scan
//! that saw the change. The first scan that finds it counts as a change.

use std::time::{Duration, Instant};

/// What changes when a file is touched, written or replaced. Compared for equality only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds of the last modification, by the owner's clock.
    pub(super) modified: (i64, i64),
    /// The same of the last change of any kind, by the kernel's: it moves also when an owner's
    /// clock stands still.
    pub(super) changed: (i64, i64),
}

impl Stamp {
    /// True when the file was touched since `before` and, as far as can be told, not written: its
    /// time was set, which a write does not do, since that leaves both times the same.
    pub(super) fn is_touch_of(&self, before: &Self) -> bool {
        let is_same_file = (self.inode, self.size) == (before.inode, before.size);
        is_same_file && self.modified != before.modified && self.modified != self.changed
    }
}

/// One entry as seen so far.
#[derive(Debug)]
pub(super) struct Observation {
    stamp: Stamp,
    last_change: Instant,
    has_moved: bool,
    /// It was silent for its time, and that counted as the end of its owner.
    is_settled: bool,
}

impl Observation {
    pub(super) fn first(stamp: Stamp, now: Instant) -> Self {
        Self { stamp, last_change: now, has_moved: false, is_settled: false }
    }

    /// Sees the entry again; true when it has changed.
    pub(super) fn again(&mut self, stamp: Stamp, now: Instant) -> bool {
        let has_changed = self.stamp != stamp;
        if has_changed {
            *self = Self { stamp, last_change: now, has_moved: true, is_settled: false };
        }
        has_changed
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// True while the last change is less than `ttl` ago.
    pub(super) fn is_alive(&self, now: Instant, ttl: Duration) -> bool {
        now.saturating_duration_since(self.last_change) < ttl
    }

    /// True when a change was seen after the first sight: somebody keeps the entry, or did.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// When the last change was seen.
    pub(super) fn last_change(&self) -> Instant {
        self.last_change
    }

    /// Takes time in which nobody looked out of the count.
    pub(super) fn exclude(&mut self, unseen: Duration) {
        self.last_change += unseen;
    }

    /// Counts from now on, because before that no change could be seen.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.last_change = now;
    }

    /// Its silence counts as the end of its owner, until it changes again.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn stamp(modified: i64) -> Stamp {
        Stamp { inode: 1, size: 1, modified: (modified, 0), changed: (0, 0) }
    }

    #[test]
    fn an_entry_lives_one_ttl_from_each_change_whatever_its_clock_says() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut entry = Observation::first(stamp(0), start);
        assert!(entry.is_alive(after(9), TTL) && !entry.has_moved());
        assert!(!entry.is_alive(after(10), TTL));
        // Far ahead, far back, one nanosecond: each is a change and nothing else.
        for (at, modified) in [(5, i64::MAX), (14, i64::MIN), (23, 7)] {
            assert!(entry.again(stamp(modified), after(at)));
            assert!(entry.is_alive(after(at + 9), TTL));
        }
        assert!(!entry.again(stamp(7), after(24)), "the same again is no sign of life");
        assert!(entry.has_moved() && !entry.is_alive(after(33), TTL));
    }

    #[test]
    fn a_touch_is_told_from_a_write() {
        let before = Stamp { inode: 1, size: 1, modified: (5, 5), changed: (5, 5) };
        let touched = Stamp { modified: (8, 123_456), changed: (8, 120_000), ..before };
        assert!(touched.is_touch_of(&before));
        let written = Stamp { modified: (8, 120_000), ..touched };
        assert!(!written.is_touch_of(&before), "a write leaves both times the same");
        assert!(!Stamp { inode: 2, ..touched }.is_touch_of(&before));
        assert!(!Stamp { size: 2, ..touched }.is_touch_of(&before));
        let owner_changed = Stamp { changed: (9, 0), ..before };
        assert!(!owner_changed.is_touch_of(&before), "its owner or its permissions, perhaps");
    }

    #[test]
    fn a_touch_is_seen_when_only_the_kernels_clock_moves() {
        let start = Instant::now();
        let mut entry = Observation::first(stamp(7), start);
        assert!(entry.again(Stamp { changed: (1, 0), ..stamp(7) }, start));
    }

    #[test]
    fn time_in_which_nobody_looked_does_not_count() {
        let start = Instant::now();
        let mut entry = Observation::first(stamp(0), start);
        entry.exclude(Duration::from_secs(3600));
        assert!(entry.is_alive(start + Duration::from_secs(3609), TTL));
        assert!(!entry.is_alive(start + Duration::from_secs(3610), TTL));
    }
}
