//! The response stream of a caller.

mod cancel;
mod running;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;

pub use self::running::{RunningStream, StreamPlace};
use crate::{
    BoxFuture, CallLimits, Checkpoint, Code, Context, Error, Executed, Fault, Headers, ItemBatch,
    ItemWait, Outcome, ResumeToken, StopKind, Terminal, Way, limits::accept_timed_out, timeout,
};

/// The result of polling a [`ResponseSource`].
#[derive(Debug)]
pub enum SourceEvent {
    /// At least one item was added to the batch.
    Items,
    /// The stream ended; no item was added to the batch.
    Ended(Terminal),
    /// The producer or the connection to it was lost; no item was added to the batch. The error
    /// says whether the handler may have run, which the router needs to decide about a resend.
    Lost(Error),
}

/// The receiving end of a stream inside a transport.
pub trait ResponseSource: Send + Sync {
    /// Ready once the worker has accepted the request, an item or a successful end has arrived, or
    /// the stream has failed.
    fn poll_started(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>>;

    /// Ready with the head of the response once it has arrived, or with an empty head once an item
    /// or the end has arrived without one. Returns the same head each time until
    /// [`abandon`](Self::abandon).
    fn poll_head(&self, cx: &mut task::Context<'_>) -> Poll<Headers>;

    /// The facts that arrived with the terminal; empty before it, and if there are none.
    fn facts(&self) -> Headers;

    /// The newest checkpoint that has arrived, with items that may not have been taken yet. The
    /// default is none, for a transport that cannot carry checkpoints.
    fn checkpoint(&self) -> Option<Checkpoint> {
        None
    }

    /// What another process needs to read the stream from `next_item` on. `None`, the default, if
    /// that is not possible: the transport keeps no streams, or the stream is over.
    fn resume_token(&self, next_item: u64) -> Option<ResumeToken> {
        let _ = next_item;
        None
    }

    /// Moves all items that have arrived to the end of `batch`. The items of the last batch count
    /// as consumed now, which grants new credit, so call it with an empty batch only.
    fn poll_batch(&self, cx: &mut task::Context<'_>, batch: &mut ItemBatch) -> Poll<SourceEvent>;

    /// True if the request is known to be admitted without an acceptance, as within one process.
    /// The [start](Self::poll_started) is then waited for only briefly, in case the handler refuses
    /// at once.
    fn is_admitted(&self) -> bool {
        false
    }

    /// Cancels the producer. Must not block. The stream still ends with a terminal.
    fn cancel(&self, kind: StopKind);

    /// Moves the stream to a connection over another way to the same process, while the one that it
    /// is on stays up. The future fails if the way cannot be used; the stream then stays where it
    /// is. The default is for sources whose streams are bound to their connection.
    fn move_to(self: Arc<Self>, way: Way) -> BoxFuture<'static, Result<(), Error>> {
        let _ = way;
        let error = Error::new(Code::NoTransport, "this stream cannot be moved");
        Box::pin(std::future::ready(Err(error)))
    }

    /// The transport of the connection that the stream is on, and how many items have arrived. `None`
    /// for a stream that has ended, and, which is the default, for a source whose streams are bound
    /// to their connection.
    fn place(&self) -> Option<StreamPlace> {
        None
    }

    /// Called when the consumer will not poll again: kill the producer and free the stream.
    fn abandon(&self);
}

/// The items of one response, in order, and then its end. Items that arrived together may share a
/// buffer of up to a window: copy an item that is kept much longer than the others.
///
/// `None` without an `Err` before it means complete. After an `Err` the stream is over and
/// [`outcome`](Self::outcome) tells failed, cancelled and truncated apart. Dropping it before
/// its end kills the request's handler.
pub struct ResponseStream {
    source: Arc<dyn ResponseSource>,
    batch: ItemBatch,
    received: u64,
    outcome: Option<Outcome>,
    context: Context,
    /// Longest wait for the acceptance.
    accept: Duration,
    wait: Option<Box<ItemWait>>,
    /// A limit passed: the source was let go of, and this is why.
    given_up: Option<Error>,
    /// Of a stream that reads what another one has kept, from an item on.
    reads: Option<Box<ResumeToken>>,
}

/// How long the start of a request that is admitted already is waited for.
const ADMITTED: Duration = Duration::from_millis(50);

impl ResponseStream {
    /// Wraps the source of a transport. The time limits are those of the context.
    pub fn new(source: Arc<dyn ResponseSource>, context: Context) -> Self {
        Self::limited(source, context, CallLimits::default())
    }

    /// As [`new`](Self::new), without time limits, for a stream whose limits other code keeps.
    pub fn unlimited(source: Arc<dyn ResponseSource>, context: Context) -> Self {
        Self::with(source, context, Duration::MAX, None)
    }

    /// As [`new`](Self::new), with limits that apply where the context sets none.
    pub fn limited(source: Arc<dyn ResponseSource>, context: Context, limits: CallLimits) -> Self {
        let own = *context.limits();
        let limits = own.or(limits);
        // Who asks for the start waits for it there. Only a call that limits it by itself is
        // watched also when nobody asks.
        let wait = match own.accept {
            Some(limit) if limit != Duration::MAX => Some(ItemWait::with_acceptance(limits)),
            _ => ItemWait::new(limits),
        };
        Self::with(source, context, limits.accept_or_default(), wait)
    }

    fn with(
        source: Arc<dyn ResponseSource>,
        context: Context,
        accept: Duration,
        wait: Option<Box<ItemWait>>,
    ) -> Self {
        Self {
            source,
            batch: ItemBatch::new(),
            received: 0,
            outcome: None,
            context,
            accept,
            wait,
            given_up: None,
            reads: None,
        }
    }

    /// Sets the number of the first item, for a stream that is taken over in its middle: as many
    /// items count as received.
    #[must_use]
    pub fn beginning_at(mut self, item: u64) -> Self {
        self.received = item;
        self
    }

    /// Sets that the stream repeats another one from an item on, which the worker retains: as many
    /// items count as received, and a token leads to the other one.
    #[must_use]
    pub fn reading(mut self, token: ResumeToken) -> Self {
        self.received = token.next_item;
        self.reads = Some(Box::new(token));
        self
    }

    /// Sets that the request is accepted already: the wait for its start has no limit.
    #[must_use]
    pub fn accepted(mut self) -> Self {
        self.accept = Duration::MAX;
        if let Some(wait) = &mut self.wait {
            wait.accepted();
        }
        self
    }

    /// Waits until the worker has accepted the request, no longer than the accept limit. An error
    /// here came before any item: its [`Error::is_safe_to_resend`] says whether another instance
    /// may be tried. Cancel-safe; the limit counts from the call of this method.
    ///
    /// # Errors
    /// A refusal, a failure of the handler before its first item, the loss of the peer, or
    /// [`Code::AcceptTimedOut`], after which the stream is over.
    pub async fn started(&mut self) -> Result<(), Error> {
        if let Some(error) = &self.given_up {
            return Err(error.clone());
        }
        let is_admitted = self.source.is_admitted();
        let limit = if is_admitted { ADMITTED.min(self.accept) } else { self.accept };
        let started = std::future::poll_fn(|cx| self.source.poll_started(cx));
        match timeout(limit, started).await {
            Ok(started) => started,
            Err(_) if is_admitted => Ok(()),
            Err(_) => Err(self.give_up(accept_timed_out(limit))),
        }
    }

    /// The head of the response, which the handler sends before its first item. Waits until the
    /// head, the first item or the end arrives. Empty if the handler sent no head, and always from
    /// Dynamo workers. Takes no item, so it may be called before, between and after them, and
    /// returns the same head each time. Cancel-safe.
    ///
    /// # Errors
    /// As [`started`](Self::started), and [`Code::FirstItemTimedOut`] if that limit passes first. A
    /// failure after the handler began is no error here; the items and [`outcome`](Self::outcome)
    /// report it.
    pub async fn head(&mut self) -> Result<Headers, Error> {
        let at_once = std::future::poll_fn(|cx| Poll::Ready(self.source.poll_head(cx))).await;
        match at_once {
            // Begun, however it ended since.
            Poll::Ready(head) if !head.is_empty() || self.received > 0 => Ok(head),
            _ => {
                self.started().await?;
                std::future::poll_fn(|cx| self.poll_head(cx)).await
            }
        }
    }

    /// Ready once the head is known, for code that wraps the stream; see [`head`](Self::head).
    ///
    /// # Errors
    /// A limit of the call has passed, and the stream is over.
    pub fn poll_head(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Headers, Error>> {
        if let Some(error) = &self.given_up {
            return Poll::Ready(Err(error.clone()));
        }
        if let Poll::Ready(head) = self.source.poll_head(cx) {
            return Poll::Ready(Ok(head));
        }
        let error = ready!(self.poll_limits(cx));
        Poll::Ready(Err(self.give_up(error)))
    }

    /// The facts of the response, which the handler sends with the end, whether that is complete,
    /// failed or cancelled. Empty before the end was read, if the handler set none, if the stream
    /// was lost, and always from Dynamo workers.
    pub fn facts(&self) -> Headers {
        match self.outcome {
            Some(_) => self.source.facts(),
            None => Headers::new(),
        }
    }

    /// The newest checkpoint that the handler has attached to an item. After the end of the stream
    /// it covers no more than the items that were taken. `None` if the handler attached none, or the
    /// transport cannot carry checkpoints.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.source.checkpoint()
    }

    /// The token with which another process reads the stream from the next item on, that is behind
    /// the items that were [received](Self::received): see
    /// [`DuplexTransport::resume`](crate::DuplexTransport::resume). `None` if that is not possible:
    /// the transport or its peer keeps no streams, or the stream is over.
    pub fn resume_token(&self) -> Option<ResumeToken> {
        if self.outcome.is_some() || self.given_up.is_some() {
            return None;
        }
        match &self.reads {
            Some(token) => Some(token.at(self.received)),
            None => self.source.resume_token(self.received),
        }
    }

    /// A limit passed: the producer is to end, and nobody waits for it.
    fn give_up(&mut self, error: Error) -> Error {
        self.source.abandon();
        self.given_up = Some(error.clone());
        error
    }

    /// Nothing is there. Ready once a limit of the call has passed.
    fn poll_limits(&mut self, cx: &mut task::Context<'_>) -> Poll<Error> {
        let Some(wait) = &mut self.wait else { return Poll::Pending };
        if wait.wants_acceptance()
            && (self.source.is_admitted() || self.source.poll_started(cx).is_ready())
        {
            wait.accepted();
        }
        wait.poll_passed(cx)
    }

    /// Moves the running stream to a connection over another way to the same process. Its items go
    /// on without a gap and without a double. The future needs no access to the stream, which can be
    /// read meanwhile. Dropping it before its end leaves the stream where it is, or where it was to
    /// go.
    ///
    /// The future fails if the way cannot be connected, leads to another process or is of another
    /// protocol, and if the stream has ended, or its handler is not known to have begun. It then
    /// stays where it is.
    pub fn move_to(&self, way: Way) -> BoxFuture<'static, Result<(), Error>> {
        Arc::clone(&self.source).move_to(way)
    }

    /// A hold on the stream, for code that moves streams it does not read. `None` for a stream that
    /// cannot be moved.
    pub fn running(&self) -> Option<RunningStream> {
        RunningStream::of(&self.source)
    }

    /// The request's context: stop, kill, deadline.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How many items have been taken.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The outcome, once the stream has ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    fn end(&mut self, outcome: Outcome) -> Option<Error> {
        let outcome = outcome.behind_items(self.received);
        let error = match &outcome {
            Outcome::Complete { .. } => None,
            Outcome::Failed { error } => Some(error.clone()),
            Outcome::Cancelled { reason } => Some(Error::cancelled(*reason)),
            Outcome::Truncated { received } => Some(Error::new(
                Code::Truncated,
                format!(
                    "the stream broke off after {received} items: its producer or the way to it was lost"
                ),
            )),
        };
        self.outcome = Some(outcome);
        error.map(|error| error.behind_items(self.received))
    }

