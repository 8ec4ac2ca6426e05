//! A response that a worker is expected to deliver, or is delivering.

mod polling;

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll, Waker},
    time::Instant,
};

use parking_lot::{Mutex, MutexGuard};
use sinew_dynamo_wire::{ControlMessage, Subject};
use sinew_mux_driver::Call;
use sinew_plane::{
    CancelReason, Checkpoint, Error, Headers, ItemBatch, OnCancel, OutgoingRequest, ProcessId,
    ResponseMetadata, ResponseSource, SourceEvent, StopKind, Terminal, clock,
};
use tokio::time::Sleep;

use self::polling::Step;
use super::{
    limits::{Stage, Timers},
    outcome::{Cancel, Outcome, truncated},
    response_connection::{ReadUntil, ResponseConnection},
    server::Shared,
};

/// How often a stream is asked for again when shared connections break under it before it began.
const REOPENS: u32 = 3;

/// A response that is expected, and where it comes from once it does: over a connection of its
/// own, or as a stream of a connection that a worker shares among many.
pub(crate) struct Response {
    pub(crate) subject: Subject,
    /// Whom the request went to, without its body.
    pub(crate) request: OutgoingRequest,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    waker: Option<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
    timers: Timers,
    /// A limit passed while this process did not run: until then what has arrived is waited for.
    grace: Option<Instant>,
    reopens: u32,
    last: Last,
}

/// Where head and facts of a response are that has ended.
enum Last {
    Nothing,
    Plain(ResponseMetadata),
    Shared(Arc<Call>),
}

impl Last {
    fn head(&self) -> Headers {
        match self {
            Self::Nothing => Headers::new(),
            Self::Plain(metadata) => metadata.head().cloned().unwrap_or_default(),
            Self::Shared(call) => call.head().unwrap_or_default(),
        }
    }

    fn facts(&self) -> Headers {
        match self {
            Self::Nothing => Headers::new(),
            Self::Plain(metadata) => metadata.facts().clone(),
            Self::Shared(call) => call.facts(),
        }
    }
}

enum Phase {
    /// Nobody has come yet.
    Expected,
    Plain(Box<ResponseConnection>),
    Shared(Arc<Call>),
    Ended(Outcome),
}

impl State {
    fn stage(&self) -> Stage {
        let begun = match &self.phase {
            Phase::Expected | Phase::Ended(_) => return Stage::Expected,
            Phase::Plain(connection) => connection.is_begun(),
            Phase::Shared(call) => call.is_started(),
        };
        if begun { Stage::Begun } else { Stage::Attached }
    }

    fn has_begun(&self) -> bool {
        self.stage() == Stage::Begun
    }

    /// The head that is known; empty without one.
    fn head(&self) -> Headers {
        match &self.phase {
            Phase::Expected => Headers::new(),
            Phase::Plain(connection) => connection.head(),
            Phase::Shared(call) => call.head().unwrap_or_default(),
            Phase::Ended(_) => self.last.head(),
        }
    }
}

impl Response {
    pub(crate) fn new(subject: Subject, request: OutgoingRequest, shared: Arc<Shared>) -> Self {
        let state = State {
            phase: Phase::Expected,
            waker: None,
            timer: None,
            timers: Timers::new(),
            grace: None,
            reopens: 0,
            last: Last::Nothing,
        };
        Self { subject, request, shared, state: Mutex::new(state) }
    }

    /// A worker has dialled in for this stream, and may want to hear that it is waited for. Gives
    /// the connection back when the stream has one already, or has ended: also by the refusal of a
    /// worker, which must not run then what the consumer may have sent elsewhere.
    pub(crate) fn attach_line(
        &self,
        mut connection: Box<ResponseConnection>,
        confirm: bool,
    ) -> Result<(), Box<ResponseConnection>> {
        let (before, waker) = {
            let mut state = self.state.lock();
            match &state.phase {
                Phase::Expected => {}
                // The worker knows better which of its connections still live.
                Phase::Shared(call) if call.is_unanswered() || call.is_lost_early() => {}
                _ => return Err(connection),
            }
            state.timers.since = clock::now();
            if confirm {
                connection.send(ControlMessage::Ready);
            }
            if let Some(Cancel { kind, .. }) = state.timers.cancelled {
                connection.send(kind.into());
            }
            let before = std::mem::replace(&mut state.phase, Phase::Plain(connection));
            (before, state.waker.take())
        };
        if let Phase::Shared(call) = before {
            call.abandon();
        }
        wake(waker);
        Ok(())
    }

