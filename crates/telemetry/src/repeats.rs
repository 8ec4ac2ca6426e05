//! Repeated warnings: a few are shown, the rest is counted.

use std::time::{Duration, Instant};

/// How long warnings from one place are counted together.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// How many of a window are shown one by one; after that the 10th, 100th, 1,000th and so on.
const SHOWN: u64 = 3;

/// Counts the warnings of one place in the program, and says which of them are shown. Reads no
/// clock: time is an argument.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Repeats {
    /// When the window began, once there is one.
    began: Option<Instant>,
    /// Warnings in the window.
    count: u64,
    /// The count that the last line told.
    told: u64,
}

/// What becomes of one warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is shown as it is.
    Show,
    /// It is shown and stands for others.
    ShowWith(Counted),
    /// It is counted.
    Hide,
}

/// So many warnings in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) count: u64,
    pub(crate) within: Duration,
}

impl Repeats {
    /// Counts one more. [`settle`](Self::settle) first.
    pub(crate) fn admit(&mut self, now: Instant) -> Verdict {
        let began = *self.began.get_or_insert(now);
        self.count += 1;
        if self.count <= SHOWN {
            self.told = self.count;
            return Verdict::Show;
        }
        if !is_power_of_ten(self.count) {
            return Verdict::Hide;
        }
        self.told = self.count;
        let within = now.saturating_duration_since(began);
        Verdict::ShowWith(Counted { count: self.count, within })
    }

    /// Ends a window that is over, or any with `at_once`. What the window counted, when no line
    /// has told all of it.
    pub(crate) fn settle(&mut self, now: Instant, at_once: bool) -> Option<Counted> {
        let within = now.saturating_duration_since(self.began?);
        if !at_once && within < WINDOW {
            return None;
        }
        let ended = std::mem::take(self);
        (ended.count > ended.told).then_some(Counted { count: ended.count, within })
    }
}

fn is_power_of_ten(mut count: u64) -> bool {
    while count >= 10 && count.is_multiple_of(10) {
        count /= 10;
    }
    count == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_thousand_make_six_lines_and_a_count() {
        let (mut repeats, begun) = (Repeats::default(), Instant::now());
        let at = |millis| begun + Duration::from_millis(millis);
        let verdicts: Vec<_> = (0..3_000).map(|n| repeats.admit(at(n))).collect();
        let shown: Vec<_> = (1..).zip(&verdicts).filter(|(_, v)| **v != Verdict::Hide).collect();
        let numbers: Vec<_> = shown.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 2, 3, 10, 100, 1_000]);
        let counted = Counted { count: 1_000, within: Duration::from_millis(999) };
        assert_eq!(*shown[5].1, Verdict::ShowWith(counted));
        assert_eq!(repeats.settle(at(9_999), false), None, "the window is not over");
        let rest = repeats.settle(at(10_000), false).unwrap();
        assert_eq!((rest.count, rest.within), (3_000, Duration::from_secs(10)));
        assert_eq!(repeats.admit(at(10_001)), Verdict::Show, "a new window");
    }

    #[test]
    fn seldom_warnings_are_all_shown() {
        let (mut repeats, mut now) = (Repeats::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(repeats.settle(now, false), None);
            assert_eq!(repeats.admit(now), Verdict::Show);
            now += Duration::from_secs(4);
        }
    }

    #[test]
    fn what_no_line_has_told_is_told_at_the_end() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for _ in 0..3 {
            repeats.admit(now);
        }
        assert_eq!(repeats.settle(now, true), None);
        for _ in 0..4 {
            repeats.admit(now);
        }
        assert_eq!(repeats.settle(now, true).map(|rest| rest.count), Some(4));
    }
}
