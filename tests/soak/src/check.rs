//! One stream, checked item by item.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::content::{Ask, number};

/// Missing numbers that a stream remembers: what comes later than that counts as doubled.
const REMEMBERED: usize = 100_000;

/// What was wrong with items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// They never came.
    pub(crate) lost: u64,
    /// They came again.
    pub(crate) doubled: u64,
    /// They came behind a later one.
    pub(crate) swapped: u64,
    /// Their content is not what the seed gives.
    pub(crate) damaged: u64,
    /// Streams that did not end as complete.
    pub(crate) broken: u64,
}

impl Faults {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.swapped += other.swapped;
        self.damaged += other.damaged;
        self.broken += other.broken;
    }
}

/// Compares what comes with what was asked for.
pub(crate) struct Checker {
    ask: Ask,
    next: u64,
    missing: BTreeSet<u64>,
    faults: Faults,
}

impl Checker {
    pub(crate) fn new(ask: Ask) -> Self {
        Self { ask, next: 0, missing: BTreeSet::new(), faults: Faults::default() }
    }

    pub(crate) fn item(&mut self, item: &[u8]) {
        let Some(number) = number(item).filter(|number| *number < self.ask.items) else {
            self.faults.damaged += 1;
            return;
        };
        if self.ask.item(number) != item {
            self.faults.damaged += 1;
        }
        if number >= self.next {
            let room = REMEMBERED.saturating_sub(self.missing.len());
            self.missing.extend((self.next..number).take(room));
            self.faults.lost += number - self.next;
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.faults.lost -= 1;
            self.faults.swapped += 1;
        } else {
            self.faults.doubled += 1;
        }
    }

    /// What was wrong, now that the stream has ended; `complete` with as many items if it says so.
    pub(crate) fn end(mut self, complete: Option<u64>) -> Faults {
        if complete != Some(self.ask.items) {
            self.faults.broken += 1;
        }
        self.faults.lost += self.ask.items - self.next;
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(numbers: impl IntoIterator<Item = u64>, complete: Option<u64>) -> Faults {
        let ask = Ask { stream: 3, seed: 9, items: 5, pace_micros: 0 };
        let mut checker = Checker::new(ask);
        numbers.into_iter().for_each(|number| checker.item(&ask.item(number)));
        checker.end(complete)
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        let none = Faults::default();
        assert!(checked(0..5, Some(5)).is_none());
        assert_eq!(checked([0, 1, 3, 4], Some(5)), Faults { lost: 1, ..none });
        assert_eq!(checked([0, 1, 1, 2, 3, 4], Some(5)), Faults { doubled: 1, ..none });
        assert_eq!(checked([0, 2, 1, 3, 4], Some(5)), Faults { swapped: 1, ..none });
        assert_eq!(checked(0..3, None), Faults { lost: 2, broken: 1, ..none });
        assert_eq!(checked(0..5, Some(4)), Faults { broken: 1, ..none });
        let ask = Ask { stream: 3, seed: 9, items: 1, pace_micros: 0 };
        for wrong in [Ask { seed: 8, ..ask }.item(0), Ask { stream: 4, ..ask }.item(0)] {
            let mut checker = Checker::new(ask);
            checker.item(&wrong);
            assert_eq!(checker.end(Some(1)), Faults { damaged: 1, ..none });
        }
    }
}
