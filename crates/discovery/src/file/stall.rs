//! Decides whether unchanged records mean that their owners have ended, or that changes are not
//! visible.
//!
//! A directory that becomes read-only stops all owners from touching their records at the same
//! time, and a file server with cached attributes hides the touches. If the watcher took that for
//! the end of all owners, every view would become empty while all workers run.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// What is known of the silent entries, when some are.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// What could have gone down at once: processes of this machine, other machines.
    pub(super) failure_domains: BTreeSet<String>,
    /// Some were seen to move before.
    pub(super) has_moved: bool,
    /// The first and the last time that the owners have written, by their clocks.
    pub(super) last_touches: Option<(i64, i64)>,
}

impl Silence {
    pub(super) fn add(&mut self, fate: Option<String>, has_moved: bool, touched: i64) {
        self.failure_domains.extend(fate);
        self.has_moved |= has_moved;
        let (first, last) = self.last_touches.unwrap_or((touched, touched));
        self.last_touches = Some((first.min(touched), last.max(touched)));
    }

    /// True when the entries stopped together, as far as can be told.
    fn came_at_once(&self, ttl: Duration) -> bool {
        // Files that crashed machines left behind over weeks were written weeks apart. These times
        // are compared with one another, never with a clock of ours.
        let spread = self.last_touches.map_or(0, |(first, last)| last.saturating_sub(first));
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        self.has_moved || spread <= ttl
    }
}

/// What silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SilenceMeaning {
    /// That nothing can be seen: nobody's silence says anything.
    Stalled,
    /// That those who are silent are gone.
    Gone,
    /// The same of those who were silent while others moved this late; of the rest it is too early
    /// to tell.
    GoneBefore(Instant),
}

/// Remembers when anything moved in the directory.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    /// When something last changed: a touch, a new file, one that went. The first look counts.
    last_movement: Option<Instant>,
    pub(super) is_stalled: bool,
}

impl StallDetector {
    pub(super) fn note_movement(&mut self, now: Instant) {
        self.last_movement = Some(now);
    }

    /// Takes time in which nobody looked out of the count.
    pub(super) fn exclude(&mut self, unseen: Duration) {
        self.last_movement = self.last_movement.map(|then| then + unseen);
    }

    /// Decides. Blind is who has seen nothing move for a whole TTL, if either no owner could have
    /// touched its record, because the file system takes no changes, or several that do not go
    /// down together fell silent together.
    pub(super) fn judge(
        &mut self,
        silence: &Silence,
        is_read_only: bool,
        now: Instant,
        ttl: Duration,
    ) -> SilenceMeaning {
        let moved = self.last_movement.unwrap_or(now);
        let nothing_moves = now.saturating_duration_since(moved) >= ttl;
        let is_silent = silence.last_touches.is_some();
        let together = silence.failure_domains.len() > 1 && silence.came_at_once(ttl);
        self.is_stalled = nothing_moves && is_silent && (is_read_only || together);
        match (self.is_stalled, nothing_moves) {
            (true, _) => SilenceMeaning::Stalled,
            (false, true) => SilenceMeaning::Gone,
            // Owners touch every third of a TTL, and that is seen up to a quarter later: whoever
            // stopped in the same moment was seen last within 7/12 of each other.
            (false, false) => {
                SilenceMeaning::GoneBefore(moved.checked_sub(ttl * 7 / 12).unwrap_or(moved))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn silence(failure_domains: &[&str], has_moved: bool, touched: &[i64]) -> Silence {
        let mut silence = Silence::default();
        for (fate, touched) in failure_domains.iter().zip(touched) {
            silence.add(Some((*fate).to_owned()), has_moved, *touched);
        }
        silence
    }

    #[test]
    fn several_that_stop_together_are_not_seen_and_one_that_stops_is_gone() {
        let start = Instant::now();
        let judge = |silence: &Silence, is_read_only, after| {
            let mut stall = StallDetector::default();
            stall.note_movement(start);
            let now = start + Duration::from_secs(after);
            stall.judge(silence, is_read_only, now, TTL) == SilenceMeaning::Stalled
        };
        let two = silence(&["a", "b"], true, &[0, 3]);
        assert!(judge(&two, false, 10));
        assert!(!judge(&two, false, 9), "something moved a moment ago");
        let one = silence(&["a", "a"], true, &[0, 3]);
        assert!(!judge(&one, false, 10), "one machine, one crash");
        assert!(judge(&one, true, 10), "it could not have touched its record");
        assert!(!judge(&silence(&[], false, &[]), true, 10), "nobody is missed");
        let left_behind = silence(&["a", "b"], false, &[0, 86_400]);
        assert!(!judge(&left_behind, false, 10), "they stopped a day apart");
        assert!(judge(&silence(&["a", "b"], false, &[0, 3]), false, 10));
    }
}
