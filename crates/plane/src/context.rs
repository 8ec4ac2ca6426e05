//! The context of a request: cancel, deadline and headers.

mod builder;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use self::builder::ContextBuilder;
use crate::{
    CallLimits, CancelReason, Checkpoint, Checkpoints, Continued, Error, Headers, OnCancel,
    StopKind, StreamId, clock,
};

const RUNNING: u8 = 0;
const STOPPED: u8 = 1;
const KILLED: u8 = 2;

/// The execution context of one request: its id, its headers, its deadline, and whether it was
/// cancelled.
///
/// Clones are handles to the same context. The state only moves forward: running, stopped, killed.
/// A stop after a kill changes nothing.
#[derive(Clone)]
pub struct Context(
    Arc<Inner>,
    /// Of a request that this process serves. Of the handle, as a caller in the same process has
    /// another one.
    bool,
);

struct Inner {
    id: StreamId,
    headers: Headers,
    /// What few contexts have.
    rare: Option<Box<Rare>>,
    deadline: Option<Instant>,
    limits: CallLimits,
    /// A stream was opened under the id.
    used: AtomicBool,
    state: AtomicU8,
    reason: AtomicU8,
    changed: Notify,
    /// Whoever wants to hear of a cancel: the transport that carries the request, and child
    /// contexts. Dead ones are swept when the list would grow.
    listeners: Mutex<Listeners>,
}

#[derive(Debug, Clone, Default)]
struct Rare {
    /// Of a child that has other headers than the request that this process serves: that request's.
    received: Option<Headers>,
    /// Of a request whose endpoint declares checkpoints, and of its children.
    checkpoints: Option<Arc<Checkpoints>>,
}

impl Rare {
    /// On the heap, unless it is empty.
    fn boxed(self) -> Option<Box<Self>> {
        let is_empty = self.received.is_none() && self.checkpoints.is_none();
        (!is_empty).then(|| Box::new(self))
    }
}

impl Context {
    /// Makes a context without headers and deadline, with a random id.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Returns a builder for a context with headers, a deadline or a given id.
    pub fn builder() -> ContextBuilder {
        ContextBuilder {
            id: None,
            headers: Headers::new(),
            rare: None,
            deadline: None,
            limits: CallLimits::default(),
        }
    }

    /// A context for a call made on behalf of this one: same headers, deadline and limits, a new
    /// id. Cancelling this context cancels the child, but not the other way round.
    pub fn child(&self) -> Self {
        self.child_with(self.0.headers.clone())
    }

    /// A [`child`](Self::child) with headers of its own.
    pub fn child_with(&self, headers: Headers) -> Self {
        let received = self.received_headers().filter(|received| **received != headers).cloned();
        let checkpoints = self.checkpoints().cloned();
        let mut builder = Self::builder().headers(headers);
        builder.deadline = self.0.deadline;
        builder.limits = self.0.limits;
        builder.rare = Rare { received, checkpoints }.boxed();
        let mut child = builder.build();
        child.1 = self.1;
        let listener = Arc::downgrade(&child.0);
        self.on_cancel(listener);
        child
    }

    /// Makes every cancel of this context also cancel `follower`, at once if this context is
    /// cancelled already. Keeps only a weak reference to `follower`. Two contexts may follow each
    /// other.
    pub fn link(&self, follower: &Self) {
        self.on_cancel(Arc::downgrade(&follower.0));
    }

    /// A context of the same request, with the same id, headers, checkpoints, deadline and limits, that
    /// no cancel of this one reaches, and whose cancel does not reach this one. For code that decides by
    /// itself which cancels it passes on.
    #[must_use]
    pub fn apart(&self) -> Self {
        let mut builder = Self::builder().id(self.0.id).headers(self.0.headers.clone());
        builder.deadline = self.0.deadline;
        builder.limits = self.0.limits;
        builder.rare = self.0.rare.clone();
        let mut other = builder.build();
        other.1 = self.1;
        other
    }

    /// This context, as a handler has it: marked as that of a request that this process serves, for
    /// this handle, its clones and its children.
    #[must_use]
    pub fn received(mut self) -> Self {
        self.1 = true;
        self
    }

    /// True if this context, or an ancestor of it, belongs to a request that this process serves. A
    /// router forwards the [credentials](Headers::CREDENTIALS) of such a request only if it is
    /// configured to do so.
    pub fn is_received(&self) -> bool {
        self.1
    }

