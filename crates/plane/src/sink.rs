//! The response sink of a handler.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;

use crate::{CancelReason, Checkpoint, Code, Context, Error, Executed, Headers, ItemRun, Terminal};

/// Why an item was not taken. The error returns the item if it can still be sent.
#[derive(Debug)]
pub enum TrySendError {
    /// The window is full: the consumer has to take items first. Holds the item.
    Full(Bytes),
    /// The stream is over, cancelled or lost. No further item can be sent.
    Closed(Error),
}

/// The sending end of a stream inside a transport.
pub trait SinkTarget: Send + Sync {
    /// Ready when there is credit for another item. Only the latest waker is kept.
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>>;

    /// Takes an item. It may leave the writing to [`flush`](Self::flush).
    fn try_send(&self, item: Bytes) -> Result<(), TrySendError>;

    /// Sends the head of the response. [`ResponseSink`] calls it at most once, and before the first
    /// item. A transport that cannot carry it accepts the request and leaves the head out.
    fn head(&self, head: Headers);

    /// Sets the facts that are sent with the terminal. The last call before
    /// [`finish`](Self::finish) counts. A transport that cannot carry them leaves them out.
    fn set_facts(&self, facts: Headers);

    /// Keeps a checkpoint, and sends it behind the items that it covers, of which the last may not
    /// have come yet. It needs no credit. A later checkpoint may replace it before it is sent. A
    /// transport that cannot carry checkpoints leaves them out, as the default does; a router then
    /// continues from an earlier item.
    fn checkpoint(&self, checkpoint: Checkpoint) {
        let _ = checkpoint;
    }

    /// How many items the consumer has acknowledged, since the beginning of the stream. `None`, the
    /// default, if the transport does not know.
    fn acknowledged(&self) -> Option<u64> {
        None
    }

    /// Takes as many items from the front of the run as there is credit for, as
    /// [`try_send`](Self::try_send) does with each. Returns how many more it would take now, as far
    /// as it knows; 1 only means that the next item may be tried.
    ///
    /// # Errors
    /// The stream is over, or the first item that is left in the run is too large.
    fn try_send_run(&self, run: &mut ItemRun) -> Result<usize, Error> {
        try_send_each(self, run)
    }

    /// Sends the acceptance to the consumer, unless an item or the end does so. May be called after
    /// the end, where it changes nothing.
    fn accept(&self);

    /// Ends the stream. Later calls change nothing.
    fn finish(&self, terminal: Terminal);

    /// Writes the gathered output, or leaves that to the running burst.
    fn flush(&self);

    /// Sets how long the stream is kept for its consumer after the loss of its connection, instead
    /// of the transport's own setting; zero ends it with the connection. A transport that keeps no
    /// streams, as is the default, does nothing.
    fn keep_for(&self, grace: Duration) {
        let _ = grace;
    }
}

/// Sends a run item by item, for a target that cannot take runs, and for a run that it cannot take
/// whole.
///
/// # Errors
/// As [`SinkTarget::try_send_run`].
pub fn try_send_each(
    target: &(impl SinkTarget + ?Sized),
    run: &mut ItemRun,
) -> Result<usize, Error> {
    while let Some(item) = run.pop() {
        let kept = item.clone();
        match target.try_send(item) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                run.put_back(&kept);
                return Ok(0);
            }
            Err(TrySendError::Closed(error)) => {
                run.put_back(&kept);
                return Err(error);
            }
        }
    }
    Ok(1)
}

/// The producing end of one response: takes its items and its end.
///
/// Items are numbered from 0 in the order in which they are sent. Dropping the sink without an end
/// fails the stream with [`Code::HandlerGone`], or ends it as cancelled if it was cancelled.
pub struct ResponseSink {
    target: Arc<dyn SinkTarget>,
    context: Context,
    sent: u64,
    has_head: bool,
    ended: bool,
}

impl ResponseSink {
    /// Wraps a transport's target.
    pub fn new(target: Arc<dyn SinkTarget>, context: Context) -> Self {
        Self { target, context, sent: 0, has_head: false, ended: false }
    }

