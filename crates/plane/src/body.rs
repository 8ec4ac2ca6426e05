//! A response, as an engine makes it and as its caller reads it. Both use the same type.

mod cancel;
mod events;
mod source;
mod watch;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll, ready},
};

use futures_core::Stream;

use self::watch::Watch;
pub use self::{
    events::{BodyEvent, BodyEvents},
    source::{BodyEnd, BodySource, BoxSource, Next, OnBodyEnd},
    watch::panicked,
};
use crate::{
    CancelReason, Context, Error, Headers, ItemWait, Migrated, Migrations, Outcome, ResumeToken,
    StopKind,
};

/// The response to one request: a stream of values, then exactly one end.
///
/// `None` without an `Err` before it means complete. After an `Err` the stream is over;
/// [`outcome`](Self::outcome) tells failed, cancelled and truncated apart. Dropping it before its
/// end cancels the request.
pub struct Body<T> {
    /// `None` after the end. Declared before `on_end`, so that a drop first cancels the handler and
    /// then releases what `on_end` counts.
    source: Option<BoxSource<T>>,
    on_end: Option<Box<dyn OnBodyEnd>>,
    context: Context,
    received: u64,
    outcome: Option<Outcome>,
    metadata: Option<Box<Metadata>>,
    /// For a response whose engine runs in the task of its reader.
    watch: Option<Watch>,
}

/// The head and facts of a response.
#[derive(Default)]
struct Metadata {
    head: Headers,
    facts: Headers,
    make_facts: Option<Box<dyn FnOnce() -> Headers + Send>>,
    /// Of a response that may move to another instance.
    migrations: Option<Migrations>,
}

/// The name of a response in the design documents.
pub type ManyOut<T> = Body<T>;

impl<T> Body<T> {
    /// Makes a response from a source or a stream of results. A stream's end is complete, or failed
    /// with its first error. `context` is that of the request.
    pub fn new(values: impl BodySource<T> + 'static, context: Context) -> Self {
        Self::from_source(Box::pin(values), context)
    }

    /// As [`new`](Self::new), from a source that is boxed already.
    pub fn from_source(source: BoxSource<T>, context: Context) -> Self {
        Self {
            source: Some(source),
            on_end: None,
            context,
            received: 0,
            outcome: None,
            metadata: None,
            watch: None,
        }
    }

    /// Sets the head of the response, which its caller gets before the first value: see
    /// [`ResponseSink::head`](crate::ResponseSink::head).
    #[must_use]
    pub fn with_head(mut self, head: Headers) -> Self {
        self.metadata.get_or_insert_default().head = head;
        self
    }

    /// Sets facts about the whole response, such as its cost. `facts` is called once, when the
    /// values have ended, in any way. See
    /// [`ResponseSink::set_facts`](crate::ResponseSink::set_facts).
    #[must_use]
    pub fn with_facts(mut self, facts: impl FnOnce() -> Headers + Send + 'static) -> Self {
        self.metadata.get_or_insert_default().make_facts = Some(Box::new(facts));
        self
    }

    /// The head of the response, which the handler sends before the first value. Waits until the
    /// head, the first value or the end arrives. May be called before and after the first value, and
    /// returns the same head each time; empty if there is none. Cancel-safe.
    ///
    /// # Errors
    /// The response failed before its first value. Polling the values returns the error as well.
    pub async fn head(&mut self) -> Result<Headers, Error> {
        std::future::poll_fn(|cx| self.poll_head(cx)).await
    }