    /// The headers of the received request, as its caller sent them. `None` unless this context
    /// [belongs to a request that this process serves](Self::is_received). The headers of a child
    /// context may differ from them.
    pub fn received_headers(&self) -> Option<&Headers> {
        let received = || self.0.rare.as_ref().and_then(|rare| rare.received.as_ref());
        self.1.then(|| received().unwrap_or(&self.0.headers))
    }

    /// A context of the same request, with the same id, deadline and limits, and with other headers
    /// and checkpoints. A cancel of either cancels the other. For code that passes requests to
    /// handlers; the [sink](crate::ResponseSink::with_context) of the request gets it as well.
    #[must_use]
    pub fn replaced(&self, headers: Headers, checkpoints: Option<Arc<Checkpoints>>) -> Self {
        let mut builder = Self::builder().id(self.0.id).headers(headers);
        builder.deadline = self.0.deadline;
        builder.limits = self.0.limits;
        builder.rare = Rare { received: None, checkpoints }.boxed();
        let mut other = builder.build();
        other.1 = self.1;
        self.link(&other);
        other.link(self);
        other
    }

    /// The checkpoints of the request, if its endpoint declares
    /// [`Continuation::Checkpoint`](crate::Continuation::Checkpoint) and its caller is not in this
    /// process.
    pub fn checkpoints(&self) -> Option<&Arc<Checkpoints>> {
        self.0.rare.as_ref()?.checkpoints.as_ref()
    }

    /// Where the handler has to begin, if the request goes on with a response that another handler
    /// has begun. `None` for a new request. Only an endpoint that declares
    /// [`Continuation::Checkpoint`](crate::Continuation::Checkpoint) gets such requests.
    pub fn continued(&self) -> Option<&Continued> {
        self.checkpoints()?.continued()
    }

    /// Attaches a checkpoint to the next item that the handler yields or sends: the state after that
    /// item, in a form of the handler's own, from which another handler can go on. The router keeps
    /// the newest. Call it as often as a repetition of the work since the last one would cost more
    /// than the checkpoint. Before the item is yielded, a second checkpoint takes the place of the
    /// first. Has no effect where nobody could go on: at an endpoint with another declaration, for a
    /// caller in this process, and over a transport without a place for it.
    ///
    /// # Errors
    /// The state has more than [`Checkpoint::MAX_BYTES`] (65,536) bytes. Nothing is attached.
    pub fn checkpoint(&self, state: impl Into<Bytes>) -> Result<(), Error> {
        let state = state.into();
        Checkpoint::check(&state)?;
        if let Some(checkpoints) = self.checkpoints() {
            checkpoints.set(state);
        }
        Ok(())
    }

    /// True while a draining worker asks for a checkpoint, until the handler has yielded an item
    /// with one. A handler that attaches checkpoints to few items looks here for each.
    pub fn is_checkpoint_wanted(&self) -> bool {
        self.checkpoints().is_some_and(|checkpoints| checkpoints.is_wanted())
    }

    /// Waits until a draining worker asks for a checkpoint. Pending for ever where nobody could go
    /// on. Cancel-safe.
    pub async fn checkpoint_wanted(&self) {
        match self.checkpoints() {
            Some(checkpoints) => checkpoints.wanted().await,
            None => std::future::pending().await,
        }
    }

    /// The request's id, which is also the id of its response stream.
    pub fn id(&self) -> StreamId {
        self.0.id
    }

    /// The request's headers.
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    /// The instant by which the response has to end.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// The time limits of calls with this context. The router's limits apply where these are
    /// `None`.
    pub fn limits(&self) -> &CallLimits {
        &self.0.limits
    }

    /// Returns the id for a stream that a transport is about to open: the request's own id at the
    /// first call, then a random one each time, because no two streams may have the same id. A
    /// transport that does not open the stream [returns](Self::return_stream_id) the id.
    pub fn take_stream_id(&self) -> StreamId {
        if self.0.used.swap(true, Ordering::AcqRel) { StreamId::random() } else { self.0.id }
    }

    /// Returns an `id` from [`take_stream_id`](Self::take_stream_id) with which no stream was
    /// opened.
    pub fn return_stream_id(&self, id: StreamId) {
        if id == self.0.id {
            self.0.used.store(false, Ordering::Release);
        }
    }

    /// Time left until the deadline; zero when it has passed, `None` without one.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }

    /// Stops the request: the handler should finish the current item and then end.
    pub fn stop(&self) {
        self.cancel(StopKind::Stop, CancelReason::Caller);
    }