    /// Replaces the context, for a request whose context differs from that of the stream. The
    /// caller has to [link](Context::link) the two.
    #[must_use]
    pub fn with_context(mut self, context: Context) -> Self {
        self.context = context;
        self
    }

    /// Sets how long the stream is kept for its consumer after the loss of its connection, instead
    /// of the transport's own setting; zero ends it with the connection. Without effect over a
    /// transport that keeps no streams.
    pub fn keep_for(&self, grace: Duration) {
        self.target.keep_for(grace);
    }

    /// As [`with_context`](Self::with_context), in place.
    pub fn set_context(&mut self, context: Context) {
        self.context = context;
    }

    /// The request's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How many items the consumer has acknowledged; `None` if the transport does not know.
    pub fn acknowledged(&self) -> Option<u64> {
        self.target.acknowledged()
    }

    /// How many items were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends the head of the response: headers before the first item. It is written at once, or at
    /// the end of the [`burst`](crate::burst()), and tells the caller that the handler has begun.
    /// The caller reads it with [`ResponseStream::head`](crate::ResponseStream::head). An empty
    /// head means that there is none, so that a caller does not wait for one.
    ///
    /// [`Headers`] bounds it: 64 entries, 65,536 bytes. It needs no credit. Dynamo callers do not
    /// get it, because their protocol has no place for it.
    ///
    /// # Errors
    /// An item or another head was sent before; then nothing is sent. The stream goes on.
    pub fn head(&mut self, head: Headers) -> Result<(), Error> {
        if self.sent > 0 || self.has_head {
            let message = "the head of a response goes before its first item, and only once";
            return Err(Error::handler(message));
        }
        self.has_head = true;
        self.target.head(head);
        self.target.flush();
        Ok(())
    }

    /// Attaches a checkpoint to the next item: the state of the handler behind that item, with which
    /// another instance can continue the response if this one ends early. The router of an endpoint
    /// that declares checkpoints keeps the newest one that has arrived.
    ///
    /// # Errors
    /// The state is over [`Checkpoint::MAX_BYTES`]. The stream continues without it.
    pub fn checkpoint(&mut self, state: impl Into<Bytes>) -> Result<(), Error> {
        self.checkpoint_behind(self.sent + 1, state)
    }

