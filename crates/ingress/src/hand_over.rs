//! Hands the running responses of an instance over to others, when it drains.
//!
//! Only the responses of an endpoint that declares a [`Continuation`] are wrapped here. One that is
//! handed over ends with [`Code::HandedOver`] behind what was sent, and its router continues it at
//! another instance.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    CancelReason, Checkpoint, Code, Context, Continuation, Error, Executed, Headers, InFlightKey,
    InFlightSet, ItemRun, ResponseSink, SinkTarget, StopKind, Terminal, TrySendError,
};
use tokio::{sync::Notify, time::timeout};

/// The responses of one instance that can be handed over.
pub(crate) struct HandOvers {
    running: InFlightSet<Weak<HandOver>>,
    /// A response was handed over behind a checkpoint.
    news: Notify,
    /// Those that were handed over, and are not counted yet.
    count: AtomicUsize,
    /// Those among them whose handlers have not ended.
    ending: AtomicUsize,
}

impl HandOvers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            running: InFlightSet::new(usize::MAX),
            news: Notify::new(),
            count: AtomicUsize::new(0),
            ending: AtomicUsize::new(0),
        })
    }

    /// How many were handed over since the last call.
    pub(crate) fn take_count(&self) -> usize {
        self.count.swap(0, Ordering::AcqRel)
    }

    /// How many were handed over whose handlers have not ended: requests in flight of which no caller
    /// waits for anything.
    pub(crate) fn ending(&self) -> usize {
        self.ending.load(Ordering::Acquire)
    }

    /// Hands all responses over, and each that begins from now on. A handler with checkpoints has
    /// until `limit` for one that covers all it has sent, but no more than half of the `grace`, after
    /// which it has to have ended. Ends when all are handed over or have ended.
    pub(crate) async fn hand_over(&self, limit: Duration, grace: Duration) {
        let limit = limit.min(grace / 2);
        let all: Vec<_> = self.running.cut().iter().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|one| one.begin());
        let handed_over = async {
            loop {
                // Before the look: from here on no news is missed.
                let news = self.news.notified();
                all.iter().for_each(|one| one.end_handler());
                if all.iter().all(|one| one.is_over()) {
                    return;
                }
                news.await;
            }
        };
        if timeout(limit, handed_over).await.is_err() {
            all.iter().for_each(|one| one.end());
        }
    }
}

/// The sink of a response that can be handed over.
pub(crate) struct HandOver {
    all: Arc<HandOvers>,
    continuation: Continuation,
    /// The handler's.
    context: Context,
    state: Mutex<State>,
    was_handed_over: AtomicBool,
    key: OnceLock<InFlightKey>,
}

struct State {
    /// `None` once the response has ended or is handed over.
    sink: Option<ResponseSink>,
    /// How many items the newest checkpoint covers.
    covered: u64,
    /// It is handed over as soon as a checkpoint covers all that was sent.
    is_wanted: bool,
    /// That was done.
    is_handed_over: bool,
}

impl HandOver {
    /// Wraps the sink of a request.
    pub(crate) fn wrap(
        sink: ResponseSink,
        context: &Context,
        continuation: Continuation,
        all: &Arc<HandOvers>,
    ) -> ResponseSink {
        if continuation == Continuation::None {
            return sink;
        }
        let state = State { sink: Some(sink), covered: 0, is_wanted: false, is_handed_over: false };
        let this = Arc::new(Self {
            all: Arc::clone(all),
            continuation,
            context: context.clone(),
            state: Mutex::new(state),
            was_handed_over: AtomicBool::new(false),
            key: OnceLock::new(),
        });
        match all.running.insert(Arc::downgrade(&this)) {
            // Set once, here.
            Ok(key) => drop(this.key.set(key)),
            // The instance drains since the request was admitted.
            Err(_) => this.begin(),
        }
        ResponseSink::new(this, context.clone())
    }

    /// Hands the response over now, or as soon as there is a checkpoint for that.
    fn begin(&self) {
        let waits = {
            let mut state = self.state.lock();
            let waits = self.continuation == Continuation::Checkpoint && !state.is_covered();
            state.is_wanted = waits;
            waits
        };
        match self.context.checkpoints().filter(|_| waits) {
            Some(checkpoints) => checkpoints.want(),
            None => self.end(),
        }
    }