    /// Kills the request: the handler should end now.
    pub fn kill(&self) {
        self.cancel(StopKind::Kill, CancelReason::Caller);
    }

    /// Stops or kills the request for a reason. The first reason is kept. A stop after a kill
    /// changes nothing.
    pub fn cancel(&self, kind: StopKind, reason: CancelReason) {
        self.0.cancel(kind, reason);
    }

    /// True once stopped or killed.
    pub fn is_stopped(&self) -> bool {
        self.0.state.load(Ordering::Acquire) != RUNNING
    }

    /// True once killed.
    pub fn is_killed(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == KILLED
    }

    /// True for clones of one another.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Why the context was cancelled, once it was.
    pub fn reason(&self) -> Option<CancelReason> {
        self.is_stopped().then(|| CancelReason::from_wire(self.0.reason.load(Ordering::Acquire)))
    }

    /// Waits until stopped or killed. Cancel-safe.
    pub async fn stopped(&self) {
        self.reached(STOPPED).await;
    }

    /// Waits until killed. Cancel-safe.
    pub async fn killed(&self) {
        self.reached(KILLED).await;
    }

    /// Waits for such a cancel or a harder one, and says why it came.
    pub(crate) async fn cancelled(&self, kind: StopKind) -> CancelReason {
        match kind {
            StopKind::Stop => self.stopped().await,
            StopKind::Kill => self.killed().await,
        }
        self.reason().unwrap_or(CancelReason::Caller)
    }

    async fn reached(&self, state: u8) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.state.load(Ordering::Acquire) >= state {
                return;
            }
            changed.await;
        }
    }

    /// Calls `listener` on every cancel, at once if the context is cancelled already. Keeps only a
    /// weak reference to it.
    pub fn on_cancel<L: OnCancel + 'static>(&self, listener: Weak<L>) {
        let mut listeners = self.0.listeners.lock();
        listeners.add(listener.clone());
        // Read under the lock that a cancel takes too, so each step is heard exactly once.
        let state = self.0.state.load(Ordering::Acquire);
        drop(listeners);
        if let (Some(listener), true) = (listener.upgrade(), state != RUNNING) {
            let kind = if state == KILLED { StopKind::Kill } else { StopKind::Stop };
            listener.on_cancel(kind, self.reason().unwrap_or(CancelReason::Caller));
        }
    }
}

/// Most contexts have one listener, which needs no list.
#[derive(Default)]
struct Listeners {
    first: Option<Weak<dyn OnCancel>>,
    others: Vec<Weak<dyn OnCancel>>,
}

impl Listeners {
    fn add(&mut self, listener: Weak<dyn OnCancel>) {
        if self.first.as_ref().is_none_or(|first| first.strong_count() == 0) {
            self.first = Some(listener);
            return;
        }
        if self.others.len() == self.others.capacity() {
            self.others.retain(|listener| listener.strong_count() > 0);
        }
        self.others.push(listener);
    }

    fn alive(&self) -> Vec<Arc<dyn OnCancel>> {
        self.first.iter().chain(&self.others).filter_map(Weak::upgrade).collect()
    }
}

impl Inner {
    fn cancel(&self, kind: StopKind, reason: CancelReason) {
        let wanted = match kind {
            StopKind::Stop => STOPPED,
            StopKind::Kill => KILLED,
        };
        let listeners: Vec<_> = {
            let listeners = self.listeners.lock();
            let before = self.state.load(Ordering::Relaxed);
            if before >= wanted {
                return;
            }
            if before == RUNNING {
                self.reason.store(reason.to_wire(), Ordering::Release);
            }
            self.state.store(wanted, Ordering::Release);
            listeners.alive()
        };
        // The first reason is the one that everybody hears.
        let reason = CancelReason::from_wire(self.reason.load(Ordering::Acquire));
        self.changed.notify_waiters();
        for listener in listeners {
            // A listener that panics keeps neither the others from hearing of it, nor whoever
            // cancels many requests from cancelling the rest.
            let _ = catch_unwind(AssertUnwindSafe(|| listener.on_cancel(kind, reason)));
        }
    }
}

impl OnCancel for Inner {
    fn on_cancel(&self, kind: StopKind, reason: CancelReason) {
        self.cancel(kind, reason);
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Context");
        debug.field("id", &format_args!("{}", self.0.id));
        debug.field("headers", &self.0.headers);
        debug.field("remaining", &self.remaining());
        debug.field("cancelled", &self.reason()).finish()
    }
}

#[cfg(test)]
mod tests;
