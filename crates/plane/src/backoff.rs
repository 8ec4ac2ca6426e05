//! How long to wait before something that failed is tried again.

use std::time::Duration;

use crate::random::{self, Rng};

/// How the wait before each further attempt grows, and how much of it is random.
///
/// ```
/// use std::time::Duration;
/// use sinew_plane::{Backoff, Jitter, random};
///
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(5));
/// assert_eq!(backoff.bound(3), Duration::from_millis(400));
/// assert_eq!(backoff.bound(60), Duration::from_secs(5));
/// let half = backoff.with_jitter(Jitter::Half);
/// assert!(half.delay(3, &mut random::generator()) >= Duration::from_millis(200));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    growth: Growth,
    jitter: Jitter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    None,
    /// The wait grows by the base with each round.
    Linear,
    /// The wait doubles with each round.
    Double,
}

/// How much of a wait is random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// None: for one peer that is starting.
    None,
    /// Half. The other half is fixed, so that there is always a wait, also for a task that waited
    /// for the failed attempt of another one.
    Half,
    /// All ("full jitter"): for many callers of one service, which must not all retry at the same
    /// time.
    Full,
}

impl Backoff {
    /// A wait of always `delay`.
    pub const fn constant(delay: Duration) -> Self {
        Self { base: delay, max: delay, growth: Growth::None, jitter: Jitter::None }
    }

    /// Waits of `step`, twice `step`, three times `step`, ... up to `max`, without jitter: for one
    /// peer that is starting, such as a caller that is dialled back.
    pub const fn linear(step: Duration, max: Duration) -> Self {
        Self { base: step, max, growth: Growth::Linear, jitter: Jitter::None }
    }

    /// Waits that are drawn evenly between zero and `base`, twice `base`, four times `base`, ... up
    /// to `max`: for many callers of one service.
    pub const fn exponential(base: Duration, max: Duration) -> Self {
        Self { base, max, growth: Growth::Double, jitter: Jitter::Full }
    }

    /// Sets how much of the wait is random.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The longest wait of all rounds.
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The longest wait before round `round`, counted from 0.
    pub fn bound(&self, round: u32) -> Duration {
        let factor = match self.growth {
            Growth::None => 1,
            Growth::Linear => round.saturating_add(1),
            Growth::Double => 1_u32.checked_shl(round).unwrap_or(u32::MAX),
        };
        self.base.saturating_mul(factor).min(self.max)
    }

    /// The wait before round `round`, counted from 0.
    pub fn delay(&self, round: u32, random: &mut Rng) -> Duration {
        let bound = self.bound(round);
        match self.jitter {
            Jitter::None => bound,
            Jitter::Half => bound.mul_f64(0.5 + random.f64() / 2.0),
            Jitter::Full => bound.mul_f64(random.f64()),
        }
    }
}

impl Default for Backoff {
    /// Exponential from 20 ms, which is a few round trips, to one second.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(20), Duration::from_secs(1))
    }
}

/// The waits between attempts at one thing that is tried until it succeeds.
#[derive(Debug, Clone)]
pub struct Retries {
    backoff: Backoff,
    round: u32,
}

impl Retries {
    /// Starts with the wait of round 0.
    pub const fn new(backoff: Backoff) -> Self {
        Self { backoff, round: 0 }
    }

    /// The wait before the next attempt. Each call returns the wait of the next round.
    pub fn pause(&mut self) -> Duration {
        let round = self.round;
        self.round = round.saturating_add(1);
        self.backoff.delay(round, &mut random::generator())
    }

    /// The wait before the next attempt, after something that worked for `lasted` has failed. It is
    /// a short one again if `lasted` exceeds the longest wait.
    pub fn pause_after(&mut self, lasted: Duration) -> Duration {
        if lasted > self.backoff.max {
            self.reset();
        }
        self.pause()
    }

    /// Starts again with the wait of round 0, after a success.
    pub const fn reset(&mut self) {
        self.round = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn linear_grows_by_its_step_and_constant_does_not() {
        let mut random = Rng::with_seed(1);
        let mut delays =
            |backoff: Backoff| [0, 1, 2, u32::MAX].map(|n| backoff.delay(n, &mut random));
        let linear = Backoff::linear(10 * MS, 25 * MS);
        assert_eq!(delays(linear), [10 * MS, 20 * MS, 25 * MS, 25 * MS]);
        assert_eq!(delays(Backoff::constant(7 * MS)), [7 * MS; 4]);
    }

    #[test]
    fn exponential_doubles_up_to_its_maximum() {
        let backoff = Backoff::exponential(50 * MS, 2000 * MS).with_jitter(Jitter::None);
        let mut random = Rng::with_seed(1);
        let delays = [0, 1, 2, 5, 6, 31, 32, u32::MAX].map(|n| backoff.delay(n, &mut random));
        assert_eq!(delays.map(|it| it.as_millis()), [50, 100, 200, 1600, 2000, 2000, 2000, 2000]);
        assert_eq!(Backoff::exponential(MS, Duration::MAX).bound(40), u32::MAX * MS);
    }

    #[test]
    fn full_jitter_is_spread_below_the_bound_and_half_of_it_above_the_middle() {
        let full = Backoff::exponential(10 * MS, 1000 * MS);
        let mut random = Rng::with_seed(1);
        for (round, bound) in [(0, 10), (1, 20), (3, 80), (10, 1000), (40, 1000), (u32::MAX, 1000)]
        {
            let mut below = |backoff: Backoff, part: Duration| {
                let delays: Vec<_> = (0..400).map(|_| backoff.delay(round, &mut random)).collect();
                assert!(delays.iter().all(|delay| *delay <= bound * MS), "round {round}");
                delays.iter().filter(|delay| **delay < part).count()
            };
            let half = below(full, bound * MS / 2);
            assert!((150..250).contains(&half), "round {round}: {half} of 400 below the middle");
            let upper = full.with_jitter(Jitter::Half);
            assert_eq!(below(upper, bound * MS / 2), 0, "round {round}");
            let half = below(upper, bound * MS * 3 / 4);
            assert!((150..250).contains(&half), "round {round}: {half} of 400 below the middle");
        }
    }

    #[test]
    fn waits_grow_until_a_reset_or_a_long_life() {
        let backoff = Backoff::exponential(250 * MS, 5000 * MS).with_jitter(Jitter::Half);
        let mut retries = Retries::new(backoff);
        for whole in [250, 500, 1000, 2000, 4000, 5000, 5000].map(|n| n * MS) {
            let pause = retries.pause();
            assert!((whole / 2..=whole).contains(&pause), "{pause:?} of {whole:?}");
        }
        retries.reset();
        assert!(retries.pause() <= 250 * MS);
        assert!(retries.pause_after(5000 * MS) >= 250 * MS);
        assert!(retries.pause_after(5001 * MS) <= 250 * MS);
    }
}