    /// Ready once the head is known, for code that wraps the response; see [`head`](Self::head).
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub fn poll_head(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Headers, Error>> {
        let own = self.metadata.as_ref().map(|metadata| &metadata.head);
        if let Some(head) = own.filter(|head| !head.is_empty()) {
            return Poll::Ready(Ok(head.clone()));
        }
        let Some(source) = &mut self.source else { return Poll::Ready(Ok(Headers::new())) };
        let head = ready!(match &mut self.watch {
            None => source.as_mut().poll_head(cx),
            Some(watch) => watch.poll_head(source.as_mut(), &self.context, cx),
        });
        self.keep_head(head.as_ref().ok());
        Poll::Ready(head)
    }

    fn keep_head(&mut self, head: Option<&Headers>) {
        if let Some(head) = head.filter(|head| !head.is_empty()) {
            self.metadata.get_or_insert_default().head = head.clone();
        }
    }

    /// The token with which another process continues to read the response from the next value on,
    /// such as after the end of this process. `None` if that is not possible: the response is over,
    /// comes from within this process, or over a transport that keeps no streams.
    pub fn resume_token(&self) -> Option<ResumeToken> {
        self.source.as_ref()?.source_token()
    }

    /// Returns the facts that the engine has set so far. Use it in code that stops reading before
    /// the response has ended. After the end it returns the same headers as [`facts`](Self::facts).
    pub fn facts_by_now(&mut self) -> Headers {
        if let Some(source) = &self.source {
            let facts = source.source_facts();
            self.keep_facts(facts);
        }
        self.facts()
    }

    /// The facts that arrived with the end; empty before it, and if there are none.
    pub fn facts(&self) -> Headers {
        self.metadata.as_ref().map_or_else(Headers::new, |metadata| metadata.facts.clone())
    }

    /// Sets where the source notes that the response has moved to another instance.
    #[must_use]
    pub fn with_migrations(mut self, migrations: Migrations) -> Self {
        self.metadata.get_or_insert_default().migrations = Some(migrations);
        self
    }

    /// The moves of the response to other instances so far, in their order: its worker was lost or
    /// drained, and the endpoint declares a [`Continuation`](crate::Continuation). The values are an
    /// unbroken sequence across them. [`events`](Self::events) shows them between the values.
    pub fn migrations(&self) -> Vec<Migrated> {
        self.noted().map_or_else(Vec::new, Migrations::all)
    }

    fn noted(&self) -> Option<&Migrations> {
        self.metadata.as_ref()?.migrations.as_ref()
    }

    /// Returns the response as a stream of its values and of its moves to other instances, each
    /// between the two values where it happened.
    pub fn events(self) -> BodyEvents<T> {
        BodyEvents::new(self)
    }

    /// The request's context: stop, kill, deadline.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How many values were read so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The outcome, once the response has ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Polls for the next value or the end. Must not be called again after the end.
    #[inline]
    fn poll_source(&mut self, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(Next::End(BodyEnd::complete()));
        };
        match &mut self.watch {
            None => source.as_mut().poll_value(cx),
            Some(watch) => watch.poll_value(source.as_mut(), &self.context, cx),
        }
    }

    #[cold]
    fn end(&mut self, end: BodyEnd) -> Option<Error> {
        let BodyEnd { error, outcome } = end;
        if let Some(mut source) = self.source.take() {
            self.keep_facts(source.source_facts());
            let mut no_waker = task::Context::from_waker(task::Waker::noop());
            // Kept now, because the reader may ask for it later.
            if let Poll::Ready(Ok(head)) = source.as_mut().poll_head(&mut no_waker) {
                self.keep_head(Some(&head));
            }
        }
        let error = error.map(|error| error.behind_items(self.received));
        let outcome = match (outcome, &error) {
            (Some(outcome), _) => outcome.behind_items(self.received),
            (None, Some(error)) => Outcome::Failed { error: error.clone() },
            (None, None) => Outcome::Complete { items: self.received },
        };
        if let Some(on_end) = self.on_end.take() {
            on_end.ended(&outcome, error.as_ref());
        }
        self.outcome = Some(outcome);
        error
    }

    fn keep_facts(&mut self, from_source: Headers) {
        let make = self.metadata.as_mut().and_then(|metadata| metadata.make_facts.take());
        let facts = match make {
            None => from_source,
            Some(make) if self.watch.is_none() => make(),
            // A panic of the engine must not reach the reader.
            Some(make) => catch_unwind(AssertUnwindSafe(make)).unwrap_or_default(),
        };
        if !facts.is_empty() {
            self.metadata.get_or_insert_default().facts = facts;
        }
    }
}