    /// Something is missing. A peer that broke the protocol is named as such; of any other loss
    /// only what came before it matters, and why is in the message.
    fn end_by_loss(&mut self, error: Error) -> Option<Error> {
        let received = self.received;
        let is_violation = error.fault() == Fault::Protocol;
        let began = is_violation && error.executed() == Executed::Yes;
        if received == 0 && !began && error.code() != Code::Truncated {
            return self.end(Outcome::Failed { error });
        }
        self.outcome = Some(Outcome::Truncated { received });
        Some(if error.fault() != Fault::Transport || error.code() == Code::Truncated {
            error.with_executed(Executed::Yes)
        } else {
            let message = format!("the stream broke off after {received} items: {error}");
            Error::new(Code::Truncated, message).with_source(error)
        })
    }
}

impl ResponseStream {
    /// Polls for the next item and returns what `read` makes of its bytes. `read` gets a slice of
    /// the receive buffer, so the item does not become a [`Bytes`] of its own. Otherwise as polling
    /// the stream.
    #[inline]
    pub fn poll_item<T>(
        &mut self,
        cx: &mut task::Context<'_>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Poll<Option<Result<T, Error>>> {
        loop {
            if let Some(item) = self.batch.next_slice() {
                let item = read(item);
                self.taken();
                return Poll::Ready(Some(Ok(item)));
            }
            if let Some(end) = ready!(self.poll_more(cx)) {
                return Poll::Ready(end.map(Err));
            }
        }
    }

