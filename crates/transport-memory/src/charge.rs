//! The charge of a stream's waiting items in the memory budget.

use std::sync::Arc;

use sinew_plane::{
    Budget, BudgetUse,
    budget::{Account, Tally, Work},
};

/// So many bytes of a stream wait without a charge. Most streams never have more, and touch the
/// budget not at all.
const FREE_BYTES: usize = 16 << 10;

/// What is charged for one stream. The account is its own, and is opened with the first charge.
#[derive(Default)]
pub(crate) struct Charge(Option<(Arc<Account>, Tally)>);

impl Charge {
    /// So many bytes wait. Where the budget has no room they are held all the same: the window of
    /// the stream bounds them, and who sends them is in this process and cannot be told to wait for
    /// what others hold.
    #[inline]
    pub(crate) fn cover(&mut self, bytes: usize, budget: Option<&Arc<Budget>>) {
        if bytes > FREE_BYTES
            && let Some(budget) = budget
        {
            self.grow(bytes, budget);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize, budget: &Arc<Budget>) {
        let (account, tally) = self.0.get_or_insert_with(|| (budget.open(), Tally::default()));
        let _ = tally.cover(bytes, BudgetUse::Queued, account, Work::Running);
    }

    /// Nothing waits any more.
    #[inline]
    pub(crate) fn release(&mut self) {
        if let Some((account, tally)) = &mut self.0 {
            tally.settle(0, BudgetUse::Queued, account);
        }
    }

    /// Nothing will wait again.
    pub(crate) fn clear(&mut self) {
        if let Some((account, mut tally)) = self.0.take() {
            tally.clear(BudgetUse::Queued, &account);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.clear();
    }
}
