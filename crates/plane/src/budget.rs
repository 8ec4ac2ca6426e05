//! One bound, in bytes, for what peers can make a process hold.
//!
//! Code that holds a request body that is arriving, an item that waits for its acknowledgement, or
//! a frame that is not complete first charges these bytes to the [`Budget`] of the process, through
//! the [`Account`] of the peer's connection. A process has one budget, which is passed in. A new
//! use of memory gets a name in [`BudgetUse`], not a budget of its own.
//!
//! New requests are refused first: they may fill the budget up to [`Budget::new_work_limit`], and
//! requests that run may fill it completely. Once it is spent, what can be [done without](Dispensable)
//! is taken back. If it stays spent, its [holders](Holder) name the
//! streams that have waited longest for their readers, and those are ended.

mod account;
mod amount;
mod relief;
mod tally;

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use self::relief::Relief;
pub use self::{
    account::{Account, Hold, Spare, Work},
    amount::available_memory,
    relief::{Dispensable, Holder, Stalled},
    tally::Tally,
};
use crate::{Code, Error, Executed};

/// Smallest budget, in bytes. Below it, one connection's share could not hold a message of 1 MiB.
pub const MIN_BUDGET_BYTES: usize = 4 << 20;

/// A connection may hold one part in so many of the budget, so that it takes several to spend it.
const SHARES: usize = 4;

/// New work may fill so many eighths of the budget; what runs may fill the rest too.
const NEW_WORK_EIGHTHS: usize = 7;

macro_rules! uses {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// What bytes are used for: the label `use` of the metric `budget_bytes`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum BudgetUse { $($(#[$doc])* $variant,)+ }

        impl BudgetUse {
            /// Every use.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The use as the metric's label spells it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

uses! {
    /// Request bodies that are arriving or that handlers hold.
    Bodies = "bodies",
    /// Frames of Dynamo's protocols that are arriving, and requests that arrived in them or over
    /// NATS.
    Frames = "frames",
    /// Response items that are kept until the consumer has acknowledged them.
    Kept = "kept",
    /// Response items that an endpoint retains for readers that come later.
    Retained = "retained",
    /// Items that wait for their consumer or for a socket.
    Queued = "queued",
    /// Read buffers that have grown, and memory of messages that is kept for the next ones.
    Buffers = "buffers",
    /// Connections, with what each of them needs without any stream.
    Connections = "connections",
    /// Stream ids that are kept for a while.
    Ids = "ids",
    /// Requests whose caller is being dialled, without their bodies.
    Waiting = "waiting",
}

/// The bytes that a process may hold on behalf of its peers, and how many are used.
///
/// A charge costs a few atomic additions and takes no lock. Charge in steps of some KiB; [`Tally`]
/// does that.
pub struct Budget {
    limit: usize,
    total: AtomicUsize,
    uses: [AtomicUsize; BudgetUse::ALL.len()],
    accounts: Mutex<Accounts>,
    relief: Relief,
}

/// The accounts that are open, and those that were dropped since the list was last swept.
#[derive(Default)]
struct Accounts {
    all: Vec<Weak<Account>>,
    swept_to: usize,
}

impl Budget {
    /// Makes a budget of `limit_bytes`, at least [`MIN_BUDGET_BYTES`].
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: limit_bytes.max(MIN_BUDGET_BYTES),
            total: AtomicUsize::new(0),
            uses: Default::default(),
            accounts: Mutex::default(),
            relief: Relief::default(),
        })
    }

    /// A quarter of the memory that the process may use, as [`available_memory`] returns it; 1 GiB
    /// if that is not known.
    pub fn default_bytes() -> usize {
        available_memory().map_or(1 << 30, |bytes| bytes / 4).max(MIN_BUDGET_BYTES)
    }

    /// Its size in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How much of it new requests may fill, in bytes.
    pub fn new_work_limit(&self) -> usize {
        self.limit / 8 * NEW_WORK_EIGHTHS
    }

    /// The most that one account may hold, in bytes.
    pub fn share(&self) -> usize {
        self.limit / SHARES
    }

    /// Bytes that are held now, for all uses.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes that are held now for one use.
    pub fn used(&self, what: BudgetUse) -> usize {
        self.uses[what as usize].load(Ordering::Relaxed)
    }

    /// True if new requests have to be refused.
    pub fn is_spent(&self) -> bool {
        self.total() >= self.new_work_limit()
    }

    /// True from half of the budget on: what is held without need is let go of.
    pub(crate) fn is_tight(&self) -> bool {
        self.total() >= self.limit / 2
    }

    /// Checks whether a new request may begin.
    ///
    /// # Errors
    /// [`Code::Overloaded`], certainly not executed: the budget is spent.
    pub fn admit(&self) -> Result<(), Error> {
        if !self.is_spent() {
            return Ok(());
        }
        self.relief.call_for();
        Err(self.refusal())
    }

    /// The error of a request that is refused because the budget is spent. No handler ran, and
    /// another server may have room.
    pub fn refusal(&self) -> Error {
        let message = format!(
            "the server's memory budget of {} MiB is spent (memory_budget)",
            self.limit >> 20
        );
        Error::new(Code::Overloaded, message).with_retry_after(relief::PATIENCE)
    }

    /// The error of a stream that is ended because the budget stays spent.
    pub fn eviction(&self) -> Error {
        let message = format!(
            "the memory budget of {} MiB stayed spent, and this stream was among those whose \
             readers were away for longest (memory_budget)",
            self.limit >> 20
        );
        Error::new(Code::Exhausted, message).with_executed(Executed::Yes)
    }

    /// The error of a stream whose items have arrived and exceed the budget.
    pub fn overflow(&self) -> Error {
        let message = format!(
            "the memory budget of {} MiB has no room for an item that has arrived (memory_budget)",
            self.limit >> 20
        );
        Error::new(Code::Exhausted, message).with_executed(Executed::Yes)
    }

    /// Opens the account of one connection, or of another part that holds bytes for itself.
    pub fn open(self: &Arc<Self>) -> Arc<Account> {
        let account = Account::new(Arc::clone(self));
        let mut accounts = self.accounts.lock();
        // Swept when it has doubled, so that opening one stays cheap.
        if accounts.all.len() >= 2 * accounts.swept_to + 16 {
            accounts.all.retain(|account| account.strong_count() > 0);
            accounts.swept_to = accounts.all.len();
            let kept = 2 * accounts.swept_to;
            accounts.all.shrink_to(kept);
        }
        accounts.all.push(Arc::downgrade(&account));
        account
    }

    /// Adds to what is held, if the sum stays under `ceiling`.
    fn add(&self, what: BudgetUse, bytes: usize, ceiling: usize) -> bool {
        let before = self.total.fetch_add(bytes, Ordering::SeqCst);
        if before.saturating_add(bytes) > ceiling {
            self.total.fetch_sub(bytes, Ordering::SeqCst);
            self.relief.call_for();
            return false;
        }
        self.uses[what as usize].fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn remove(&self, what: BudgetUse, bytes: usize) {
        self.uses[what as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::SeqCst);
        self.relief.on_release();
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit)
            .field("total", &self.total())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
