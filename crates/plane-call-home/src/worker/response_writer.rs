//! The worker's end of a connection that carries one response: its sink, and its task.

mod serving;

use std::{
    io::{self, IoSlice},
    sync::{Arc, Weak},
    task::{self, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_codec::TWO_PART_PREFIX_BYTES;
use sinew_dynamo_wire::{
    ControlMessage, ResponseStreamPrologue, begun_frame, empty_item_frame, facts_frame, head_frame,
    json_frame,
};
use sinew_plane::{
    BudgetUse, CancelReason, Code, Context, Error, Executed, Flush, Headers, OnCancel,
    ResponseMetadata, SinkTarget, StopKind, Terminal, TrySendError,
    budget::{Holder, Stalled},
    clock, defer_flush,
};
use sinew_telemetry::ActiveConnection;
use tokio::{net::TcpStream, sync::Notify};

use super::write_queue::{Frame, SLICES, WriteQueue};
use crate::{config::CheckedTcpStreamClientConfig, share::Share};

pub(crate) use self::serving::End;

/// What a caller understands beyond Dynamo's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallerKind {
    Dynamo,
    /// It can be told why a stream was ended that it did not stop.
    Sinew {
        /// To it a frame without header and without body is no item.
        knows_heartbeats: bool,
        /// It takes the head and the facts of a response.
        knows_metadata: bool,
    },
}

/// A response on its way to the caller, over a connection of its own.
pub(crate) struct ResponseWriter {
    socket: TcpStream,
    context: Context,
    config: Arc<CheckedTcpStreamClientConfig>,
    caller: CallerKind,
    /// Counts the connection and its bytes.
    active: ActiveConnection,
    state: Mutex<State>,
    /// The task has to look at the state again.
    changed: Notify,
    /// Itself, for bursts and to be told of a cancel.
    this: Weak<Self>,
}

struct State {
    queue: WriteQueue,
    /// What is charged for what waits.
    share: Share,
    /// An item found no room in the memory budget: what would be waiting with it, in bytes.
    starved: Option<usize>,
    /// Since when the socket has taken nothing while something waits.
    parked: Option<Instant>,
    waker: Option<Waker>,
    listens: bool,
    begun: bool,
    /// The terminal is queued, or there will be none; what is queued is the last.
    ended: bool,
    /// The connection ends without a sentinel, so this side has to say that nothing follows.
    half_close: bool,
    /// The socket takes no more for now.
    blocked: bool,
    /// Nothing is written any more.
    closed: Option<Error>,
    /// The caller has asked for the end.
    asked: bool,
    /// The facts, until they leave with the end.
    metadata: ResponseMetadata,
}

impl ResponseWriter {
    pub(crate) fn new(
        socket: TcpStream,
        context: Context,
        config: Arc<CheckedTcpStreamClientConfig>,
        caller: CallerKind,
        active: ActiveConnection,
    ) -> Arc<Self> {
        let queue = WriteQueue::new(config.writes_checks());
        let share = Share::new(config.driver.budget.as_ref(), BudgetUse::Queued);
        Arc::new_cyclic(|this| Self {
            socket,
            context,
            config,
            caller,
            active,
            state: Mutex::new(State::new(queue, share)),
            changed: Notify::new(),
            this: this.clone(),
        })
    }

    /// Queues what stands before the first item, once.
    fn begin(state: &mut State) {
        if !std::mem::replace(&mut state.begun, true) {
            state.push_control(begun_frame());
        }
    }

    /// Writes what waits as far as the socket takes it; the task does the rest.
    fn write_out(&self) {
        let waker = {
            let mut state = self.state.lock();
            if state.blocked || state.closed.is_some() {
                return;
            }
            self.write_queue(&mut state);
            if state.blocked || state.ended || state.closed.is_some() {
                self.changed.notify_one();
            }
            if state.queue.has_room() || state.closed.is_some() { state.waker.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Charges so many bytes that are to wait. False when the memory budget has no room.
    fn cover(&self, state: &mut State, bytes: usize) -> bool {
        let before = state.share.charged();
        let covered = state.share.cover(bytes);
        if before == 0
            && state.share.charged() > 0
            && let Some(account) = state.share.account()
        {
            let holder: Weak<Self> = self.this.clone();
            account.held_by(holder);
        }
        covered
    }

    fn write_queue(&self, state: &mut State) {
        while !state.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = state.queue.fill(&mut slices);
            match self.socket.try_write_vectored(&slices[..filled]) {
                Ok(0) => return state.close(broken(&io::ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    self.active.metrics().sent(bytes);
                    state.queue.advance(bytes);
                    state.share.settle(state.queue.bytes());
                    state.parked = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.blocked = true;
                    state.parked.get_or_insert_with(clock::now);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return state.close(broken(&error).with_source(error)),
            }
        }
    }

    /// Why nothing more is taken.
    fn closed_by(&self, state: &State) -> Option<Error> {
        if let Some(error) = &state.closed {
            return Some(error.clone());
        }
        if self.context.is_killed() {
            let reason = self.context.reason().unwrap_or(CancelReason::Caller);
            return Some(Error::cancelled(reason).with_executed(Executed::Yes));
        }
        None
    }

    /// The caller or the connection is gone, or wants no more: what waits is dropped, and the
    /// handler is told.
    fn cut(&self, error: Error, reason: CancelReason) {
        let waker = {
            let mut state = self.state.lock();
            state.close(error);
            state.waker.take()
        };
        self.context.cancel(StopKind::Kill, reason);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Why an item cannot be sent to this caller.
    fn check(&self, item: &Bytes) -> Result<(), Error> {
        let limit = self.config.max_frame_bytes - TWO_PART_PREFIX_BYTES;
        if item.len() > limit {
            let message = format!("an item of {} bytes is over the limit of {limit}", item.len());
            return Err(Error::new(Code::TooLarge, message));
        }
        if item.is_empty() && self.caller == CallerKind::Dynamo {
            let error = Error::new(Code::InvalidPayload, "Dynamo has no item of no bytes");
            return Err(error.with_executed(Executed::Yes));
        }
        Ok(())
    }

    fn frame_of(&self, item: Bytes) -> Frame {
        match self.caller {
            CallerKind::Sinew { knows_heartbeats: true, .. } if item.is_empty() => {
                Frame::whole(empty_item_frame())
            }
            _ => Frame::item(item),
        }
    }

    /// Queues a frame of head or facts for a caller that takes them. It waits for no room: there
    /// are two of them at most, each with a limit of its own.
    fn push_metadata(&self, state: &mut State, frame: Bytes) {
        if frame.len() > self.config.max_frame_bytes {
            tracing::warn!(bytes = frame.len(), "head or facts are over the limit of a frame");
            return;
        }
        let waiting = state.queue.bytes() + frame.len();
        let _ = self.cover(state, waiting);
        state.push_control(frame);
    }

    fn takes_metadata(&self) -> bool {
        matches!(self.caller, CallerKind::Sinew { knows_metadata: true, .. })
    }

    /// The last frames for a terminal.
    fn queue_end(&self, state: &mut State, terminal: Terminal) {
        if !state.metadata.facts().is_empty() {
            let frame = facts_frame(state.metadata.facts());
            self.push_metadata(state, frame);
        }
        let status = match terminal {
            Terminal::Complete { .. } => {
                Self::begin(state);
                None
            }
            Terminal::Failed { error } => Some(ResponseStreamPrologue::failed(&error)),
            // The caller knows why, or cannot be told but by silence.
            Terminal::Cancelled { .. } if state.asked || self.caller == CallerKind::Dynamo => {
                state.half_close = true;
                return;
            }
            Terminal::Cancelled { reason } => Some(ResponseStreamPrologue::cancelled(reason)),
        };
        if let Some(status) = status {
            state.push_control(json_frame(&status));
        }
        state.push_control(ControlMessage::Sentinel.frame());
    }
}

pub(crate) fn broken(cause: &io::Error) -> Error {
    Error::new(Code::ConnectionLost, format!("the connection to the caller broke: {cause}"))
}

impl State {
    fn new(queue: WriteQueue, share: Share) -> Self {
        Self {
            queue,
            share,
            starved: None,
            parked: None,
            waker: None,
            listens: false,
            begun: false,
            ended: false,
            half_close: false,
            blocked: false,
            closed: None,
            asked: false,
            metadata: ResponseMetadata::new(),
        }
    }

    /// True when the item that found no room in the memory budget would find it now; else `waker`
    /// is woken when that may be so.
    fn finds_room(&mut self, waker: &Waker) -> bool {
        let Some(bytes) = self.starved else { return true };
        let more = bytes.saturating_sub(self.share.charged());
        if let Some(account) = self.share.account() {
            account.wait_for_room(0, more, waker);
        }
        let found = self.share.cover(bytes);
        if found {
            self.starved = None;
        }
        found
    }

    fn push_control(&mut self, frame: Bytes) {
        self.queue.push(Frame::whole(frame));
    }

    fn close(&mut self, error: Error) {
        self.closed.get_or_insert(error);
        self.ended = true;
        self.queue.clear();
        self.share.settle(0);
    }
}

/// The only stream of a connection.
const ONLY: u32 = 0;

impl Holder for ResponseWriter {
    fn stalled(&self, before: Instant, to: &mut Vec<Stalled>) {
        let state = self.state.lock();
        let (bytes, since) = (state.share.charged(), state.parked);
        if let Some(since) = since.filter(|since| *since <= before && bytes > 0) {
            to.push(Stalled { since, stream: ONLY, bytes });
        }
    }

    /// The caller reads nothing, so it learns by the end of the connection.
    fn end(&self, _stream: u32, error: &Error) {
        self.cut(error.clone(), CancelReason::Evicted);
        self.changed.notify_one();
    }
}

impl OnCancel for ResponseWriter {
    fn on_cancel(&self, _kind: StopKind, _reason: CancelReason) {
        self.wake();
    }
}

impl Flush for ResponseWriter {
    fn flush(&self) {
        self.write_out();
    }
}

impl SinkTarget for ResponseWriter {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        if let Some(error) = self.closed_by(&state) {
            return Poll::Ready(Err(error));
        }
        let ready = state.queue.has_room() || state.ended;
        if ready && state.finds_room(cx.waker()) {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        let listens = std::mem::replace(&mut state.listens, true);
        drop(state);
        if !listens {
            // Most responses never wait, so most need no listener.
            self.context.on_cancel(self.this.clone());
        }
        Poll::Pending
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        self.check(&item).map_err(TrySendError::Closed)?;
        let mut state = self.state.lock();
        if let Some(error) = self.closed_by(&state) {
            return Err(TrySendError::Closed(error));
        }
        if state.ended {
            let error = Error::new(Code::HandlerFailed, "the stream has ended already");
            return Err(TrySendError::Closed(error));
        }
        if !state.queue.has_room() && !state.blocked {
            // A burst that is longer than the queue does not wait for its own end.
            self.write_queue(&mut state);
            if state.blocked {
                self.changed.notify_one();
            }
            if let Some(error) = &state.closed {
                return Err(TrySendError::Closed(error.clone()));
            }
        }
        if !state.queue.has_room() {
            return Err(TrySendError::Full(item));
        }
        let waiting = state.queue.bytes() + item.len();
        if !self.cover(&mut state, waiting) {
            state.starved = Some(waiting);
            return Err(TrySendError::Full(item));
        }
        Self::begin(&mut state);
        state.queue.push(self.frame_of(item));
        Ok(())
    }

    /// Dynamo has no place for it, but is told that the handler has begun.
    fn head(&self, head: Headers) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        Self::begin(&mut state);
        if self.takes_metadata() {
            self.push_metadata(&mut state, head_frame(&head));
        }
    }

    /// Dynamo has no place for them.
    fn set_facts(&self, facts: Headers) {
        let mut state = self.state.lock();
        if !state.ended && self.takes_metadata() {
            state.metadata.set_facts(facts);
        }
    }

    fn accept(&self) {
        let mut state = self.state.lock();
        if !state.ended {
            Self::begin(&mut state);
        }
    }

    fn finish(&self, terminal: Terminal) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        if self.context.is_killed() {
            // After a kill the caller expects no more than the end.
            state.queue.drop_unbegun();
            let reason = self.context.reason().unwrap_or(CancelReason::Caller);
            self.queue_end(&mut state, Terminal::Cancelled { reason });
        } else {
            self.queue_end(&mut state, terminal);
        }
        drop(state);
        self.changed.notify_one();
    }

    fn flush(&self) {
        let deferred = self.this.upgrade().is_some_and(|this| defer_flush(&this));
        if !deferred {
            self.write_out();
        }
    }
}
