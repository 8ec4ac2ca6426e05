//! How long to wait before everything is tried once more.

use std::time::Duration;

/// How the wait between rounds grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backoff {
    /// `step`, twice `step`, ... up to `max`: for one peer that is coming up, such as a response
    /// that dials back.
    Linear {
        /// Growth per round.
        step: Duration,
        /// Longest wait.
        max: Duration,
    },
    /// Anything from nothing to `base`, twice `base`, four times `base`, ... up to `max`, evenly
    /// drawn ("full jitter"): for many callers of one service, who must not come back together.
    Exponential {
        /// Upper end of the first wait.
        base: Duration,
        /// Longest wait.
        max: Duration,
    },
}

impl Default for Backoff {
    /// Exponential from 20 ms, which is a few round trips, to one second.
    fn default() -> Self {
        Self::Exponential { base: Duration::from_millis(20), max: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The wait before round `round`, counted from 0.
    pub fn delay(self, round: u32, random: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Linear { step, max } => step.saturating_mul(round.saturating_add(1)).min(max),
            Self::Exponential { base, max } => {
                let factor = 1_u32.checked_shl(round).unwrap_or(u32::MAX);
                base.saturating_mul(factor).min(max).mul_f64(random.f64())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn linear_grows_by_its_step() {
        let backoff = Backoff::Linear { step: 10 * MS, max: 25 * MS };
        let mut random = fastrand::Rng::with_seed(1);
        let delays: Vec<_> = [0, 1, 2, u32::MAX].map(|n| backoff.delay(n, &mut random)).into();
        assert_eq!(delays, [10 * MS, 20 * MS, 25 * MS, 25 * MS]);
    }

    #[test]
    fn exponential_is_spread_below_a_doubling_bound() {
        let backoff = Backoff::Exponential { base: 10 * MS, max: 1000 * MS };
        let mut random = fastrand::Rng::with_seed(1);
        for (round, bound) in [(0, 10), (1, 20), (3, 80), (10, 1000), (40, 1000), (u32::MAX, 1000)]
        {
            let delays: Vec<_> = (0..400).map(|_| backoff.delay(round, &mut random)).collect();
            let half = delays.iter().filter(|delay| **delay < bound * MS / 2).count();
            assert!(delays.iter().all(|delay| *delay <= bound * MS), "round {round}");
            assert!((150..250).contains(&half), "round {round}: {half} of 400 below the middle");
        }
    }
}
