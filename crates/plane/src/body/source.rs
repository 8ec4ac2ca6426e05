//! Where the values of a response come from, and what is called at its end.

use std::{
    pin::Pin,
    task::{self, Poll, ready},
};

use futures_core::Stream;

#[cfg(doc)]
use super::Body;
use crate::{CancelReason, Error, Headers, Outcome, ResumeToken};

/// The result of one poll of a [`BodySource`].
#[derive(Debug)]
pub enum Next<T> {
    /// The next value of the response.
    Item(T),
    /// The end of the response. The source is not polled for values again.
    End(BodyEnd),
}

/// How a [`BodySource`] ended: complete, or with the error that the reader of the response gets.
#[derive(Debug)]
pub struct BodyEnd {
    pub(super) error: Option<Error>,
    /// The outcome, if it does not follow from the error.
    pub(super) outcome: Option<Outcome>,
}

impl BodyEnd {
    /// The source yielded every value.
    pub fn complete() -> Self {
        Self { error: None, outcome: None }
    }

    /// The source failed. The outcome of the response is [`Outcome::Failed`].
    pub fn failed(error: Error) -> Self {
        Self { error: Some(error), outcome: None }
    }

    /// The response was cancelled. Its outcome has `reason`, and its reader gets `error`.
    pub fn cancelled(reason: CancelReason, error: Error) -> Self {
        Self { error: Some(error), outcome: Some(Outcome::Cancelled { reason }) }
    }

    /// The end that a transport reports. Without an `outcome` it follows from `error`: failed, or
    /// complete if there is none.
    pub fn of(outcome: Option<Outcome>, error: Option<Error>) -> Self {
        Self { error, outcome }
    }

    /// The error that the reader of the response gets; `None` for a complete end.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

/// The source of the values of a [`Body`].
///
/// Every `Stream<Item = Result<T, Error>> + Send` is a source, without a head and without facts.
/// Implement the trait for a source that has these, or that knows its outcome better than by an
/// error, as a transport does.
///
/// # Order of calls
/// A [`Body`] calls
/// 1. [`poll_head`](Self::poll_head) and [`poll_value`](Self::poll_value), each as often as its
///    reader asks, in any order, until `poll_value` returns [`Next::End`];
/// 2. then [`source_facts`](Self::source_facts), and `poll_head` once more, so that a head which the
///    reader has not asked for yet is kept;
/// 3. then it drops the source.
///
/// A reader that stops early may ask for the facts before the end
/// ([`Body::facts_by_now`]). The body does not poll for values again after [`Next::End`]. Only one task polls at a time. A body may
/// also drop its source earlier, when its reader drops the body or its request is cancelled.
///
/// # Cancel safety
/// The reader may stop polling between any two calls and go on later, so a source keeps its state
/// in itself and loses no value when a call returns [`Poll::Pending`]. A source that is dropped
/// before its end has to release what it holds, such as its stream, in `Drop`.
///
/// # Examples
/// A source that counts down, with a head and facts:
///
/// ```
/// use std::{pin::Pin, task::{self, Poll}};
///
/// use futures_util::StreamExt;
/// use sinew_plane::{Body, BodyEnd, BodySource, Context, Error, Headers, Next};
///
/// struct CountDown { left: u32, from: Headers }
///
/// impl BodySource<u32> for CountDown {
///     fn poll_value(mut self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Next<u32>> {
///         if self.left == 0 {
///             return Poll::Ready(Next::End(BodyEnd::complete()));
///         }
///         self.left -= 1;
///         Poll::Ready(Next::Item(self.left))
///     }
///
///     fn poll_head(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Result<Headers, Error>> {
///         Poll::Ready(Ok(self.from.clone()))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut from = Headers::new();
/// from.insert("from", "2")?;
/// let mut body = Body::new(CountDown { left: 2, from }, Context::new());
/// assert_eq!(body.head().await?.get("from"), Some("2"));
/// assert_eq!(body.next().await.transpose()?, Some(1));
/// assert_eq!(body.next().await.transpose()?, Some(0));
/// assert!(body.next().await.is_none());
/// assert_eq!(body.outcome().map(|it| it.as_str()), Some("complete"));
/// # Ok(())
/// # }
/// ```
pub trait BodySource<T>: Send {
    /// Polls for the next value, or the end. Not called again after [`Next::End`]. On
    /// [`Poll::Pending`] the source wakes the task of `cx` when it can go on.
    fn poll_value(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>>;

    /// Polls for the head. Ready once it is known: with an empty one if the source has none, as the
    /// default says. Consumes no value, and returns the same head at every call.
    ///
    /// # Errors
    /// The response failed before its first value. [`poll_value`](Self::poll_value) then ends with
    /// the same error.
    fn poll_head(
        self: Pin<&mut Self>,
        _cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        Poll::Ready(Ok(Headers::new()))
    }

    /// The facts of the response that the source has by now. They are complete once
    /// [`poll_value`](Self::poll_value) has returned the end. Empty if there are none, which is
    /// the default.
    fn source_facts(&self) -> Headers {
        Headers::new()
    }

    /// The token with which another process continues to read from the next value on. `None`, the
    /// default, if that is not possible.
    fn source_token(&self) -> Option<ResumeToken> {
        None
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

/// A boxed source of any type, as a [`Body`] holds it and [`Body::map_source`] passes it to a
/// wrapper.
pub type BoxSource<T> = Pin<Box<dyn BodySource<T>>>;

/// A listener for the end of a response, which [`Body::on_end`] adds.
///
/// The body calls [`ended`](Self::ended) once, after it has dropped the source and before the reader
/// of the response gets the end. So a reader that sends its next request at once finds counts and
/// permits that a listener holds released. If the reader drops the response before its end, the
/// listener is dropped without the call, after the source. A listener that has to act in both cases
/// also implements `Drop`.
///
/// The call is made in the reader's task, so it has to return at once and must not block. Several
/// listeners of one body are called in the order in which they were added.
///
/// # Examples
/// ```
/// use std::sync::{Arc, atomic::{AtomicUsize, Ordering}};
///
/// use futures_util::{StreamExt, stream};
/// use sinew_plane::{Body, Context, Error, OnBodyEnd, Outcome};
///
/// struct CountComplete(Arc<AtomicUsize>);
///
/// impl OnBodyEnd for CountComplete {
///     fn ended(self: Box<Self>, outcome: &Outcome, _: Option<&Error>) {
///         if matches!(outcome, Outcome::Complete { .. }) {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let complete = Arc::new(AtomicUsize::new(0));
/// let body = Body::new(stream::iter([Ok("one")]), Context::new());
/// let body = body.on_end(CountComplete(complete.clone()));
/// assert_eq!(body.count().await, 1);
/// assert_eq!(complete.load(Ordering::Relaxed), 1);
/// # }
/// ```
pub trait OnBodyEnd: Send {
    /// The response has ended with `outcome`. `error` is the one that its reader gets; `None` if the
    /// response is complete.
    fn ended(self: Box<Self>, outcome: &Outcome, error: Option<&Error>);
}
