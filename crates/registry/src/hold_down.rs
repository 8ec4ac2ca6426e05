//! Routes that failed a moment ago.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sinew_plane::Address;

/// Most addresses that are held down at once. Beyond it the one whose time is up first makes
/// room: a wrong guess costs one connect, not memory.
const MAX_HELD: usize = 1024;

/// Which addresses could not be connected to, and until when others are tried before them.
#[derive(Debug)]
pub(crate) struct HoldDowns {
    period: Duration,
    until: HashMap<Address, Instant>,
}

impl HoldDowns {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, until: HashMap::new() }
    }

    pub(crate) fn is_held(&self, address: &Address, now: Instant) -> bool {
        self.until.get(address).is_some_and(|until| now < *until)
    }

    pub(crate) fn failed(&mut self, address: &Address, now: Instant) {
        if self.until.len() >= MAX_HELD {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= MAX_HELD {
            let first = self.until.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(address, _)| address.clone()) {
                self.until.remove(&first);
            }
        }
        self.until.insert(address.clone(), now + self.period);
    }

    pub(crate) fn succeeded(&mut self, address: &Address) {
        if !self.until.is_empty() {
            self.until.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> Address {
        Address::new("tcp", &format!("host:{n}")).unwrap()
    }

    #[test]
    fn a_hold_ends_with_its_period_or_a_success() {
        let mut held = HoldDowns::new(Duration::from_secs(5));
        let now = Instant::now();
        held.failed(&address(1), now);
        assert!(held.is_held(&address(1), now + Duration::from_millis(4999)));
        assert!(!held.is_held(&address(1), now + Duration::from_secs(5)));
        assert!(!held.is_held(&address(2), now));
        held.succeeded(&address(1));
        assert!(!held.is_held(&address(1), now));
    }

    #[test]
    fn many_dead_addresses_do_not_gather() {
        let mut held = HoldDowns::new(Duration::from_secs(5));
        let now = Instant::now();
        for n in 0..3 * MAX_HELD {
            held.failed(&address(n), now + Duration::from_micros(n as u64));
        }
        assert_eq!(held.until.len(), MAX_HELD);
        assert!(held.is_held(&address(3 * MAX_HELD - 1), now), "the newest are kept");
    }
}
