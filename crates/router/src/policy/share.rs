//! Which streams are to go over the transport of a policy: shares of new ones, and of those that run.

use std::sync::atomic::{AtomicU64, Ordering};

/// Spreads the chosen ones over each hundred. Without a common divisor with 100, so that each of the
/// hundred places comes once.
const STRIDE: u64 = 37;

/// Chooses an exact share of the new streams.
#[derive(Debug)]
pub(crate) struct NewStreams {
    percent: u64,
    seen: AtomicU64,
}

impl NewStreams {
    /// Chooses `percent` of each hundred in a row.
    pub(crate) fn new(percent: u8) -> Self {
        Self { percent: u64::from(percent), seen: AtomicU64::new(0) }
    }

    /// True if the next stream is one of the chosen.
    pub(crate) fn takes_next(&self) -> bool {
        // Relaxed: only the number itself is shared.
        let number = self.seen.fetch_add(1, Ordering::Relaxed) % 100;
        number * STRIDE % 100 < self.percent
    }
}

/// The shares in which running streams are moved, in percent of the share of the policy. The first is
/// small, because what it shows costs few streams.
const STEPS: [u64; 5] = [1, 5, 25, 50, 100];

/// How far the running streams are to be moved now.
#[derive(Debug)]
pub(crate) struct Ramp {
    percent: u64,
    /// How many steps were begun; none while only new streams go there.
    begun: usize,
    /// True once the last step is over.
    is_over: bool,
}

impl Ramp {
    /// None of the running streams yet, in the end `percent` of them.
    pub(crate) fn new(percent: u8) -> Self {
        Self { percent: u64::from(percent), begun: 0, is_over: false }
    }

    /// Begins the next step. False if the last one was begun before.
    pub(crate) fn begin_next(&mut self) -> bool {
        let is_next = !self.is_whole();
        self.begun += usize::from(is_next);
        self.is_over = !is_next;
        is_next
    }

    /// True in the last step.
    pub(crate) fn is_whole(&self) -> bool {
        self.begun == STEPS.len()
    }

    fn step(&self) -> u64 {
        self.begun.checked_sub(1).map_or(0, |last| STEPS[last])
    }

    /// Of so many running streams, how many are to be there now. At least one from the first step
    /// on, if there is to be one in the end.
    pub(crate) fn wanted(&self, streams: usize) -> usize {
        let streams = streams as u64;
        let whole = (streams * self.percent + 50) / 100;
        usize::try_from((whole * self.step()).div_ceil(100)).unwrap_or(usize::MAX)
    }

    /// By how many of so many running streams the share may be missed. After the last step streams
    /// begin and end, and one must not be moved for each.
    pub(crate) fn slack(&self, streams: usize) -> usize {
        if self.is_over && self.percent < 100 { streams / 20 } else { 0 }
    }

    /// The share of the running streams that are to be there now, in percent.
    pub(crate) fn share(&self) -> f64 {
        (self.percent * self.step()) as f64 / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_hundred_new_streams_in_a_row_have_the_exact_share() {
        for percent in [1, 2, 33, 50, 99, 100] {
            let new = NewStreams::new(percent);
            let chosen: Vec<_> = (0..1000).map(|_| new.takes_next()).collect();
            for hundred in chosen.windows(100) {
                let taken = hundred.iter().filter(|taken| **taken).count();
                assert_eq!(taken, usize::from(percent));
            }
        }
    }

    /// Requests of two kinds in turn: a share must not be all those of one kind.
    #[test]
    fn a_share_has_some_of_each_kind_that_comes_in_turn() {
        let new = NewStreams::new(50);
        let mut taken = [0; 2];
        for number in 0..1000 {
            taken[number % 2] += usize::from(new.takes_next());
        }
        assert!(taken.iter().all(|kind| (200..=300).contains(kind)), "{taken:?}");
    }

    #[test]
    fn the_steps_end_at_the_share_of_the_policy() {
        let check = |percent, streams, expected: [usize; 6]| {
            let mut ramp = Ramp::new(percent);
            let mut wanted = vec![ramp.wanted(streams)];
            while ramp.begin_next() {
                wanted.push(ramp.wanted(streams));
                assert_eq!(ramp.slack(streams), 0, "each step is exact");
            }
            assert_eq!(wanted, expected, "{percent} % of {streams}");
            assert!(ramp.is_whole() && !ramp.begin_next());
            let is_part = percent < 100;
            assert_eq!(ramp.slack(streams), if is_part { streams / 20 } else { 0 });
            assert_eq!(ramp.share(), f64::from(percent));
        };
        check(100, 1000, [0, 10, 50, 250, 500, 1000]);
        check(50, 1000, [0, 5, 25, 125, 250, 500]);
        check(100, 3, [0, 1, 1, 1, 2, 3]);
        check(100, 0, [0; 6]);
        check(10, 4, [0; 6]);
        check(10, 5, [0, 1, 1, 1, 1, 1]);
    }
}
