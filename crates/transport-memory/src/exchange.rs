//! One stream: the items that its producer has sent and its consumer has not taken yet.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{self, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    Budget, CancelReason, Checkpoint, Code, Context, Error, Executed, Headers, InFlightEntry,
    InFlightSet, ItemBatch, OnCancel, ResponseMetadata, ResponseSource, Shutdown, SinkTarget,
    SourceEvent, StopKind, Terminal, TrySendError, Window,
};

use crate::{charge::Charge, config::MemoryConfig, window::Credit};

/// The streams of one server or of one client. Weak, because an exchange knows both: its sink and
/// its stream keep it alive.
pub(crate) type Streams = InFlightSet<Weak<Exchange>>;

/// Drains, gives what runs `grace` to end, cuts the rest. Dropped midway, it has drained and cut
/// nothing.
pub(crate) async fn close(streams: &Streams, grace: Duration, reason: CancelReason) -> Shutdown {
    streams.close(grace).await;
    cut(streams, reason)
}

/// Drains, and cuts what runs. There are no tasks to join: handlers belong to who made them.
pub(crate) fn cut(streams: &Streams, reason: CancelReason) -> Shutdown {
    let exchanges = streams.cut().into_iter().filter_map(|exchange| exchange.upgrade());
    let cut_streams = exchanges.filter(|exchange| exchange.cut(reason)).count();
    Shutdown { cut_streams, cut_tasks: 0 }
}

/// Both ends of one stream.
///
/// Lock order: nothing else is locked, woken or cancelled while `state` is locked.
pub(crate) struct Exchange {
    /// The serving side's context.
    context: Context,
    max_message_bytes: usize,
    budget: Option<Arc<Budget>>,
    client: InFlightEntry<Weak<Exchange>>,
    server: InFlightEntry<Weak<Exchange>>,
    state: Mutex<State>,
}

struct State {
    items: ItemBatch,
    item_count: usize,
    item_bytes: usize,
    charge: Charge,
    credit: Credit,
    /// The handler has taken the request, by its word or by an item.
    begun: bool,
    end: Option<End>,
    /// Items that the handler has sent.
    sent: u64,
    /// Not charged to the budget: it is the handler's own memory, and not copied.
    metadata: ResponseMetadata,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone)]
enum End {
    Declared(Terminal),
    Lost(Error),
}

impl Exchange {
    /// A stream that has entered at both ends. One that is cut meanwhile begins as a cut one.
    pub(crate) fn new(
        context: Context,
        config: &MemoryConfig,
        window: Window,
        client: InFlightEntry<Weak<Self>>,
        server: InFlightEntry<Weak<Self>>,
    ) -> Arc<Self> {
        let state = State {
            items: ItemBatch::new(),
            item_count: 0,
            item_bytes: 0,
            charge: Charge::default(),
            credit: Credit::new(window),
            begun: false,
            end: None,
            sent: 0,
            metadata: ResponseMetadata::new(),
            reader: None,
            writer: None,
        };
        let state = Mutex::new(state);
        let (max_message_bytes, budget) = (config.max_message_bytes, config.budget.clone());
        let exchange = Self { context, max_message_bytes, budget, client, server, state };
        let exchange = Arc::new(exchange);
        let ends = [
            (&exchange.client, CancelReason::Disconnected),
            (&exchange.server, CancelReason::Shutdown),
        ];
        for (end, reason) in ends {
            if !end.replace(Arc::downgrade(&exchange)) {
                exchange.cut(reason);
            }
        }
        exchange
    }

    /// Breaks the stream off, as the loss of a connection would. False when it had ended.
    pub(crate) fn cut(&self, reason: CancelReason) -> bool {
        let wakers = {
            let mut state = self.state.lock();
            if state.end.is_some() {
                return false;
            }
            let error = if state.begun {
                Error::new(Code::Truncated, format!("the stream was cut: {reason}"))
            } else {
                Error::new(Code::ConnectionLost, format!("the request was cut: {reason}"))
            };
            state.end = Some(End::Lost(error));
            [state.reader.take(), state.writer.take()]
        };
        self.context.cancel(StopKind::Kill, reason);
        self.leave();
        wakers.into_iter().flatten().for_each(Waker::wake);
        true
    }

    fn leave(&self) {
        self.client.leave();
        self.server.leave();
    }

    /// Why nothing more can be sent, if so. Asked under the lock, so that a kill is either seen
    /// here or finds the waker that is stored after.
    fn closed(&self, state: &State) -> Option<Error> {
        match &state.end {
            Some(End::Lost(error)) => return Some(error.clone()),
            Some(End::Declared(_)) => {
                return Some(Error::new(Code::HandlerFailed, "the stream has ended already"));
            }
            None => {}
        }
        if !self.context.is_killed() {
            return None;
        }
        let reason = self.context.reason().unwrap_or(CancelReason::Caller);
        Some(Error::cancelled(reason).with_executed(Executed::Yes))
    }
}

