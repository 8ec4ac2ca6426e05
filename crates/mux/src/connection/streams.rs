//! The streams of a connection by their numbers, and what their requests hold.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use sinew_plane::{
    BudgetUse, Error, Unanswered,
    budget::{Account, Tally, Work},
};

use super::Driver;
use crate::stream::{CallerStream, ProducerStream};

/// Bytes that a request costs besides its body: its entries in tables, its context, its task.
const REQUEST_COST_BYTES: usize = 1 << 10;

/// A table of streams with room for more than this many is given back when it is empty.
const KEPT_ENTRIES: usize = 64;

/// The streams of a connection by their numbers.
pub(super) struct Streams<D: Driver> {
    /// Opened by this side.
    pub(super) calls: FxHashMap<u32, Arc<CallerStream<D>>>,
    /// Opened by the peer.
    pub(super) responses: FxHashMap<u32, Arc<ProducerStream<D>>>,
    /// Bytes that the requests of those hold, and what is charged for them.
    requests_hold: usize,
    charged: Tally,
    /// Those among them whose callers may not have heard of their admission.
    pub(super) unanswered: Unanswered<u32>,
    /// No new ones: drained or closed.
    pub(super) draining: bool,
    pub(super) closed: bool,
}

impl<D: Driver> Default for Streams<D> {
    fn default() -> Self {
        Self {
            calls: FxHashMap::default(),
            responses: FxHashMap::default(),
            requests_hold: 0,
            charged: Tally::default(),
            unanswered: Unanswered::default(),
            draining: false,
            closed: false,
        }
    }
}

impl<D: Driver> Streams<D> {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.responses.is_empty()
    }

    /// Makes room in the memory budget for a request with so many bytes that are not charged yet.
    ///
    /// # Errors
    /// There is none: nothing has run for it.
    pub(super) fn admit(
        &mut self,
        bytes: usize,
        account: Option<&Arc<Account>>,
    ) -> Result<(), Error> {
        let Some(account) = account else { return Ok(()) };
        account.budget().admit()?;
        let hold = self.requests_hold + bytes + REQUEST_COST_BYTES;
        if !self.charged.cover(hold, BudgetUse::Bodies, account, Work::New) {
            return Err(account.budget().refusal());
        }
        self.requests_hold = hold;
        Ok(())
    }

    /// Takes a response out that has ended.
    pub(super) fn take_response(
        &mut self,
        stream: u32,
        account: Option<&Arc<Account>>,
    ) -> Option<Arc<ProducerStream<D>>> {
        let response = self.responses.remove(&stream)?;
        if let Some(account) = account {
            let held = response.request_bytes() + REQUEST_COST_BYTES;
            self.requests_hold = self.requests_hold.saturating_sub(held);
            self.charged.settle(self.requests_hold, BudgetUse::Bodies, account);
        }
        if self.responses.is_empty() && self.responses.capacity() > KEPT_ENTRIES {
            self.responses = FxHashMap::default();
        }
        Some(response)
    }

    /// Takes all responses out.
    pub(super) fn take_responses(
        &mut self,
        account: Option<&Arc<Account>>,
    ) -> FxHashMap<u32, Arc<ProducerStream<D>>> {
        self.requests_hold = 0;
        if let Some(account) = account {
            self.charged.clear(BudgetUse::Bodies, account);
        }
        std::mem::take(&mut self.responses)
    }

    /// Lets go of tables that nothing is in.
    pub(super) fn shrink(&mut self) {
        if self.calls.is_empty() && self.calls.capacity() > 0 {
            self.calls = FxHashMap::default();
        }
        if self.responses.is_empty() && self.responses.capacity() > 0 {
            self.responses = FxHashMap::default();
        }
    }
}
