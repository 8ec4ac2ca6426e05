//! How much useless work a peer may cause, and how long it may be silent.

use std::time::{Duration, Instant};

/// A token bucket: a burst, refilled at a rate.
#[derive(Debug)]
pub(crate) struct Allowance {
    tokens: u32,
    burst: u32,
    /// Time that earns one token back.
    interval: Duration,
    refilled: Instant,
}

impl Allowance {
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { tokens: burst, burst, interval, refilled: now }
    }

    /// Spends one token; false when there is none.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
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

    /// Earns tokens back, never over the burst.
    pub(crate) fn earn(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        let earned = elapsed.as_nanos() / self.interval.as_nanos().max(1);
        if earned > 0 {
            self.tokens = u32::try_from(earned).unwrap_or(u32::MAX).min(self.burst);
            self.refilled = now;
        }
    }
}

/// Decides from silence when to ask, and when to give up.
#[derive(Debug)]
pub(crate) struct Pulse {
    interval: Duration,
    timeout: Duration,
    heard: Instant,
    asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    Alive,
    Ask,
    Dead,
}

impl Pulse {
    pub(crate) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, heard: now, asked: false }
    }

    /// Bytes arrived.
    pub(crate) fn on_bytes(&mut self, now: Instant) {
        self.heard = now;
        self.asked = false;
    }

    /// To be called now and then, at least every `interval`.
    pub(crate) fn on_tick(&mut self, now: Instant) -> Beat {
        let silence = now.saturating_duration_since(self.heard);
        if silence >= self.timeout {
            return Beat::Dead;
        }
        if silence >= self.interval && !self.asked {
            self.asked = true;
            return Beat::Ask;
        }
        Beat::Alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let start = Instant::now();
        let mut allowance = Allowance::new(3, 2, start);
        for _ in 0..3 {
            assert!(allowance.spend(start));
        }
        assert!(!allowance.spend(start + Duration::from_millis(499)));
        assert!(allowance.spend(start + Duration::from_millis(500)));
        assert!(!allowance.spend(start + Duration::from_millis(501)));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| allowance.spend(later)).count(), 3, "never over the burst");
    }

    #[test]
    fn silence_asks_once_and_then_gives_up() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut pulse = Pulse::new(Duration::from_secs(5), Duration::from_secs(15), start);
        assert_eq!(pulse.on_tick(at(4)), Beat::Alive);
        assert_eq!(pulse.on_tick(at(5)), Beat::Ask);
        assert_eq!(pulse.on_tick(at(6)), Beat::Alive);
        pulse.on_bytes(at(7));
        assert_eq!(pulse.on_tick(at(12)), Beat::Ask);
        assert_eq!(pulse.on_tick(at(22)), Beat::Dead);
    }
}