impl ResponseSource for Exchange {
    fn poll_started(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        if state.begun {
            return Poll::Ready(Ok(()));
        }
        match &state.end {
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Declared(Terminal::Complete { .. })) => Poll::Ready(Ok(())),
            Some(End::Declared(Terminal::Failed { error }) | End::Lost(error)) => {
                Poll::Ready(Err(error.clone()))
            }
            Some(End::Declared(Terminal::Cancelled { reason })) => {
                Poll::Ready(Err(Error::cancelled(*reason)))
            }
        }
    }

    fn poll_head(&self, cx: &mut task::Context<'_>) -> Poll<Headers> {
        let mut state = self.state.lock();
        if let Some(head) = state.metadata.head() {
            return Poll::Ready(head.clone());
        }
        if state.sent > 0 || state.end.is_some() {
            return Poll::Ready(Headers::new());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn facts(&self) -> Headers {
        let state = self.state.lock();
        // What a handler sets for a stream that was cut does not go with its end.
        match state.end {
            Some(End::Declared(_)) => state.metadata.facts().clone(),
            Some(End::Lost(_)) | None => Headers::new(),
        }
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.state.lock().metadata.checkpoint().cloned()
    }

    fn poll_batch(&self, cx: &mut task::Context<'_>, batch: &mut ItemBatch) -> Poll<SourceEvent> {
        let (event, writer) = {
            let mut state = self.state.lock();
            state.credit.acknowledge();
            let event = state.take_event(batch);
            if event.is_pending() {
                state.reader = Some(cx.waker().clone());
            }
            let writer = if state.credit.is_positive() { state.writer.take() } else { None };
            (event, writer)
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        event
    }

    /// The handler has had the request in its hands before the caller has the stream.
    fn is_admitted(&self) -> bool {
        true
    }

    fn cancel(&self, kind: StopKind) {
        self.on_cancel(kind, CancelReason::Caller);
    }

    fn abandon(&self) {
        let (unread, ended) = {
            let mut state = self.state.lock();
            state.reader = None;
            (state.item_count, state.item_bytes) = (0, 0);
            state.charge.clear();
            (std::mem::take(&mut state.items), state.end.is_some())
        };
        drop(unread);
        if !ended {
            // The server still counts it: its handler runs until it ends the stream.
            self.client.leave();
            self.on_cancel(StopKind::Kill, CancelReason::Caller);
        }
    }
}

impl State {
    fn take_event(&mut self, batch: &mut ItemBatch) -> Poll<SourceEvent> {
        if !self.items.is_empty() {
            let (items, bytes) = (&mut self.item_count, &mut self.item_bytes);
            self.credit.deliver(std::mem::take(items), std::mem::take(bytes));
            batch.append(&mut self.items);
            self.charge.release();
            return Poll::Ready(SourceEvent::Items);
        }
        match &self.end {
            None => Poll::Pending,
            Some(End::Declared(terminal)) => Poll::Ready(SourceEvent::Ended(terminal.clone())),
            Some(End::Lost(error)) => Poll::Ready(SourceEvent::Lost(error.clone())),
        }
    }
}

impl SinkTarget for Exchange {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        if let Some(error) = self.closed(&state) {
            return Poll::Ready(Err(error));
        }
        if state.credit.is_positive() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        if item.len() > self.max_message_bytes {
            let error = too_large("an item", item.len(), self.max_message_bytes);
            return Err(TrySendError::Closed(error.with_executed(Executed::Yes)));
        }
        let reader = {
            let mut state = self.state.lock();
            if let Some(error) = self.closed(&state) {
                return Err(TrySendError::Closed(error));
            }
            if !state.credit.is_positive() {
                return Err(TrySendError::Full(item));
            }
            state.credit.charge(item.len());
            state.item_bytes += item.len();
            let waiting = state.item_bytes;
            state.charge.cover(waiting, self.budget.as_ref());
            state.item_count += 1;
            state.items.push(item);
            state.sent += 1;
            let sent = state.sent;
            if state.metadata.has_checkpoint_due(sent) {
                state.metadata.send_checkpoint(sent);
            }
            state.begun = true;
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    fn head(&self, head: Headers) {
        let reader = {
            let mut state = self.state.lock();
            if state.end.is_some() || state.sent > 0 {
                return;
            }
            state.begun = true;
            state.metadata.set_head(head);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn set_facts(&self, facts: Headers) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.metadata.set_facts(facts);
        }
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.metadata.add_unsent(checkpoint);
        }
    }

    fn accept(&self) {
        let reader = {
            let mut state = self.state.lock();
            if state.end.is_some() {
                return;
            }
            state.begun = true;
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn finish(&self, terminal: Terminal) {
        let reader = {
            let mut state = self.state.lock();
            if state.end.is_none() {
                state.end = Some(End::Declared(terminal));
            }
            state.writer = None;
            state.reader.take()
        };
        self.leave();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    // An item is with its reader as soon as it is sent.
    fn flush(&self) {}
}

/// Receives the cancels of the caller's and of the serving side's context. Both cancel the
/// handler's context, and a kill ends every wait for credit.
impl OnCancel for Exchange {
    fn on_cancel(&self, kind: StopKind, reason: CancelReason) {
        // Comes back here when it changes anything; the second time it changes nothing.
        self.context.cancel(kind, reason);
        if kind == StopKind::Kill {
            let writer = self.state.lock().writer.take();
            if let Some(writer) = writer {
                writer.wake();
            }
        }
    }
}

/// The refusal of a message over the limit.
pub(crate) fn too_large(what: &str, bytes: usize, limit: usize) -> Error {
    Error::new(Code::TooLarge, format!("{what} of {bytes} bytes is over the limit of {limit}"))
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("context", &self.context).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
