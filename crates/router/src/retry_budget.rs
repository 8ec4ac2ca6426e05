//! The retry budget: how many resends a router may add to the traffic.

use std::time::{Duration, Instant};

/// For how many seconds a request or a resend counts.
const WINDOW_SECS: usize = 10;
/// Slots of one second. One more than the window, so that no resend of the last ten seconds is
/// dropped because its second is only partly over.
const SLOTS: usize = WINDOW_SECS + 1;

/// The size of the retry budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudgetConfig {
    /// Resends per hundred requests.
    pub percent: u32,
    /// Resends per second in addition, so that a router with little traffic may resend at all.
    pub per_second: u32,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self { percent: 20, per_second: 10 }
    }
}

/// A token bucket for resends. Within any ten seconds it allows `percent` of the requests plus ten
/// times `per_second` resends, however many requests fail, so that many routers together do not
/// overload a service that recovers slowly.
#[derive(Debug)]
pub struct RetryBudget {
    config: RetryBudgetConfig,
    slots: [Slot; SLOTS],
    epoch: Instant,
    /// The second since `epoch` that the newest slot stands for.
    second: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    requests: u64,
    resends: u64,
}

impl RetryBudget {
    /// Makes a full budget.
    pub fn new(config: RetryBudgetConfig, now: Instant) -> Self {
        Self { config, slots: [Slot::default(); SLOTS], epoch: now, second: 0 }
    }

    /// Counts a request.
    pub fn on_request(&mut self, now: Instant) {
        self.slot(now).requests += 1;
    }

    /// Takes one resend out of the budget; false if none is left.
    pub fn try_resend(&mut self, now: Instant) -> bool {
        self.slot(now);
        let (requests, resends) = self.slots.iter().fold((0, 0), |(requests, resends), slot| {
            (requests + slot.requests, resends + slot.resends)
        });
        let allowed = requests * u64::from(self.config.percent) / 100
            + WINDOW_SECS as u64 * u64::from(self.config.per_second);
        if resends >= allowed {
            return false;
        }
        self.slot(now).resends += 1;
        true
    }

    /// The slot of this second, after the slots that have expired are emptied. A clock that goes
    /// backwards counts as stopped.
    fn slot(&mut self, now: Instant) -> &mut Slot {
        let second = now.saturating_duration_since(self.epoch).as_secs();
        let passed = second.saturating_sub(self.second).min(SLOTS as u64);
        for step in 1..=passed {
            self.slots[place(self.second + step)] = Slot::default();
        }
        self.second = self.second.max(second);
        &mut self.slots[place(self.second)]
    }

    /// Time after which nothing counts any more.
    pub const WINDOW: Duration = Duration::from_secs(SLOTS as u64);
}

fn place(second: u64) -> usize {
    // Less than SLOTS, so the cast cuts nothing.
    (second % SLOTS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn spend(budget: &mut RetryBudget, now: Instant) -> usize {
        std::iter::from_fn(|| budget.try_resend(now).then_some(())).count()
    }

    #[test]
    fn the_floor_and_the_percentage_add_up_and_come_back() {
        let start = Instant::now();
        let mut budget = RetryBudget::new(RetryBudgetConfig::default(), start);
        assert_eq!(spend(&mut budget, start), 100);
        for _ in 0..1000 {
            budget.on_request(start);
        }
        assert_eq!(spend(&mut budget, start), 200);
        assert_eq!(spend(&mut budget, start + Duration::from_secs(9)), 0);
        assert_eq!(spend(&mut budget, start + RetryBudget::WINDOW), 100);
        assert_eq!(spend(&mut budget, start + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(RetryBudgetConfig { percent: 0, per_second: 0 }, now);
        budget.on_request(now);
        assert!(!budget.try_resend(now));
    }

    proptest! {
        /// The promise, checked from outside: count over every ten seconds of any history.
        #[test]
        fn no_ten_seconds_see_more(steps in prop::collection::vec((0u64..3000, 0u32..40, 0u32..40), 1..60)) {
            let start = Instant::now();
            let mut now = start;
            let mut budget = RetryBudget::new(RetryBudgetConfig { percent: 20, per_second: 1 }, start);
            // (when, requests, resends); requests count for the window plus the partial second.
            let mut history: VecDeque<(Instant, u64, u64)> = VecDeque::new();
            for (wait, requests, wanted) in steps {
                now += Duration::from_millis(wait);
                for _ in 0..requests {
                    budget.on_request(now);
                }
                let granted = (0..wanted).filter(|_| budget.try_resend(now)).count() as u64;
                history.push_back((now, u64::from(requests), granted));
                let within = |length| history.iter().filter(move |one| now - one.0 < length);
                let resends: u64 = within(Duration::from_secs(10)).map(|one| one.2).sum();
                let seen: u64 = within(RetryBudget::WINDOW).map(|one| one.1).sum();
                if granted > 0 {
                    prop_assert!(resends <= seen / 5 + 10, "{resends} resends, {seen} requests");
                }
            }
        }
    }
}
