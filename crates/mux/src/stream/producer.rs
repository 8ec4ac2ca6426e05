//! A stream that the peer opened: the sending end of a response.

mod attach;
mod push;

pub(crate) use self::attach::Attached;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
    task::{self, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use sinew_plane::{
    BudgetUse, CancelReason, Checkpoint, Context, Error, Executed, Headers, ItemRun, OnCancel,
    SinkTarget, StopKind, StreamId, Terminal, TrySendError,
    budget::{Stalled, Tally, Work},
    clock, defer_flush, try_send_each,
};

use super::place::{At, Placed};
use crate::{
    Connection, Credit, Driver, Open, Outbound, PollFrame, Producer, StreamViolation,
    session::Grace,
};

/// Bytes that a request costs besides its body: its entries in tables, its context, its task.
pub(crate) const REQUEST_COST_BYTES: usize = 1 << 10;

/// A response on its way to the peer.
pub struct ProducerStream<D: Driver> {
    context: Context,
    /// What an attach has to show.
    secret: u64,
    /// Bytes of the request that the connection charges until this ends.
    request_bytes: usize,
    /// How long it is kept after the loss of its connection: a [`Grace`].
    grace: AtomicU32,
    state: Placed<D, State>,
    /// Itself, to be told of a cancel while somebody waits.
    this: Weak<Self>,
}

struct State {
    producer: Producer,
    waker: Option<Waker>,
    /// Stands in the connection's line.
    queued: bool,
    /// The batch that was being gathered when it last sent an item from outside the line; 0 for
    /// none.
    batch: u32,
    /// Is told when its context is cancelled.
    listens: bool,
    lost: Option<Error>,
    /// What is charged for the items that are kept.
    kept: Tally,
    /// An item that costs so many bytes found no room in the memory budget.
    starved: Option<NonZeroUsize>,
    /// Since when an item waits for the consumer, or for the budget.
    parked: Option<Instant>,
    /// The terminal is on its way or will never be.
    over: bool,
    /// Its connection is lost, and its consumer may come back.
    is_detached: bool,
}

impl<D: Driver> ProducerStream<D> {
    pub(crate) fn new(
        (stream, open, request_bytes): (u32, &Open, usize),
        connection: Arc<Connection<D>>,
        context: Context,
    ) -> Arc<Self> {
        let limit = connection.max_window();
        let state = State {
            producer: Producer::new(open.window).with_limit(limit),
            waker: None,
            queued: false,
            batch: 0,
            listens: false,
            lost: None,
            kept: Tally::default(),
            starved: None,
            parked: None,
            over: false,
            is_detached: false,
        };
        Arc::new_cyclic(|this| Self {
            context,
            secret: open.secret,
            request_bytes,
            grace: AtomicU32::new(Grace::new(None).to_bits()),
            state: Placed::new(connection, stream, state),
            this: this.clone(),
        })
    }

    /// Bytes of the request that are charged for as long as this is in the connection's table.
    pub(crate) fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// What this holds, if an item waits since `before` or longer.
    pub(crate) fn stalled(&self, before: Instant) -> Option<Stalled> {
        let mut state = self.state.lock();
        let (state, At { number: stream, .. }) = state.parts();
        let since = state.parked.filter(|since| *since <= before && !state.over)?;
        let bytes = state.kept.charged();
        (bytes > 0).then_some(Stalled { since, stream, bytes })
    }

    /// Ends the stream because this side cannot hold it any longer, and lets go of its items.
    pub(crate) fn evict(&self, error: &Error) {
        let (ended, waker, (connection, stream)) = {
            let mut locked = self.state.lock();
            let (state, at) = locked.parts();
            if state.over {
                return;
            }
            state.producer.abandon(error.clone());
            state.lost = Some(error.clone());
            state.settle(at);
            let ended = state.send(at) == PollFrame::Ended;
            (ended, state.waker.take(), locked.current())
        };
        if ended {
            connection.remove_response(stream);
        }
        self.context.cancel(StopKind::Kill, CancelReason::Evicted);
        if let Some(waker) = waker {
            waker.wake();
        }
        D::transmit(&connection);
    }

    /// What its handler hears of a cancel.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The id that the consumer has chosen.
    pub(crate) fn id(&self) -> StreamId {
        self.context.id()
    }

    /// Credit came. False when it brought nothing.
    pub(crate) fn on_credit(
        &self,
        credit: Credit,
        wakers: &mut Vec<Waker>,
    ) -> Result<bool, StreamViolation> {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        let brought = state.producer.on_credit(credit)?;
        if brought {
            state.parked = None;
            state.settle(at);
        }
        if brought && state.producer.is_ready() {
            wakers.extend(state.waker.take());
        }
        Ok(brought)
    }

    /// The consumer wants the stream to end. After a kill nothing more is sent but the end.
    pub(crate) fn cancel(&self, kind: StopKind, reason: CancelReason) {
        self.context.cancel(kind, reason);
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection is gone, and with it the only way to the consumer.
    pub(crate) fn on_connection_lost(&self, error: &Error) {
        let waker = {
            let mut state = self.state.lock();
            let (state, at) = state.parts();
            // Nobody comes back for it, so nothing is kept until its handler has noticed.
            state.producer.abandon(error.clone());
            state.producer.on_carrier_lost();
            state.settle(at);
            state.lost = Some(error.clone());
            state.over = true;
            state.waker.take()
        };
        self.context.cancel(StopKind::Kill, CancelReason::Disconnected);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Sends more, its turn having come.
    pub(crate) fn send_next(&self, on: &Connection<D>, number: u32) -> PollFrame {
        let mut state = self.state.lock();
        if !state.is_on(on, number) {
            // It stood in line there, and is elsewhere now.
            return PollFrame::Idle;
        }
        if state.is_detached {
            return PollFrame::Idle;
        }
        state.queued = false;
        if state.over {
            // Refused while it stood in line: nothing follows on that.
            return PollFrame::Idle;
        }
        let mut out = on.out.lock();
        state.advance(number, &mut out.outbound)
    }

    fn closed_by(&self, state: &State) -> Option<Error> {
        if let Some(error) = &state.lost {
            return Some(error.clone());
        }
        if self.context.is_killed() {
            let reason = self.context.reason().unwrap_or(CancelReason::Caller);
            return Some(Error::cancelled(reason).with_executed(Executed::Yes));
        }
        None
    }
}

impl State {
    /// Charges items that cost so many bytes and are to be kept. False when the budget has no room.
    fn charge<D: Driver>(&mut self, at: At<'_, D>, cost: usize) -> bool {
        let Some(account) = &at.connection.account else { return true };
        let kept = self.producer.kept_bytes() + cost;
        let charged = self.kept.cover(kept, BudgetUse::Kept, account, Work::Running);
        self.starved = if charged { None } else { NonZeroUsize::new(cost) };
        charged
    }

    /// Charges head, facts and checkpoints as far as the budget has room: they are kept without it too, since
    /// each is small and their handler has nothing to wait for.
    fn charge_metadata<D: Driver>(&mut self, at: At<'_, D>) {
        if let Some(account) = &at.connection.account {
            let kept = self.producer.kept_bytes();
            let _ = self.kept.cover(kept, BudgetUse::Kept, account, Work::Running);
        }
    }

    /// Charges no more than what is kept.
    fn settle<D: Driver>(&mut self, at: At<'_, D>) {
        if let Some(account) = &at.connection.account {
            self.kept.settle(self.producer.kept_bytes(), BudgetUse::Kept, account);
        }
    }

    /// True when the item that found no room would find it now; else `waker` is woken when that
    /// may be so.
    fn has_room<D: Driver>(&mut self, at: At<'_, D>, waker: &Waker) -> bool {
        let Some(cost) = self.starved else { return true };
        let Some(account) = &at.connection.account else { return true };
        account.wait_for_room(at.number, cost.get(), waker);
        self.charge(at, cost.get())
    }

    /// Sends at once when nobody stands in line, else goes to the end of it.
    fn send<D: Driver>(&mut self, at: At<'_, D>) -> PollFrame {
        if self.queued {
            return PollFrame::More;
        }
        let mut out = at.connection.out.lock();
        if out.outbound.is_clear() {
            return self.advance(at.number, &mut out.outbound);
        }
        out.outbound.queue(at.number);
        self.queued = true;
        PollFrame::More
    }

    /// Sends the first item since the last write at once, as [`send`](Self::send), and lets those
    /// that follow wait in line: they are all moved in one go then, without a look at the outbox
    /// for each.
    #[inline(always)]
    fn send_item<D: Driver>(&mut self, at: At<'_, D>) {
        if self.queued {
            return;
        }
        let mut out = at.connection.out.lock();
        let batch = out.outbound.outbox().batch_number();
        let is_first = std::mem::replace(&mut self.batch, batch) != batch;
        if is_first && out.outbound.is_clear() {
            self.advance(at.number, &mut out.outbound);
        } else {
            out.outbound.queue(at.number);
            self.queued = true;
        }
    }

    /// Moves frames into the outbox, or the stream into the line when there is no room.
    #[inline]
    fn advance(&mut self, stream: u32, outbound: &mut Outbound) -> PollFrame {
        let polled = self.producer.poll_frame(stream, outbound.outbox());
        match polled {
            PollFrame::More => {
                outbound.queue(stream);
                self.queued = true;
            }
            PollFrame::Ended => self.over = true,
            PollFrame::Idle => {}
        }
        polled
    }
}

impl<D: Driver> Drop for ProducerStream<D> {
    fn drop(&mut self) {
        let (state, connection) = self.state.get_mut();
        if let Some(account) = &connection.account {
            state.kept.clear(BudgetUse::Kept, account);
        }
    }
}

impl<D: Driver> OnCancel for ProducerStream<D> {
    fn on_cancel(&self, _kind: StopKind, _reason: CancelReason) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<D: Driver> SinkTarget for ProducerStream<D> {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut locked = self.state.lock();
        let (state, at) = locked.parts();
        if let Some(error) = self.closed_by(state) {
            return Poll::Ready(Err(error));
        }
        let ready = state.producer.is_ready() || state.producer.is_finished();
        if ready && state.has_room(at, cx.waker()) {
            return Poll::Ready(Ok(()));
        }
        state.parked.get_or_insert_with(clock::now);
        state.waker = Some(cx.waker().clone());
        let listens = std::mem::replace(&mut state.listens, true);
        drop(locked);
        if !listens {
            // Most responses never wait, so most need no listener.
            self.context.on_cancel(self.this.clone());
        }
        Poll::Pending
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if let Some(error) = self.closed_by(state) {
            return Err(TrySendError::Closed(error));
        }
        state.push(at, item)
    }

    fn head(&self, head: Headers) {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.lost.is_none() && !state.over {
            state.producer.set_head(head);
            state.charge_metadata(at);
            state.send(at);
        }
    }

    fn set_facts(&self, facts: Headers) {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.lost.is_none() && !state.over {
            state.producer.set_facts(facts);
            state.charge_metadata(at);
        }
    }

    fn acknowledged(&self) -> Option<u64> {
        Some(self.state.lock().producer.acknowledged())
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.lost.is_none() && !state.over {
            state.producer.add_checkpoint(checkpoint);
            state.charge_metadata(at);
            // Mostly it belongs to an item that is still to come.
            if state.producer.has_output() {
                state.send(at);
            }
        }
    }

    fn try_send_run(&self, run: &mut ItemRun) -> Result<usize, Error> {
        let pushed = {
            let mut state = self.state.lock();
            let (state, at) = state.parts();
            if let Some(error) = self.closed_by(state) {
                return Err(error);
            }
            state.push_run(at, run)?
        };
        match pushed {
            Some(room) => Ok(room),
            None => try_send_each(self, run),
        }
    }

    fn accept(&self) {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.lost.is_none() && !state.over {
            state.producer.accept();
            state.send(at);
        }
    }

    fn finish(&self, terminal: Terminal) {
        let (connection, stream) = {
            let mut locked = self.state.lock();
            let attaches = locked.attaches();
            let (state, at) = locked.parts();
            if state.over || state.producer.is_finished() {
                return;
            }
            // Asked before a kill drops anything: a refusal must not follow a part of an item.
            let refused = state.producer.may_reject();
            if self.context.is_killed() {
                let reason = self.context.reason().unwrap_or(CancelReason::Caller);
                state.producer.discard_unsent(reason);
            }
            let may_reject = refused && attaches == 0 && !state.is_detached;
            let ended = match &terminal {
                Terminal::Failed { error } if may_reject && error.executed() == Executed::No => {
                    at.connection.out.lock().outbound.reject(at.number, error);
                    // What is said instead to a consumer that comes back for it.
                    state.producer.finish(terminal);
                    state.over = true;
                    true
                }
                _ => {
                    state.producer.finish(terminal);
                    state.send(at) == PollFrame::Ended
                }
            };
            if !ended {
                return;
            }
            locked.current()
        };
        connection.remove_response(stream);
    }

    fn flush(&self) {
        let connection = self.state.connection();
        if !defer_flush(&connection) {
            D::transmit(&connection);
        }
    }

    fn keep_for(&self, grace: Duration) {
        self.grace.store(Grace::new(Some(grace)).to_bits(), Ordering::Relaxed);
    }
}
