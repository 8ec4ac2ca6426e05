//! A stream that this side opened: the receiving end of a response.

mod attach;
mod source;

use std::{sync::Arc, task::Waker};

use bytes::Bytes;
use sinew_plane::{
    BudgetUse, CancelReason, Checkpoint, Code, Error, Executed, Headers, ItemBatch, OnCancel,
    SourceEvent, StopKind, StreamId, Terminal, Window,
    budget::{Tally, Work},
};

use super::place::{At, Foreign, Placed};
use crate::{
    Arrived, Connection, Consumer, Driver, Ended, READ_BYTES, StreamViolation,
    session::{Grace, behind},
};

/// Items that came together are copied for a consumer that lags if they are at most this many
/// bytes: a quarter of a read buffer, so that what is held stays within a small factor of what is
/// used.
const COPY_BYTES: usize = READ_BYTES / 4;

/// A request that was sent, with its response as it arrives.
pub struct CallerStream<D: Driver> {
    /// As bytes, which take no more room than their own.
    id: [u8; 16],
    /// How long it waits for another connection.
    grace: Grace,
    state: Placed<D, State>,
}

struct State {
    consumer: Consumer,
    /// The piece of reading that the oldest waiting item came with.
    read: u32,
    waker: Option<Waker>,
    /// What of the request body is still to be sent, from an offset on. Few streams have a body that
    /// is not sent at once.
    body: Option<Box<(Bytes, usize)>>,
    lost: Option<Error>,
    /// It was a frame of this stream that broke the protocol.
    broke: bool,
    /// What is charged for the items that wait.
    queued: Tally,
    cancelled: Option<StopKind>,
    /// Nobody will look at the items any more.
    abandoned: bool,
    /// Its connection is lost, and it may come back over another.
    is_detached: bool,
    /// The error of that loss, for the case that it cannot be resumed.
    loss: Option<Error>,
}

impl<D: Driver> CallerStream<D> {
    pub(crate) fn new(
        (id, grace): (StreamId, Grace),
        (connection, stream): (Arc<Connection<D>>, u32),
        window: Window,
    ) -> Self {
        let state = State::new(Consumer::new(window));
        Self { id: id.0.to_ne_bytes(), grace, state: Placed::new(connection, stream, state) }
    }

    /// Leaves the rest of the body to the line.
    pub(crate) fn send_body(&self, body: Bytes, sent: usize) {
        let mut state = self.state.lock();
        // Its connection may be lost since it was opened: the request is then lost with it.
        let is_elsewhere = state.is_detached || state.attaches() > 0;
        let (state, at) = state.parts();
        if is_elsewhere || state.consumer.ended().is_some() {
            return;
        }
        state.body = Some(Box::new((body, sent)));
        at.connection.out.lock().outbound.queue(at.number);
    }

    /// Sends the next chunk of the body, its turn having come.
    pub(crate) fn send_next(&self, on: &Connection<D>, number: u32) {
        let mut state = self.state.lock();
        if !state.is_on(on, number) {
            return;
        }
        let Some(mut rest) = state.body.take() else { return };
        let (body, sent) = &mut *rest;
        let mut out = on.out.lock();
        *sent = out.outbound.body_chunk(number, body, *sent);
        if *sent < body.len() {
            state.body = Some(rest);
            out.outbound.queue(number);
        }
    }

    /// Something arrived for the stream: `step` puts it into the consumer.
    pub(crate) fn on_frame(
        &self,
        wakers: &mut Vec<Waker>,
        step: impl FnOnce(&mut Consumer) -> Result<(), StreamViolation>,
    ) -> Result<(), StreamViolation> {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.abandoned {
            return Ok(());
        }
        let stepped = step(&mut state.consumer);
        state.judge(stepped)?;
        state.charge(at);
        wakers.extend(state.waker.take());
        Ok(())
    }

    /// The head of the response arrived. False when it is known.
    pub(crate) fn on_head(
        &self,
        wakers: &mut Vec<Waker>,
        head: Headers,
    ) -> Result<bool, StreamViolation> {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.abandoned {
            return Ok(true);
        }
        let taken = state.consumer.on_head(head);
        let is_first = state.judge(taken)?;
        state.charge(at);
        if state.abandoned {
            // There was no room for it, and its caller has not seen it.
            state.consumer.drop_metadata();
            state.settle(at);
        }
        wakers.extend(state.waker.take());
        Ok(is_first)
    }

    /// A checkpoint arrived. False when it says nothing new.
    pub(crate) fn on_checkpoint(&self, checkpoint: Checkpoint) -> Result<bool, StreamViolation> {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.abandoned {
            return Ok(true);
        }
        let taken = state.consumer.on_checkpoint(checkpoint);
        let is_newer = state.judge(taken)?;
        state.charge(at);
        Ok(is_newer)
    }

