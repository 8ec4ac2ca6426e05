//! The rate limit for frames without effect: a token bucket.

use std::time::{Duration, Instant};

/// A token bucket: a burst, refilled at a rate.
#[derive(Debug)]
pub(crate) struct RateLimit {
    tokens: u32,
    burst: u32,
    /// Time in which one token comes back.
    interval: Duration,
    refilled: Instant,
}

impl RateLimit {
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { tokens: burst, burst, interval, refilled: now }
    }

    /// Takes one token; false when there is none.
    pub(crate) fn try_acquire(&mut self, now: Instant) -> bool {
        if self.tokens == 0 {
            self.refill(now);
        }
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// Gives tokens back, never over the burst.
    pub(crate) fn refund(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        let tokens = elapsed.as_nanos() / self.interval.as_nanos().max(1);
        if tokens > 0 {
            self.tokens = u32::try_from(tokens).unwrap_or(u32::MAX).min(self.burst);
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let start = Instant::now();
        let mut limit = RateLimit::new(3, 2, start);
        for _ in 0..3 {
            assert!(limit.try_acquire(start));
        }
        assert!(!limit.try_acquire(start + Duration::from_millis(499)));
        assert!(limit.try_acquire(start + Duration::from_millis(500)));
        assert!(!limit.try_acquire(start + Duration::from_millis(501)));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| limit.try_acquire(later)).count(), 3, "never over the burst");
    }
}
