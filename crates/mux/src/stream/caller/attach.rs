//! Detaches a consuming stream from a lost connection, and attaches it to another.

use std::sync::Arc;

use sinew_plane::{BudgetUse, CancelReason, Error, ProcessId, ResumeToken, StreamId};

use super::{CallerStream, Foreign, Placed, State};
use crate::{Attach, Connection, Consumer, Driver, Refusal, session::Grace};

impl<D: Driver> CallerStream<D> {
    /// A stream that another process has opened, and that an attach under this number takes over.
    pub(crate) fn taken_over(
        token: &ResumeToken,
        grace: Grace,
        place: (Arc<Connection<D>>, u32),
        consumer: Consumer,
    ) -> Self {
        let foreign = Foreign { secret: token.secret, origin: token.caller };
        let state = Placed::taken_over(place, foreign, State::new(consumer));
        Self { id: token.stream.0.to_ne_bytes(), grace, state }
    }

    /// What another process needs to take the stream over from an item on, or to read it where it is
    /// retained.
    pub(crate) fn token(&self, next_item: u64) -> Option<ResumeToken> {
        let state = self.state.lock();
        let first = self.state.first();
        let secret = state.foreign().map_or_else(|| first.secret(self.id()), |it| it.secret);
        let goes_on = state.consumer.ended().is_none() && !self.grace.is_off() && secret != 0;
        let worker = first.peer().map(|hello| hello.process).filter(|_| goes_on)?;
        let caller = first.own_process();
        Some(ResumeToken { stream: self.id(), secret, caller, worker, next_item })
    }

    /// How long it waits for another connection when it has lost its own.
    pub(crate) fn grace(&self) -> Grace {
        self.grace
    }

    /// The connection is gone, and the stream may come back over another. False when it cannot: its
    /// request is not sent, it broke the connection, its call wants no more after a loss, or it has
    /// ended.
    pub(crate) fn detach(&self, error: &Error) -> bool {
        let mut state = self.state.lock();
        let is_over = state.broke || state.consumer.ended().is_some();
        if self.grace.is_off() || state.body.is_some() || is_over {
            return false;
        }
        state.consumer.on_carrier_lost();
        (state.is_detached, state.loss) = (true, Some(error.clone()));
        true
    }

    /// Attaches the stream to this connection, with the items that it has. It may have lost its
    /// connection, or leave one that is up, whose frames do not reach it any more. Returns its new
    /// number and how many items it has.
    pub(crate) fn reattach(&self, connection: &Arc<Connection<D>>) -> Result<(u32, u64), Refusal> {
        let mut state = self.state.lock();
        let counter = state.attaches() + 1;
        let (secret, origin) = match state.foreign() {
            None => (self.state.first().secret(self.id()), ProcessId::UNKNOWN),
            // The attach that was to take it over may be lost: the stream is then still one of the
            // process that has opened it.
            Some(Foreign { secret, origin }) if !state.consumer.is_started() => (secret, origin),
            Some(Foreign { secret, .. }) => (secret, ProcessId::UNKNOWN),
        };
        let (stream, next_item) = {
            let mut out = connection.out.lock();
            // Before anything is changed that a refusal would have to undo.
            out.outbound.may_attach()?;
            let consumer = &mut state.consumer;
            consumer.on_carrier_lost();
            let (id, (next_item, credit)) = (self.id(), consumer.attach());
            let attach = Attach { id, secret, counter, next_item, credit, origin };
            let stream = out.outbound.attach(&attach)?;
            out.outbound.take_over_window(state.consumer.window());
            (stream, next_item)
        };
        let left = {
            let (state, old) = state.parts();
            if let Some(account) = &old.connection.account {
                state.queued.clear(BudgetUse::Queued, account);
            }
            (!state.is_detached).then(|| (Arc::downgrade(old.connection), old.number))
        };
        state.move_to(connection, stream, counter);
        if let Some(left) = left {
            state.set_left(left);
        }
        let (state, at) = state.parts();
        state.is_detached = false;
        state.charge(at);
        if let Some(kind) = state.cancelled {
            // What was asked for over the lost connection may be lost with it.
            connection.out.lock().outbound.cancel(stream, kind, CancelReason::Caller);
        }
        Ok((stream, next_item))
    }

    /// Whether the stream may leave a connection that is up: its handler has begun, so that the
    /// attach does not overtake the open, its request is sent, and it goes on. Returns whether an
    /// item has arrived in part. `error` is for the case that its peer does not take it.
    pub(crate) fn may_leave(&self, error: &Error) -> Option<bool> {
        let mut state = self.state.lock();
        let goes_on = state.consumer.is_started() && state.consumer.ended().is_none();
        if !goes_on || state.body.is_some() || state.broke || self.grace.is_off() {
            return None;
        }
        state.loss = Some(error.clone());
        Some(state.consumer.is_inside_item())
    }

    /// True if something has arrived beyond those items.
    pub(crate) fn has_more_than(&self, received: u64) -> bool {
        let state = self.state.lock();
        let consumer = &state.consumer;
        consumer.received() > received || consumer.is_inside_item() || consumer.ended().is_some()
    }

    /// The connection that it is on, and its number there.
    pub(crate) fn place(&self) -> (Arc<Connection<D>>, u32) {
        let (connection, number) = self.state.lock().current();
        (Arc::clone(&connection), number)
    }

    fn id(&self) -> StreamId {
        StreamId(u128::from_ne_bytes(self.id))
    }
}