    /// An item of `total` bytes began. False when nobody wants it any more.
    pub(crate) fn on_item_begin(
        &self,
        wakers: &mut Vec<Waker>,
        total: usize,
    ) -> Result<bool, StreamViolation> {
        let mut state = self.state.lock();
        if state.abandoned {
            return Ok(false);
        }
        let started = state.consumer.is_started();
        let begun = state.consumer.on_item_begin(total);
        state.judge(begun)?;
        if !started {
            wakers.extend(state.waker.take());
        }
        Ok(true)
    }

    /// Items arrived in the piece of reading that has this number.
    pub(crate) fn on_items(
        &self,
        wakers: &mut Vec<Waker>,
        read: u32,
        items: &Arrived<'_>,
    ) -> Result<(), StreamViolation> {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        if state.abandoned {
            return Ok(());
        }
        // What waits from an earlier reading holds its buffer already. A consumer that lags must
        // not hold one for each piece, so from then on small ones are copied.
        let lags = state.consumer.has_items() && state.read != read;
        if !lags {
            state.read = read;
        }
        let taken = if lags && items.bytes() <= COPY_BYTES {
            state.consumer.on_items_to_copy(items)
        } else {
            state.consumer.on_items(items.to_items())
        };
        state.judge(taken)?;
        state.charge(at);
        wakers.extend(state.waker.take());
        Ok(())
    }

    /// A frame of this stream broke the rules of the connection, which is about to end for it.
    pub(crate) fn blame(&self) {
        self.state.lock().broke = true;
    }

    /// Passes on what a step of this stream came to, and remembers a fault.
    pub(crate) fn judge<T>(&self, step: Result<T, StreamViolation>) -> Result<T, StreamViolation> {
        if step.is_err() {
            self.blame();
        }
        step
    }

    /// There is no memory for an item that is arriving.
    pub(crate) fn on_no_room(&self, wakers: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        state.overflow(at);
        wakers.extend(state.waker.take());
    }

    /// The head of the response once it is known, as [`Consumer::head`].
    pub fn head(&self) -> Option<Headers> {
        self.state.lock().consumer.head()
    }

    /// True once the handler is known to have begun.
    pub fn is_started(&self) -> bool {
        self.state.lock().consumer.is_started()
    }

    /// True while it is not known whether the handler has begun, or will.
    pub fn is_unanswered(&self) -> bool {
        let state = self.state.lock();
        !state.consumer.is_started() && state.consumer.ended().is_none()
    }

    /// True when the connection broke before it was known that the handler has begun.
    pub fn is_lost_early(&self) -> bool {
        let state = self.state.lock();
        state.lost.is_some() && !state.consumer.is_started()
    }

    /// The stream ended; its window, for the connection to take back.
    pub(crate) fn on_terminal(
        &self,
        wakers: &mut Vec<Waker>,
        (terminal, items, facts): (Terminal, u64, Headers),
    ) -> Result<Window, StreamViolation> {
        let mut state = self.state.lock();
        state.body = None;
        if let (Terminal::Failed { error }, Some(loss)) = (&terminal, &state.loss)
            && error.code() == Code::ResumeExpired
        {
            // The producer does not have it any more: it ends as by the loss of its connection.
            let mut loss = behind(loss, &format!("its worker: {}", error.message()));
            if error.executed() == Executed::No {
                // Nor did it ever: the request was lost with the connection.
                loss = loss.with_executed(Executed::No);
            }
            let (state, at) = state.parts();
            state.lose(&loss, at);
            wakers.extend(state.waker.take());
            return Ok(state.consumer.window());
        }
        if !facts.is_empty() {
            let (state, at) = state.parts();
            state.make_room(at, facts.as_block().len());
        }
        if !state.abandoned {
            let ended = state.consumer.on_terminal(terminal, items, facts);
            state.judge(ended)?;
            wakers.extend(state.waker.take());
        }
        Ok(state.consumer.window())
    }

    /// What the consumer let the producer send ahead.
    pub(crate) fn window(&self) -> Window {
        self.state.lock().consumer.window()
    }

    /// The peer says that it has not begun what came under the number of this stream. Returns who is
    /// to be woken.
    pub(crate) fn on_unseen(&self, error: &Error) -> Option<Waker> {
        let mut state = self.state.lock();
        // That was an attach: the request itself has been seen before.
        let error = match &state.loss {
            Some(loss) if state.attaches() > 0 => loss.clone(),
            // Of another process, which has opened it.
            None if state.attaches() > 0 => error.clone().with_executed(Executed::Maybe),
            _ => error.clone().with_executed(Executed::No),
        };
        let (state, at) = state.parts();
        state.lose(&error, at);
        state.waker.take()
    }

    /// The connection is gone. Returns who is to be woken.
    pub(crate) fn on_connection_lost(&self, error: &Error) -> Option<Waker> {
        let (waker, left) = {
            let mut locked = self.state.lock();
            let (state, at) = locked.parts();
            state.lose(error, at);
            (state.waker.take(), locked.take_left())
        };
        if let Some((connection, number)) = left.and_then(|(it, at)| Some((it.upgrade()?, at))) {
            // If no attach has reached the peer, it still works for the stream there.
            let (kind, reason) = (StopKind::Kill, CancelReason::Disconnected);
            connection.out.lock().outbound.cancel(number, kind, reason);
            D::transmit(&connection);
        }
        waker
    }