    #[inline]
    fn taken(&mut self) {
        self.received += 1;
        if let Some(wait) = &mut self.wait {
            wait.on_item();
        }
    }

    /// The batch is empty. Ready with `None` when there may be more in it, else with the end: the
    /// error that it is, if it is one.
    fn poll_more(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Option<Error>>> {
        loop {
            if self.outcome.is_some() {
                return Poll::Ready(Some(None));
            }
            if let Some(error) = self.given_up.clone() {
                return Poll::Ready(Some(self.end(Outcome::Failed { error })));
            }
            match self.source.poll_batch(cx, &mut self.batch) {
                Poll::Ready(SourceEvent::Items) => return Poll::Ready(None),
                Poll::Ready(SourceEvent::Ended(terminal)) => {
                    return Poll::Ready(Some(self.end_by(terminal)));
                }
                Poll::Ready(SourceEvent::Lost(error)) => {
                    return Poll::Ready(Some(self.end_by_loss(error)));
                }
                Poll::Pending => {
                    let error = ready!(self.poll_limits(cx));
                    self.give_up(error);
                }
            }
        }
    }

    fn end_by(&mut self, terminal: Terminal) -> Option<Error> {
        // One that repeats another counts from where it began.
        let first = self.reads.as_ref().map_or(0, |token| token.next_item);
        self.end(match terminal {
            Terminal::Complete { items } if items.checked_add(first) == Some(self.received) => {
                Outcome::Complete { items: self.received }
            }
            Terminal::Complete { items } => {
                let message =
                    format!("the producer counted {items} items and {} arrived", self.received);
                Outcome::Failed { error: Error::new(Code::Corrupt, message) }
            }
            Terminal::Failed { error } => Outcome::Failed { error },
            Terminal::Cancelled { reason } => Outcome::Cancelled { reason },
        })
    }
}

impl Stream for ResponseStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(item) = this.batch.pop() {
                this.taken();
                return Poll::Ready(Some(Ok(item)));
            }
            if let Some(end) = ready!(this.poll_more(cx)) {
                return Poll::Ready(end.map(Err));
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.batch.size_hint()
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if self.given_up.is_none() {
            self.source.abandon();
        }
    }
}

impl fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStream")
            .field("id", &format_args!("{}", self.context.id()))
            .field("received", &self.received)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}
