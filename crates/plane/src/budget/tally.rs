//! Charges bytes that change in small amounts, in steps.

use super::{Account, BudgetUse, Work};

/// Step in which a tally grows, in bytes.
const STEP_BYTES: usize = 2 << 10;

/// A tally gives nothing back before so much of it is unused, so that a stream whose items come
/// and go does not charge and release for each. Without this while the budget is more than half
/// used.
const SLACK_BYTES: usize = 16 << 10;

/// The charge for something whose size changes often, such as the items that a stream keeps.
///
/// It is charged in steps of 2 KiB and keeps up to 16 KiB that it does not need, so that the atomic
/// counters of the budget are not touched for each item. It holds no reference to its account: pass
/// the same account to each call, and release the charge with [`clear`](Self::clear).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    charged: usize,
}

impl Tally {
    /// Bytes that are charged.
    pub fn charged(&self) -> usize {
        self.charged
    }

    /// Makes sure that at least `bytes` are charged. False if there is no room; nothing changes
    /// then.
    #[inline]
    #[must_use]
    pub fn cover(&mut self, bytes: usize, what: BudgetUse, account: &Account, work: Work) -> bool {
        bytes <= self.charged || self.grow(bytes, what, account, work)
    }

    #[cold]
    fn grow(&mut self, bytes: usize, what: BudgetUse, account: &Account, work: Work) -> bool {
        let target = bytes.next_multiple_of(STEP_BYTES);
        let charged = account.charge(what, target - self.charged, work);
        if charged {
            self.charged = target;
        }
        charged
    }

    /// Releases what far exceeds `bytes`, because no more is needed.
    #[inline]
    pub fn settle(&mut self, bytes: usize, what: BudgetUse, account: &Account) {
        if self.charged > bytes + STEP_BYTES {
            self.give_back(bytes, what, account);
        }
    }

    fn give_back(&mut self, bytes: usize, what: BudgetUse, account: &Account) {
        let target = bytes.next_multiple_of(STEP_BYTES);
        let unused = self.charged - target;
        if unused > SLACK_BYTES || account.budget().is_tight() {
            account.release(what, unused);
            self.charged = target;
        }
    }

    /// Releases the whole charge.
    pub fn clear(&mut self, what: BudgetUse, account: &Account) {
        account.release(what, std::mem::take(&mut self.charged));
    }
}
