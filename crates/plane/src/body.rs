//! A response as an engine makes it and as its caller reads it: one type on the whole way.

mod watch;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll, ready},
};

use futures_core::Stream;

use self::watch::Watch;
pub use self::watch::panicked;
use crate::{CancelReason, Context, Error, Headers, ItemWait, Outcome, StopKind};

/// What comes next in a response.
#[derive(Debug)]
pub enum Next<T> {
    /// A value.
    Item(T),
    /// Nothing more.
    End(BodyEnd),
}

/// The end of a response.
#[derive(Debug)]
pub struct BodyEnd {
    error: Option<Error>,
    /// Where it is known better than by the error.
    outcome: Option<Outcome>,
}

impl BodyEnd {
    /// Every value was made.
    pub fn complete() -> Self {
        Self { error: None, outcome: None }
    }

    /// It failed with this error.
    pub fn failed(error: Error) -> Self {
        Self { error: Some(error), outcome: None }
    }

    /// It was cancelled; the error says the same to who reads the values.
    pub fn cancelled(reason: CancelReason, error: Error) -> Self {
        Self { error: Some(error), outcome: Some(Outcome::Cancelled { reason }) }
    }

    /// As the transport says that it ended.
    pub fn of(outcome: Option<Outcome>, error: Option<Error>) -> Self {
        Self { error, outcome }
    }

    /// The error, unless it is complete.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

/// Where the values of a [`Body`] come from. Every stream of results is one.
pub trait BodySource<T>: Send {
    /// The next value, or the end, after which it is not polled again.
    fn poll_value(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>>;

    /// Ready with the head once it arrived; with an empty one when there is none.
    ///
    /// # Errors
    /// The response failed before its first value; [`poll_value`](Self::poll_value) says so as well.
    fn poll_head(
        self: Pin<&mut Self>,
        _cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        Poll::Ready(Ok(Headers::new()))
    }

    /// The facts that came with the end; empty before it, and where there are none.
    fn source_facts(&self) -> Headers {
        Headers::new()
    }
}

impl<T, S: Stream<Item = Result<T, Error>> + Send> BodySource<T> for S {
    fn poll_value(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        Poll::Ready(match ready!(Stream::poll_next(self, cx)) {
            Some(Ok(value)) => Next::Item(value),
            Some(Err(error)) => Next::End(BodyEnd::failed(error)),
            None => Next::End(BodyEnd::complete()),
        })
    }
}

/// A source on the heap.
pub type BoxSource<T> = Pin<Box<dyn BodySource<T>>>;

/// Called when a response ends, before the reader of the response gets the end. If the reader drops
/// the response before its end, this value is dropped without a call.
pub trait OnBodyEnd: Send {
    /// The response has ended so.
    fn ended(self: Box<Self>, outcome: &Outcome, error: Option<&Error>);
}

/// The response to one request: a stream of values, then exactly one end.
///
/// `None` without an `Err` before it means complete. After an `Err` the stream is over;
/// [`outcome`](Self::outcome) tells failed, cancelled and truncated apart. Dropping it before
/// its end cancels the request.
pub struct Body<T> {
    /// `None` once it is over. Dropped before `on_end`: the handler is told to end, then it counts
    /// as idle.
    source: Option<BoxSource<T>>,
    on_end: Option<Box<dyn OnBodyEnd>>,
    context: Context,
    received: u64,
    outcome: Option<Outcome>,
    metadata: Option<Box<Metadata>>,
    /// For a response that an engine makes in the task of its reader.
    watch: Option<Box<Watch>>,
}

/// What an engine says beside its values.
#[derive(Default)]
struct Metadata {
    head: Headers,
    facts: Headers,
    make_facts: Option<Box<dyn FnOnce() -> Headers + Send>>,
}

/// The name that the response has in the documents.
pub type ManyOut<T> = Body<T>;

impl<T> Body<T> {
    /// A response from values; its end is complete, or failed with the first error.
    pub fn new(values: impl BodySource<T> + 'static, context: Context) -> Self {
        Self::from_source(Box::pin(values), context)
    }

    /// The same from values that are boxed already.
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

