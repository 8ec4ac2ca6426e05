//! The charge of a connection with one stream in the memory budget.

use std::sync::Arc;

use sinew_plane::{
    Budget, BudgetUse, Error,
    budget::{Account, Hold, Work},
};

/// A connection holds so much without a charge: most never hold more.
const FREE_BYTES: usize = 16 << 10;

/// Step in which what is charged grows, in bytes.
const STEP_BYTES: usize = 16 << 10;

/// What one connection holds of the budget for one use. It has an account of its own from the first
/// charge on, so that a connection which holds little costs none.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Option<Arc<Budget>>,
    what: BudgetUse,
    account: Option<Arc<Account>>,
    hold: Option<Hold>,
}

impl Share {
    pub(crate) fn new(budget: Option<&Arc<Budget>>, what: BudgetUse) -> Self {
        Self { budget: budget.cloned(), what, account: None, hold: None }
    }

    /// Sees to it that `bytes` are charged. False, and nothing changes, without room.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let held = self.hold.as_ref().map_or(FREE_BYTES, Hold::bytes);
        bytes <= held || self.grow(bytes)
    }

    #[cold]
    fn grow(&mut self, bytes: usize) -> bool {
        let what = self.what;
        let bytes = bytes.next_multiple_of(STEP_BYTES);
        let Some(account) = self.account() else { return true };
        let account = Arc::clone(account);
        match &mut self.hold {
            Some(hold) => hold.grow_to(bytes, Work::Running),
            None => {
                self.hold = account.hold(what, bytes, Work::Running);
                self.hold.is_some()
            }
        }
    }

    /// No more than `bytes` are needed: gives back what is far beyond that.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let Some(hold) = &mut self.hold else { return };
        if bytes <= FREE_BYTES {
            self.hold = None;
        } else if hold.bytes() > bytes + 2 * STEP_BYTES {
            hold.shrink_to(bytes.next_multiple_of(STEP_BYTES));
        }
    }

    /// Bytes that are charged.
    pub(crate) fn charged(&self) -> usize {
        self.hold.as_ref().map_or(0, Hold::bytes)
    }

    /// The account, where there is a budget.
    pub(crate) fn account(&mut self) -> Option<&Arc<Account>> {
        let budget = self.budget.as_ref()?;
        Some(self.account.get_or_insert_with(|| budget.open()))
    }

    /// How a stream ends for whose next item there is no room.
    pub(crate) fn overflow(&self) -> Option<Error> {
        self.budget.as_ref().map(|budget| budget.overflow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_free_part_is_charged_and_given_back() {
        let budget = Budget::new(4 << 20);
        let mut share = Share::new(Some(&budget), BudgetUse::Queued);
        assert!(share.cover(FREE_BYTES) && budget.total() == 0);
        assert!(share.cover(100 << 10));
        assert_eq!((share.charged(), budget.total()), (112 << 10, 112 << 10));
        share.settle(90 << 10);
        assert_eq!(budget.total(), 112 << 10, "it comes and goes");
        share.settle(50 << 10);
        assert_eq!(budget.total(), 64 << 10);
        assert!(!share.cover(2 << 20), "more than one connection may hold");
        assert_eq!(budget.total(), 64 << 10);
        drop(share);
        assert_eq!(budget.total(), 0);
        assert!(Share::new(None, BudgetUse::Queued).cover(usize::MAX / 2));
    }
}