    /// The stream was opened on a shared connection.
    pub(crate) fn attach_call(&self, call: Arc<Call>) {
        let (cancelled, waker) = {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Expected) {
                drop(state);
                call.abandon();
                return;
            }
            state.phase = Phase::Shared(Arc::clone(&call));
            (state.timers.cancelled, state.waker.take())
        };
        if let Some(Cancel { kind, reason, .. }) = cancelled {
            call.on_cancel(kind, reason);
        }
        wake(waker);
    }

    /// True while a shared connection would be of use.
    pub(crate) fn is_expected(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Expected)
    }

    /// True until it has begun or ended.
    pub(crate) fn is_pending(&self) -> bool {
        match &self.state.lock().phase {
            Phase::Expected => true,
            Phase::Plain(connection) => !connection.is_begun(),
            Phase::Shared(call) => call.is_unanswered(),
            Phase::Ended(_) => false,
        }
    }

    /// Ends the stream if it has not begun.
    pub(crate) fn end_if_pending(&self, error: &Error) {
        self.cut(error, true);
    }

    /// Ends the stream, begun or not. True if it had not ended.
    pub(crate) fn end(&self, error: &Error) -> bool {
        self.cut(error, false)
    }

    fn cut(&self, error: &Error, only_pending: bool) -> bool {
        let state = self.state.lock();
        let begun = state.has_begun();
        if matches!(state.phase, Phase::Ended(_)) || (begun && only_pending) {
            return false;
        }
        let error = if begun { truncated(error) } else { error.clone() };
        self.finish(state, Outcome::Lost(error), true);
        true
    }

    /// Ends the stream for the consumer; the worker is told to stop if it does not know.
    fn finish(&self, mut state: MutexGuard<'_, State>, end: Outcome, kill: bool) {
        let mut before = std::mem::replace(&mut state.phase, Phase::Ended(end));
        state.timer = None;
        state.last = match &mut before {
            Phase::Plain(connection) => Last::Plain(connection.take_metadata()),
            Phase::Shared(call) if !kill => Last::Shared(Arc::clone(call)),
            Phase::Shared(_) | Phase::Expected | Phase::Ended(_) => Last::Nothing,
        };
        let waker = state.waker.take();
        drop(state);
        self.shared.forget(self);
        match before {
            Phase::Plain(mut connection) => {
                if kill {
                    connection.send(ControlMessage::Kill);
                }
                // With nothing left to come, closing at once is what the worker waits for.
                if !connection.is_at_end() {
                    self.shared.linger(*connection);
                }
            }
            Phase::Shared(call) if kill => call.abandon(),
            Phase::Shared(_) | Phase::Expected | Phase::Ended(_) => {}
        }
        wake(waker);
    }

    fn ask_to_end(&self, kind: StopKind, reason: CancelReason) {
        let mut state = self.state.lock();
        let before = state.timers.cancelled;
        if before.is_some_and(|before| before.kind >= kind) {
            return;
        }
        // The first reason is kept, the clock starts anew with the stronger kind.
        let reason = before.map_or(reason, |before| before.reason);
        state.timers.cancelled = Some(Cancel { kind, reason, since: clock::now() });
        match &mut state.phase {
            // Told when it comes: its handler may finish the item in hand. Dynamo's word for a
            // stop at this point is that the exchange is over.
            Phase::Expected if kind == StopKind::Stop && is_of_sinew(&self.request) => {
                let waker = state.waker.take();
                drop(state);
                wake(waker);
            }
            Phase::Expected => {
                let end = Outcome::Terminal(Terminal::Cancelled { reason });
                self.finish(state, end, true);
            }
            Phase::Plain(connection) => {
                connection.send(kind.into());
                let waker = state.waker.take();
                drop(state);
                wake(waker);
            }
            Phase::Shared(call) => {
                let call = Arc::clone(call);
                drop(state);
                // With the reason, before the context tells it the same.
                call.on_cancel(kind, reason);
            }
            Phase::Ended(_) => {}
        }
    }
}

/// True when discovery knows the worker's process, which is so for Sinew workers alone.
pub(crate) fn is_of_sinew(request: &OutgoingRequest) -> bool {
    request.process.is_some_and(ProcessId::is_known)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl OnCancel for Response {
    fn on_cancel(&self, kind: StopKind, reason: CancelReason) {
        self.ask_to_end(kind, reason);
    }
}

impl ResponseSource for Response {
    fn poll_started(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(cx, ReadUntil::Start).map(|step| match step {
            Step::Ready | Step::Items => Ok(()),
            Step::Outcome(end) => end.early(),
            Step::Refused(error) => Err(error),
        })
    }

    fn poll_head(&self, cx: &mut task::Context<'_>) -> Poll<Headers> {
        self.poll(cx, ReadUntil::Head).map(|_| self.state.lock().head())
    }

    fn facts(&self) -> Headers {
        self.state.lock().last.facts()
    }

    /// A connection with one response carries none.
    fn checkpoint(&self) -> Option<Checkpoint> {
        let state = self.state.lock();
        match (&state.phase, &state.last) {
            (Phase::Shared(call), _) | (Phase::Ended(_), Last::Shared(call)) => call.checkpoint(),
            _ => None,
        }
    }

    fn poll_batch(&self, cx: &mut task::Context<'_>, batch: &mut ItemBatch) -> Poll<SourceEvent> {
        self.poll(cx, ReadUntil::Items(batch)).map(|step| match step {
            Step::Ready | Step::Items => SourceEvent::Items,
            Step::Outcome(Outcome::Terminal(terminal)) => SourceEvent::Ended(terminal),
            Step::Outcome(Outcome::Lost(error)) | Step::Refused(error) => SourceEvent::Lost(error),
        })
    }

    fn cancel(&self, kind: StopKind) {
        self.ask_to_end(kind, CancelReason::Caller);
    }

    fn abandon(&self) {
        let state = self.state.lock();
        if matches!(state.phase, Phase::Ended(_)) {
            return;
        }
        let reason = CancelReason::Caller;
        self.finish(state, Outcome::Terminal(Terminal::Cancelled { reason }), true);
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if !matches!(self.state.get_mut().phase, Phase::Ended(_)) {
            self.shared.forget(self);
        }
    }
}

#[cfg(test)]
mod tests;