    /// The same with a head, which its caller has before the first value: see
    /// [`ResponseSink::head`](crate::ResponseSink::head).
    #[must_use]
    pub fn with_head(mut self, head: Headers) -> Self {
        self.metadata.get_or_insert_default().head = head;
        self
    }

    /// The same with facts about the whole response, such as what it cost: `facts` is called once,
    /// when its values have ended, whichever end that is. See
    /// [`ResponseSink::set_facts`](crate::ResponseSink::set_facts).
    #[must_use]
    pub fn with_facts(mut self, facts: impl FnOnce() -> Headers + Send + 'static) -> Self {
        self.metadata.get_or_insert_default().make_facts = Some(Box::new(facts));
        self
    }

    /// What the handler said of the response before its first value. Waits until the head, the
    /// first value or the end arrives; may be called before and after the first value. Empty when
    /// there is none. Cancel-safe.
    ///
    /// # Errors
    /// The response failed before its first value; polling the values says so as well.
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

    /// The facts of a response that is read no further, though it has not ended: those that its
    /// engine has by now. Else [`facts`](Self::facts).
    pub fn facts_by_now(&mut self) -> Headers {
        if let Some(source) = &self.source {
            let facts = source.source_facts();
            self.keep_facts(facts);
        }
        self.facts()
    }

    /// The facts that came with the end; empty before it, and when there are none.
    pub fn facts(&self) -> Headers {
        self.metadata.as_ref().map_or_else(Headers::new, |metadata| metadata.facts.clone())
    }

    /// The request's context: stop, kill, deadline.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// How many values have come so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How the stream ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The next value, or the end: what both ends of a transport read. Once the end has come, it is
    /// not to be called again.
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
            // Known by now, though its reader may ask for it later.
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
            // Its reader is not to share a panic of the engine.
            Some(make) => catch_unwind(AssertUnwindSafe(make)).unwrap_or_default(),
        };
        if !facts.is_empty() {
            self.metadata.get_or_insert_default().facts = facts;
        }
    }
}

impl<T: 'static> Body<T> {
    /// The response of an engine that runs in the task of its reader, to the request of `context`:
    /// it ends when the request is cancelled, it ends the engine when it is dropped, and a panic of
    /// the engine is an error of the response. Where the engine passes on the response to a request
    /// of its own, that one keeps its own watch and its own end.
    ///
    /// `wait` limits the waits for its values. One that is watched for the request already, as the
    /// ingress of the same process does, is not watched again, and takes the limits.
    #[must_use]
    pub fn watched(self, context: &Context, wait: Option<Box<ItemWait>>) -> Self {
        let mut body = if self.is_watched(context) { self } else { self.watched_anew(context) };
        if let Some(wait) = wait {
            body.watch.get_or_insert_default().limit(wait);
        }
        body
    }

    /// Nothing of one that is watched for this request has been read.
    fn is_watched(&self, context: &Context) -> bool {
        let is_unread = self.outcome.is_none() && self.received == 0;
        self.watch.is_some() && self.context.is_same(context) && is_unread
    }

    fn watched_anew(self, context: &Context) -> Self {
        let is_new = self.watch.is_none() && self.on_end.is_none() && self.outcome.is_none();
        let mut body = if is_new && self.received == 0 { self } else { self.nested() };
        body.context = context.clone();
        body.watch = Some(Box::default());
        body
    }

    /// The same, telling `on_end` of its end, after those that were to be told before.
    #[must_use]
    pub fn on_end(mut self, on_end: impl OnBodyEnd + 'static) -> Self {
        self.on_end = Some(match self.on_end.take() {
            None => Box::new(on_end),
            Some(first) => Box::new(Both(first, Box::new(on_end))),
        });
        self
    }

    /// The same with another source around its own, until it has ended.
    #[must_use]
    pub fn map_source(mut self, wrap: impl FnOnce(BoxSource<T>) -> BoxSource<T>) -> Self {
        self.source = self.source.take().map(wrap);
        self
    }

    /// The same as the source of another.
    fn nested(self) -> Self {
        let context = self.context.clone();
        Self::from_source(Box::pin(Nested(self)), context)
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
            // One that its engine has read to an end that is none of its own.
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
