//! The limit of heartbeats on one connection.

use std::time::{Duration, Instant};

/// Heartbeats that may come at once.
const BURST: u64 = 64;

/// Further ones for each second of the connection. They count from its beginning, because they lie
/// in the socket while nobody reads, and come together then.
const PER_SECOND: u64 = 8;

/// Counts the heartbeats of one connection: two-part frames without header and body. They only say
/// that the peer is alive, so more of them than a peer needs to send is a fault.
#[derive(Debug)]
pub struct Heartbeats {
    since: Instant,
    seen: u64,
}

impl Heartbeats {
    /// Makes the limit for a connection that begins now.
    pub const fn new(now: Instant) -> Self {
        Self { since: now, seen: 0 }
    }

    /// Counts one received heartbeat. False if the connection has received more than it may.
    #[must_use]
    pub fn accept(&mut self, now: Instant) -> bool {
        self.seen += 1;
        self.seen <= BURST || self.seen <= self.allowed(now.saturating_duration_since(self.since))
    }

    fn allowed(&self, age: Duration) -> u64 {
        BURST.saturating_add(age.as_secs().saturating_mul(PER_SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_says_now_and_then_that_it_lives_is_heard_and_a_flood_is_not() {
        let start = Instant::now();
        let mut flood = Heartbeats::new(start);
        let taken = (0..1000).take_while(|_| flood.accept(start)).count();
        assert_eq!(taken as u64, BURST);

        // One a second for an hour, read together at its end.
        let later = start + Duration::from_secs(3600);
        let mut kept_waiting = Heartbeats::new(start);
        assert!((0..3600).all(|_| kept_waiting.accept(later)));
        let more = (0..100_000).take_while(|_| kept_waiting.accept(later)).count() as u64;
        assert_eq!(3600 + more, BURST + 3600 * PER_SECOND);
    }
}
