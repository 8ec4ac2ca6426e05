//! Detaches a producing stream from a lost connection and attaches it to another.

use std::{
    sync::{Arc, atomic::Ordering},
    task::Waker,
    time::{Duration, Instant},
};

use sinew_plane::{
    BudgetUse,
    budget::{Hold, Work},
};

use super::{ProducerStream, REQUEST_COST_BYTES};
use crate::{Attach, Connection, Driver, StreamViolation, session::Grace};

/// What became of an attach.
pub(crate) enum Attached {
    /// The stream is there. Who is to be woken.
    Here(Option<Waker>),
    /// It was given up meanwhile for want of memory, and has nothing to resend.
    Evicted,
}

impl<D: Driver> ProducerStream<D> {
    /// Whether an attach is for this stream, and none that was overtaken by a later one.
    pub(crate) fn takes(&self, attach: &Attach) -> bool {
        let state = self.state.lock();
        // One that was evicted has nothing to resend.
        let is_kept = self.secret != 0 && state.lost.is_none();
        is_kept && attach.secret == self.secret && attach.counter > state.attaches()
    }

    /// Whether another process may take the stream over from the item that it asks for.
    ///
    /// # Errors
    /// The secret is wrong; or, with the right one, which items are kept.
    pub(crate) fn gives(&self, attach: &Attach) -> Result<(), Option<(u64, u64)>> {
        let state = self.state.lock();
        let is_kept = self.secret != 0 && state.lost.is_none();
        if !is_kept || attach.secret != self.secret {
            return Err(None);
        }
        let (oldest, newest) = state.producer.resumable();
        if (oldest..=newest).contains(&attach.next_item) {
            return Ok(());
        }
        Err(Some((oldest, newest)))
    }

    /// The stream becomes one of another process, whose attaches are counted anew.
    pub(crate) fn change_hands(&self) {
        self.state.lock().forget_attaches();
    }

    /// Until when it waits for its consumer that has lost its connection now; `None` if it does not.
    pub(crate) fn waits_until(&self, now: Instant, of_connection: Duration) -> Option<Instant> {
        let grace = Grace::from_bits(self.grace.load(Ordering::Relaxed));
        // Without a secret nobody comes back for it.
        if self.secret == 0 { None } else { grace.until(now, of_connection) }
    }

    /// True until its handler has ended it.
    pub(crate) fn runs(&self) -> bool {
        !self.state.lock().producer.is_finished()
    }

    /// What the items that it keeps cost, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.state.lock().producer.kept_bytes()
    }

    /// Charges the request for the time without a connection.
    ///
    /// # Errors
    /// There is no room in the memory budget.
    pub(crate) fn hold_request(&self) -> Result<Option<Hold>, ()> {
        let connection = self.state.connection();
        let Some(account) = &connection.account else { return Ok(None) };
        let bytes = self.request_bytes + REQUEST_COST_BYTES;
        account.hold(BudgetUse::Bodies, bytes, Work::Running).map(Some).ok_or(())
    }

    /// The connection is gone, and the consumer may come back over another.
    pub(crate) fn detach(&self) {
        let mut state = self.state.lock();
        state.producer.on_carrier_lost();
        // It stands in no line, and is put into one when it is attached.
        (state.is_detached, state.queued, state.batch) = (true, true, 0);
        // Nothing can be charged to a connection that is gone, and what is charged stays so.
        state.parked = None;
    }

    /// The consumer is back over another connection, or under another number.
    ///
    /// # Errors
    /// The consumer asks for what it cannot.
    pub(crate) fn attach(
        &self,
        connection: &Arc<Connection<D>>,
        stream: u32,
        (attach, is_admitted): (&Attach, bool),
    ) -> Result<Attached, StreamViolation> {
        let mut locked = self.state.lock();
        let (state, old) = locked.parts();
        if state.lost.is_some() {
            return Ok(Attached::Evicted);
        }
        state.producer.on_attach(attach.next_item, attach.credit)?;
        if is_admitted {
            // Whatever its caller knew of it: it was lost with the connection.
            state.producer.accept();
        }
        if let Some(account) = &old.connection.account {
            state.kept.clear(BudgetUse::Kept, account);
        }
        locked.move_to(connection, stream, attach.counter);
        let state = &mut *locked;
        if let Some(account) = &connection.account {
            // There was room for it before.
            let kept = state.producer.kept_bytes();
            let _ = state.kept.cover(kept, BudgetUse::Kept, account, Work::Running);
        }
        // In line, for what it has.
        (state.is_detached, state.over, state.queued, state.batch) = (false, false, true, 0);
        connection.out.lock().outbound.queue(stream);
        Ok(Attached::Here(state.waker.take()))
    }
}