impl<T: 'static> Body<T> {
    /// Makes this the response to the request of `context`. Use it for an engine that runs in the
    /// task of the reader. A cancel or the deadline of the request ends the response, a drop before
    /// the end kills the request, and a panic of the engine fails the response. If the engine
    /// returns the response to a request that it has sent itself, this inner response keeps its own
    /// watch and its own listeners.
    ///
    /// `wait` limits the waits for values. A response that is already watched for this request, for
    /// example by the ingress of the same process, keeps its watch and gets these limits.
    #[must_use]
    pub fn watched(self, context: &Context, wait: Option<Box<ItemWait>>) -> Self {
        let mut body = if self.is_watched(context) { self } else { self.watched_anew(context) };
        if let Some(wait) = wait {
            body.watch.get_or_insert_default().limit(wait);
        }
        body
    }

    /// True if the response is watched for this request, and nothing of it was read.
    fn is_watched(&self, context: &Context) -> bool {
        let is_unread = self.outcome.is_none() && self.received == 0;
        self.watch.is_some() && self.context.is_same(context) && is_unread
    }

    fn watched_anew(self, context: &Context) -> Self {
        let is_new = self.watch.is_none() && self.on_end.is_none() && self.outcome.is_none();
        let mut body = if is_new && self.received == 0 { self } else { self.nested() };
        body.context = context.clone();
        body.watch = Some(Watch::default());
        body
    }

    /// Adds a listener for the end, which is called after those added before. Has no effect on a
    /// response that has ended.
    #[must_use]
    pub fn on_end(mut self, on_end: impl OnBodyEnd + 'static) -> Self {
        self.on_end = Some(match self.on_end.take() {
            None => Box::new(on_end),
            Some(first) => Box::new(Both(first, Box::new(on_end))),
        });
        self
    }

    /// Replaces the source by one that `wrap` makes around it. Has no effect on a response that has
    /// ended.
    #[must_use]
    pub fn map_source(mut self, wrap: impl FnOnce(BoxSource<T>) -> BoxSource<T>) -> Self {
        self.source = self.source.take().map(wrap);
        self
    }

    /// A response with this one as its source.
    fn nested(self) -> Self {
        let context = self.context.clone();
        let migrations = self.noted().cloned();
        let nested = Self::from_source(Box::pin(Nested(self)), context);
        match migrations {
            Some(migrations) => nested.with_migrations(migrations),
            None => nested,
        }
    }
}

struct Both(Box<dyn OnBodyEnd>, Box<dyn OnBodyEnd>);

impl OnBodyEnd for Both {
    fn ended(self: Box<Self>, outcome: &Outcome, error: Option<&Error>) {
        self.0.ended(outcome, error);
        self.1.ended(outcome, error);
    }
}

struct Nested<T>(Body<T>);

impl<T> BodySource<T> for Nested<T> {
    fn poll_value(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_next(cx)) {
            Some(Ok(value)) => Next::Item(value),
            Some(Err(error)) => Next::End(BodyEnd::of(self.0.outcome.clone(), Some(error))),
            // The engine has read this response to its end, which was not complete.
            None => match &self.0.outcome {
                Some(Outcome::Failed { error }) => Next::End(BodyEnd::failed(error.clone())),
                outcome => Next::End(BodyEnd::of(outcome.clone(), None)),
            },
        })
    }

    fn poll_head(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        self.0.poll_head(cx)
    }

    fn source_facts(&self) -> Headers {
        self.0.facts()
    }

    fn source_token(&self) -> Option<ResumeToken> {
        self.0.resume_token()
    }
}

impl<T> Stream for Body<T> {
    type Item = Result<T, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        if self.outcome.is_some() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.poll_source(cx)) {
            Next::Item(value) => {
                self.received += 1;
                Some(Ok(value))
            }
            Next::End(end) => self.end(end).map(Err),
        })
    }
}

// The boxed source is Unpin and nothing else is pinned.
impl<T> Unpin for Body<T> {}

impl<T> Drop for Body<T> {
    fn drop(&mut self) {
        if self.watch.is_some() && self.source.is_some() {
            self.context.cancel(StopKind::Kill, CancelReason::Caller);
        }
    }
}

impl<T> fmt::Debug for Body<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("received", &self.received)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