    /// Hands the response over, and ends its handler.
    fn end(&self) {
        let sink = self.state.lock().sink.take();
        if let Some(sink) = sink {
            self.tell(sink);
            self.context.cancel(StopKind::Kill, CancelReason::Shutdown);
        }
    }

    fn tell(&self, sink: ResponseSink) {
        let message = "the worker drains, and hands the response over to another instance";
        sink.fail(Error::new(Code::HandedOver, message));
        self.all.count.fetch_add(1, Ordering::AcqRel);
        self.all.ending.fetch_add(1, Ordering::AcqRel);
        self.was_handed_over.store(true, Ordering::Release);
    }

    /// True once the response has ended or is handed over.
    fn is_over(&self) -> bool {
        self.state.lock().sink.is_none()
    }

    /// Ends the handler of a response that was handed over behind a checkpoint.
    fn end_handler(&self) {
        if self.state.lock().is_handed_over {
            self.context.cancel(StopKind::Kill, CancelReason::Shutdown);
        }
    }

    /// Hands the response over if it waited for what was done now. The handler calls this, within
    /// its own sink, so the drain ends the handler.
    fn end_behind_checkpoint(&self) {
        let sink = {
            let mut state = self.state.lock();
            if !(state.is_wanted && state.is_covered()) {
                return;
            }
            state.is_handed_over = true;
            state.sink.take()
        };
        if let Some(sink) = sink {
            self.tell(sink);
            self.all.news.notify_waiters();
        }
    }

    /// Calls the sink, or returns the error for a handler whose response is over.
    fn with<T>(&self, call: impl FnOnce(&mut ResponseSink) -> T) -> Result<T, Error> {
        match &mut self.state.lock().sink {
            Some(sink) => Ok(call(sink)),
            None => Err(Error::cancelled(CancelReason::Shutdown).with_executed(Executed::Yes)),
        }
    }
}

impl State {
    /// True if another handler can go on behind all that was sent.
    fn is_covered(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.sent() == self.covered)
    }
}

impl SinkTarget for HandOver {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        match self.with(|sink| sink.poll_ready(cx)) {
            Ok(ready) => ready,
            Err(over) => Poll::Ready(Err(over)),
        }
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        self.with(|sink| sink.try_send(item)).map_err(TrySendError::Closed)??;
        self.end_behind_checkpoint();
        Ok(())
    }

    fn try_send_run(&self, run: &mut ItemRun) -> Result<usize, Error> {
        let room = self.with(|sink| sink.try_send_run(run))??;
        self.end_behind_checkpoint();
        Ok(room)
    }

    fn head(&self, head: Headers) {
        // An error is for the handler, and its own sink has looked for it already.
        let _ = self.with(|sink| sink.head(head));
    }

    fn set_facts(&self, facts: Headers) {
        let _ = self.with(|sink| sink.set_facts(facts));
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        let items = checkpoint.items;
        // Its length was checked by the sink in front.
        let _ = self.with(|sink| sink.checkpoint_behind(items, checkpoint.state));
        self.state.lock().covered = items;
        self.end_behind_checkpoint();
    }

    fn acknowledged(&self) -> Option<u64> {
        self.with(|sink| sink.acknowledged()).ok().flatten()
    }

    fn keep_for(&self, grace: Duration) {
        let _ = self.with(|sink| sink.keep_for(grace));
    }

    fn accept(&self) {
        let _ = self.with(|sink| sink.accept());
    }

    fn finish(&self, terminal: Terminal) {
        // Taken out first: telling the caller may call anything.
        let Some(sink) = self.state.lock().sink.take() else { return };
        match terminal {
            Terminal::Complete { .. } => sink.complete(),
            Terminal::Failed { error } if error.executed() == Executed::No => sink.reject(error),
            Terminal::Failed { error } => sink.fail(error),
            Terminal::Cancelled { reason } => sink.cancelled(reason),
        }
        self.all.news.notify_waiters();
    }

    fn flush(&self) {
        let _ = self.with(|sink| sink.flush());
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if let Some(key) = self.key.get() {
            self.all.running.remove(*key);
        }
        if *self.was_handed_over.get_mut() {
            self.all.ending.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
