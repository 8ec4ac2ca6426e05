//! A record of recent failures, so that a failed target is not tried again at once.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use crate::{Backoff, random};

/// Longest hold-down, so that it can be added to any clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The last failure of one target. Time is an argument.
#[derive(Debug, Clone)]
pub struct Failure<E> {
    error: E,
    round: u32,
    until: Instant,
}

impl<E> Failure<E> {
    /// Records that a target failed with `error`. The hold-down is longer if the target failed
    /// `before` as well; an earlier failure whose hold-down ended longer ago than the backoff's
    /// maximum does not count. No hold-down is longer than a year.
    pub fn new(before: Option<&Self>, error: E, backoff: &Backoff, now: Instant) -> Self {
        let recent = before.filter(|before| now < before.until + backoff.max().min(LONGEST));
        let round = recent.map_or(0, |before| before.round.saturating_add(1));
        let until = now + backoff.delay(round, &mut random::generator()).min(LONGEST);
        Self { error, round, until }
    }

    /// The error, while the target is held down.
    pub fn held_down(&self, now: Instant) -> Option<&E> {
        (now < self.until).then_some(&self.error)
    }
}

/// The failures of many targets, and until when other targets are tried first.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sinew_plane::{Backoff, FailureMemory};
///
/// let mut memory = FailureMemory::new(Backoff::constant(Duration::from_secs(5)), 1024);
/// let now = Instant::now();
/// memory.failed(&"tcp://host:1", (), now);
/// assert!(memory.held_down(&"tcp://host:1", now).is_some());
/// assert!(memory.held_down(&"tcp://host:1", now + Duration::from_secs(5)).is_none());
/// ```
#[derive(Debug)]
pub struct FailureMemory<K, E = ()> {
    backoff: Backoff,
    most: usize,
    failures: HashMap<K, Failure<E>>,
}

impl<K: Eq + Hash + Clone, E> FailureMemory<K, E> {
    /// Makes a record for at most `most` targets. Beyond that the target whose hold-down ends first
    /// is removed, which costs one attempt at it.
    pub fn new(backoff: Backoff, most: usize) -> Self {
        Self { backoff, most, failures: HashMap::new() }
    }

    /// The error of a target, while it is held down.
    pub fn held_down(&self, target: &K, now: Instant) -> Option<&E> {
        self.failures.get(target)?.held_down(now)
    }

    /// Records a failure of a target.
    pub fn failed(&mut self, target: &K, error: E, now: Instant) {
        let failure = Failure::new(self.failures.get(target), error, &self.backoff, now);
        self.make_room(target, now);
        self.failures.insert(target.clone(), failure);
    }

    fn make_room(&mut self, target: &K, now: Instant) {
        if self.failures.len() < self.most || self.failures.contains_key(target) {
            return;
        }
        self.failures.retain(|_, failure| now < failure.until);
        if self.failures.len() >= self.most {
            let first = self.failures.iter().min_by_key(|(_, failure)| failure.until);
            if let Some(first) = first.map(|(target, _)| target.clone()) {
                self.failures.remove(&first);
            }
        }
    }

    /// Removes the failures of a target that works.
    pub fn succeeded(&mut self, target: &K) {
        if !self.failures.is_empty() {
            self.failures.remove(target);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Jitter;

    const PERIOD: Duration = Duration::from_secs(5);

    #[test]
    fn a_hold_down_ends_with_its_period_or_a_success() {
        let mut memory = FailureMemory::new(Backoff::constant(PERIOD), 8);
        let now = Instant::now();
        memory.failed(&1, "refused", now);
        let late = now + Duration::from_millis(4999);
        assert_eq!(memory.held_down(&1, late), Some(&"refused"));
        assert_eq!(memory.held_down(&1, now + PERIOD), None);
        assert_eq!(memory.held_down(&2, now), None);
        memory.succeeded(&1);
        assert_eq!(memory.held_down(&1, now), None);
    }

    #[test]
    fn many_dead_targets_do_not_gather() {
        let mut memory = FailureMemory::new(Backoff::constant(PERIOD), 1024);
        let now = Instant::now();
        for n in 0..3 * 1024 {
            memory.failed(&n, (), now + Duration::from_micros(n));
        }
        assert_eq!(memory.failures.len(), 1024);
        assert!(memory.held_down(&(3 * 1024 - 1), now).is_some(), "the newest are kept");
        memory.failed(&(3 * 1024 - 1), (), now);
        assert_eq!(memory.failures.len(), 1024, "one that is there needs no room");
        memory.failed(&0, (), now + 2 * PERIOD);
        assert_eq!(memory.failures.len(), 1, "those whose time is up go first");
    }

    #[test]
    fn each_failure_holds_down_for_longer_unless_it_is_long_ago() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(8));
        let backoff = backoff.with_jitter(Jitter::None);
        let mut now = Instant::now();
        let mut last = None;
        for seconds in [1, 2, 4, 8, 8] {
            let failure = Failure::new(last.as_ref(), seconds, &backoff, now);
            now += Duration::from_secs(seconds);
            assert_eq!(failure.held_down(now - Duration::from_nanos(1)), Some(&seconds));
            assert_eq!(failure.held_down(now), None);
            last = Some(failure);
        }
        let recent = now + Duration::from_secs(8) - Duration::from_nanos(1);
        assert_eq!(Failure::new(last.as_ref(), 0, &backoff, recent).round, 5);
        let later = now + Duration::from_secs(8);
        assert_eq!(Failure::new(last.as_ref(), 0, &backoff, later).round, 0);
    }
}