    /// As [`checkpoint`](Self::checkpoint), for a state that covers the first `items` items of the
    /// stream, for code that gathers items before it sends them.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_behind(&mut self, items: u64, state: impl Into<Bytes>) -> Result<(), Error> {
        let state = state.into();
        Checkpoint::check(&state)?;
        self.target.checkpoint(Checkpoint { items, state });
        if items <= self.sent {
            self.target.flush();
        }
        Ok(())
    }

    /// Waits for credit, sends an item and flushes it. Cancel-safe: if the future is dropped, the
    /// item was not sent.
    ///
    /// # Errors
    /// The stream is over, cancelled or lost, or the item is over the transport's limit.
    pub async fn send(&mut self, item: Bytes) -> Result<(), Error> {
        let mut item = item;
        loop {
            match self.try_send(item) {
                Ok(()) => {
                    self.flush();
                    return Ok(());
                }
                Err(TrySendError::Closed(error)) => return Err(error),
                Err(TrySendError::Full(back)) => item = back,
            }
            self.flush();
            std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        }
    }

    /// Sends an item if there is credit. It is written with the next [`flush`](Self::flush), at
    /// once if the connection has no other output, or at the end of the [`burst`](crate::burst()).
    ///
    /// # Errors
    /// [`TrySendError::Full`] without credit, [`TrySendError::Closed`] when the stream is over.
    pub fn try_send(&mut self, item: Bytes) -> Result<(), TrySendError> {
        self.target.try_send(item)?;
        self.sent += 1;
        Ok(())
    }

    /// Sends as many items from the front of the run as there is credit for; the run keeps the
    /// others. The items are written as after [`try_send`](Self::try_send). Returns how many more
    /// items would be taken now, as far as the transport knows.
    ///
    /// # Errors
    /// The stream is over, cancelled or lost, or an item is over the transport's limit; those
    /// before it are sent.
    pub fn try_send_run(&mut self, run: &mut ItemRun) -> Result<usize, Error> {
        let before = run.count();
        let room = self.target.try_send_run(run);
        self.sent += (before - run.count()) as u64;
        room
    }

    /// Ready when there is credit for another item.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.target.poll_ready(cx)
    }

    /// Tells the caller at once that the handler has begun, for a handler whose first item takes
    /// long.
    pub fn accept(&mut self) {
        if self.sent == 0 && !self.ended {
            self.target.accept();
            self.target.flush();
        }
    }

    /// Returns a handle that tells the caller that the request is admitted. Code that hands the
    /// sink to a handler uses it, because the handler may send nothing for a long time.
    pub fn acceptance(&self) -> Acceptance {
        Acceptance(Arc::downgrade(&self.target))
    }

    /// Writes the gathered output.
    pub fn flush(&self) {
        self.target.flush();
    }

    /// Ends the stream: every item was sent.
    pub fn complete(mut self) {
        let items = self.sent;
        self.finish(Terminal::Complete { items });
    }

    /// Ends the stream as [`complete`](Self::complete), with facts: headers about the whole
    /// response, such as its cost.
    pub fn complete_with(mut self, facts: Headers) {
        self.set_facts(facts);
        self.complete();
    }

    /// Sets facts about the whole response, which are sent with its end, whether that is complete,
    /// failed or cancelled, also by a drop. Later facts replace earlier ones. The caller reads them
    /// with [`ResponseStream::facts`](crate::ResponseStream::facts).
    ///
    /// [`Headers`] bounds them: 64 entries, 65,536 bytes. A stream whose connection is lost, or
    /// that this process ends because the memory budget is spent, has none. Dynamo callers do not
    /// get them, because their protocol has no place for them.
    pub fn set_facts(&mut self, facts: Headers) {
        self.target.set_facts(facts);
    }

    /// Ends the stream with the handler's error. The request counts as executed, also when the
    /// error is a refusal that the handler got from another service: the handler has done its own
    /// work by then.
    pub fn fail(mut self, error: Error) {
        self.finish(Terminal::Failed { error: error.with_executed(Executed::Yes) });
    }

    /// Refuses the request before a handler ran, so that the router may send it to another
    /// instance.
    pub fn reject(mut self, error: Error) {
        self.finish(Terminal::Failed { error: error.with_executed(Executed::No) });
    }

    /// Ends the stream early on purpose.
    pub fn cancelled(mut self, reason: CancelReason) {
        self.finish(Terminal::Cancelled { reason });
    }

    fn finish(&mut self, terminal: Terminal) {
        self.ended = true;
        self.target.finish(terminal);
        self.target.flush();
    }
}

/// Sends the acceptance of a request to its caller, unless that was sent before. Does not keep the
/// stream open.
#[derive(Clone)]
pub struct Acceptance(Weak<dyn SinkTarget>);

impl Acceptance {
    /// Sends the acceptance, if the stream has not ended.
    pub fn send(&self) {
        if let Some(target) = self.0.upgrade() {
            target.accept();
            target.flush();
        }
    }

    /// True while the sink or the transport still holds the stream.
    pub fn is_live(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl fmt::Debug for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptance").field("is_live", &self.is_live()).finish()
    }
}

impl Drop for ResponseSink {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let terminal = match self.context.reason() {
            Some(reason) => Terminal::Cancelled { reason },
            None => Terminal::Failed {
                error: Error::new(
                    Code::HandlerGone,
                    "the handler went away without ending its response",
                ),
            },
        };
        self.finish(terminal);
    }
}

impl fmt::Debug for ResponseSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseSink")
            .field("id", &format_args!("{}", self.context.id()))
            .field("sent", &self.sent)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