    /// Asks the peer once for each kind, the stronger one even after the weaker.
    fn ask_to_end(&self, kind: StopKind, reason: CancelReason) {
        {
            let mut state = self.state.lock();
            let (state, at) = state.parts();
            let asked = state.cancelled.is_some_and(|before| before >= kind);
            if asked || state.consumer.ended().is_some() {
                return;
            }
            state.cancelled = Some(kind);
            state.body = None;
            if state.is_detached {
                // It is told with the attach.
                return;
            }
            at.connection.out.lock().outbound.cancel(at.number, kind, reason);
        }
        D::transmit(&self.state.connection());
    }
}

impl<D: Driver> Drop for CallerStream<D> {
    fn drop(&mut self) {
        let (state, connection) = self.state.get_mut();
        if let Some(account) = &connection.account {
            state.queued.clear(BudgetUse::Queued, account);
        }
    }
}

impl<D: Driver> OnCancel for CallerStream<D> {
    fn on_cancel(&self, kind: StopKind, reason: CancelReason) {
        self.ask_to_end(kind, reason);
    }
}

impl State {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            read: 0,
            waker: None,
            body: None,
            lost: None,
            broke: false,
            queued: Tally::default(),
            cancelled: None,
            abandoned: false,
            is_detached: false,
            loss: None,
        }
    }

    fn judge<T>(&mut self, step: Result<T, StreamViolation>) -> Result<T, StreamViolation> {
        self.broke |= step.is_err();
        step
    }

    /// Charges the items that wait; without room for them the stream ends here.
    #[inline]
    fn charge<D: Driver>(&mut self, at: At<'_, D>) {
        self.make_room(at, 0);
    }

    /// Charges what waits and `more`; without room for it the stream ends here.
    #[inline]
    fn make_room<D: Driver>(&mut self, at: At<'_, D>, more: usize) {
        let Some(account) = &at.connection.account else { return };
        let bytes = self.consumer.queued_bytes() + more;
        if !self.queued.cover(bytes, BudgetUse::Queued, account, Work::Running) {
            self.overflow(at);
        }
    }

    /// Charges no more than what waits.
    #[inline]
    fn settle<D: Driver>(&mut self, at: At<'_, D>) {
        if let Some(account) = &at.connection.account {
            self.queued.settle(self.consumer.queued_bytes(), BudgetUse::Queued, account);
        }
    }

    /// Ends the stream for want of memory: its items are let go of, and the peer is told to end.
    #[cold]
    fn overflow<D: Driver>(&mut self, at: At<'_, D>) {
        if self.abandoned || self.consumer.ended().is_some() {
            return;
        }
        let Some(account) = &at.connection.account else { return };
        let error = account.budget().overflow();
        (self.lost, self.abandoned, self.body) = (Some(error), true, None);
        self.consumer.take(&mut ItemBatch::new());
        self.consumer.on_lost();
        self.settle(at);
        self.cancelled = Some(StopKind::Kill);
        let reason = CancelReason::Caller;
        at.connection.out.lock().outbound.cancel(at.number, StopKind::Kill, reason);
    }

    /// The connection is gone for good.
    fn lose<D: Driver>(&mut self, error: &Error, at: At<'_, D>) {
        let is_over = self.consumer.ended().is_some() || self.abandoned;
        self.consumer.on_lost();
        self.body = None;
        let error = if self.broke {
            let started = self.consumer.is_started();
            error.clone().with_executed(if started { Executed::Yes } else { Executed::Maybe })
        } else if self.consumer.is_started() {
            let received = self.consumer.received();
            let message = format!("the stream broke off after {received} items: {error}");
            if !is_over {
                at.connection.driver().on_truncated();
            }
            Error::new(Code::Truncated, message)
        } else {
            error.clone()
        };
        self.lost = Some(error);
    }

    /// How the stream ended before any item, as an error.
    fn early_end(&self) -> Option<Error> {
        match self.consumer.ended()? {
            Ended::Lost => self.lost.clone(),
            Ended::Terminal(Terminal::Failed { error }) => Some(error.clone()),
            Ended::Terminal(Terminal::Cancelled { reason }) => {
                Some(Error::cancelled(*reason).with_executed(Executed::Maybe))
            }
            Ended::Terminal(_) => None,
        }
    }

    fn end(&self) -> Option<SourceEvent> {
        Some(match self.consumer.ended()? {
            Ended::Terminal(terminal) => SourceEvent::Ended(terminal.clone()),
            Ended::Lost => SourceEvent::Lost(
                self.lost
                    .clone()
                    .unwrap_or_else(|| Error::new(Code::ConnectionLost, "the connection was lost")),
            ),
        })
    }
}

impl<D: Driver> std::fmt::Debug for CallerStream<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallerStream")
            .field("stream", &self.state.lock().current().1)
            .finish_non_exhaustive()
    }
}
