//! The account of one connection in the budget.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::{Budget, BudgetUse, Holder};

/// The priority of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A request that has not run yet. It is refused while there is still room for those that run.
    New,
    /// A request that runs.
    Running,
}

/// The share of one connection, or of another part of the process, in the [`Budget`].
///
/// Made by [`Budget::open`]. Release everything that was charged to it before you drop it.
pub struct Account {
    budget: Arc<Budget>,
    used: AtomicUsize,
    holder: OnceLock<Weak<dyn Holder>>,
}

impl Account {
    pub(super) fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget, used: AtomicUsize::new(0), holder: OnceLock::new() })
    }

    /// The budget it belongs to.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Bytes that are charged now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that a running request could charge now.
    pub fn room(&self) -> usize {
        let of_share = self.budget.share().saturating_sub(self.used());
        of_share.min(self.budget.limit().saturating_sub(self.budget.total()))
    }

    /// Sets the holder that can end streams of this account if the budget stays spent. The first
    /// call counts.
    pub fn held_by(&self, holder: Weak<dyn Holder>) {
        // Named twice: the first is asked already.
        let _ = self.holder.set(holder);
    }

    pub(super) fn holder(&self) -> Option<Arc<dyn Holder>> {
        self.holder.get()?.upgrade()
    }

    /// Charges `bytes` bytes. False if the budget or this account's share of it has no room;
    /// nothing is charged then.
    #[must_use]
    pub fn charge(&self, what: BudgetUse, bytes: usize, work: Work) -> bool {
        let budget = &self.budget;
        let ceiling = match work {
            Work::New => budget.new_work_limit(),
            Work::Running => budget.limit(),
        };
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= budget.share();
        if fits && budget.add(what, bytes, ceiling) {
            return true;
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Releases bytes that were charged.
    pub fn release(&self, what: BudgetUse, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.remove(what, bytes);
        }
    }

    /// Charges `bytes` bytes until the result is dropped; `None` if there is no room.
    pub fn hold(self: &Arc<Self>, what: BudgetUse, bytes: usize, work: Work) -> Option<Hold> {
        self.charge(what, bytes, work).then(|| Hold { account: Arc::clone(self), what, bytes })
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("used", &self.used()).finish_non_exhaustive()
    }
}

/// Bytes that are charged until this value is dropped.
#[derive(Debug)]
pub struct Hold {
    account: Arc<Account>,
    what: BudgetUse,
    bytes: usize,
}

impl Hold {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges more, up to `bytes` in all; false if there is no room. Never reduces the charge.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize, work: Work) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.account.charge(self.what, more, work) {
            return false;
        }
        self.bytes += more;
        true
    }

    /// Releases what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.account.release(self.what, surplus);
        self.bytes -= surplus;
    }

    /// Returns `payload` as bytes that stay charged until the last reference to them is dropped.
    pub fn cover(self, payload: Bytes) -> Bytes {
        Bytes::from_owner(Covered { payload, _hold: self })
    }
}

struct Covered {
    payload: Bytes,
    _hold: Hold,
}

impl AsRef<[u8]> for Covered {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.account.release(self.what, self.bytes);
    }
}

/// Memory that is kept for the next message. It is charged to the budget, but to no account.
#[derive(Debug)]
pub struct Spare {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Charges memory that is kept for later use, until the result is dropped. `None` if an eighth
    /// of the budget is kept in this way, or half of the budget is used: free the memory then.
    pub fn spare(self: &Arc<Self>, bytes: usize) -> Option<Spare> {
        let fits = self.used(BudgetUse::Buffers).saturating_add(bytes) <= self.limit() / 8;
        let charged = fits && !self.is_tight() && self.add(BudgetUse::Buffers, bytes, self.limit());
        charged.then(|| Spare { budget: Arc::clone(self), bytes })
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.budget.remove(BudgetUse::Buffers, self.bytes);
    }
}
