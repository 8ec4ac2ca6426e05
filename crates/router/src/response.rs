//! The typed response over a transport, as the caller reads it.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{self, Poll, ready},
};

use serde_core::de::DeserializeOwned;
use sinew_codec::PayloadFormat;
use sinew_plane::{
    Body, BodyEnd, BodySource, CancelReason, Checkpoint, Code, Context, Error, Executed, Headers,
    ManyOut, Next, Outcome, ResponseStream, ResumeToken, RunningStream, StopKind, TransportId,
};
use sinew_registry::Opened;
use tokio::time::Sleep;

use crate::{Started, active_attempt::ActiveAttempt, addressed::count, payload};

/// The error of a request whose deadline has passed.
pub(crate) fn deadline_exceeded(executed: Executed) -> Error {
    Error::new(Code::DeadlineExceeded, CancelReason::DeadlineExceeded.to_string())
        .with_executed(executed)
}

/// While a worker always has an item ready, the deadline is checked once in so many items.
const CHECK_EVERY: u8 = 64;

/// The response to a request that was sent over a transport.
pub(crate) struct Remote<T> {
    /// The open stream. Dropping it before its end cancels the handler.
    open: Option<Started>,
    format: PayloadFormat,
    /// True if the caller wants items as bytes.
    is_bytes: bool,
    /// The caller's own timer for its deadline, for a worker that sends nothing more.
    deadline: Option<Pin<Box<Sleep>>>,
    context: Context,
    /// The head and the facts, once the stream has ended.
    head: Headers,
    facts: Headers,
    /// True if the deadline passed while the caller waited for the head.
    is_late: bool,
    /// Items since the last check of the deadline.
    unchecked: u8,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + Send + 'static> Remote<T> {
    /// On the heap from the start: it is large, and moves several times before its caller has it.
    pub(crate) fn sent(opened: Opened, format: PayloadFormat, context: &Context) -> Pin<Box<Self>> {
        let sleep = |at: std::time::Instant| Box::pin(tokio::time::sleep_until(at.into()));
        Box::pin(Self {
            open: Some(Started::sent(opened)),
            format,
            is_bytes: format == PayloadFormat::Raw && payload::is_bytes::<T>(),
            deadline: context.deadline().map(sleep),
            context: context.clone(),
            head: Headers::new(),
            facts: Headers::new(),
            is_late: false,
            unchecked: 0,
            value: PhantomData,
        })
    }

    /// Waits until the handler has taken the request, and says what carries it. `own` is the
    /// context of the attempt.
    pub(crate) async fn accepted(&mut self, own: &Context) -> Result<TransportId, Error> {
        // Not reached: the stream is open until its end, and the caller has not polled it yet.
        let Some(started) = &mut self.open else { return Err(Error::handler("it has ended")) };
        started.accepted(own).await?;
        Ok(started.transport.clone())
    }

    /// A hold on the stream; `None` if it cannot be moved.
    pub(crate) fn running(&self) -> Option<RunningStream> {
        self.open.as_ref()?.stream.running()
    }

    /// The response as its caller reads it.
    pub(crate) fn into_body(self: Pin<Box<Self>>, attempt: ActiveAttempt) -> ManyOut<T> {
        let context = self.context.clone();
        Body::from_source(self, context).on_end(attempt)
    }
}

/// How a stream ended: its outcome, if it does not follow from the error, and the error if it is one.
pub(crate) struct StreamEnd {
    pub(crate) outcome: Option<Outcome>,
    pub(crate) error: Option<Error>,
}

impl<T: DeserializeOwned + 'static> Remote<T> {
    /// Polls for the next value. `see` gets the item as it was received. After the end the stream is
    /// there until [`close`](Self::close).
    #[inline]
    pub(crate) fn poll_item(
        &mut self,
        cx: &mut task::Context<'_>,
        see: impl FnOnce(&[u8]),
    ) -> Poll<Result<T, StreamEnd>> {
        let (format, is_bytes) = (self.format, self.is_bytes);
        let polled = self.poll_as(cx, |stream, cx| {
            if is_bytes {
                let item = futures_core::Stream::poll_next(Pin::new(&mut *stream), cx);
                return item.map(|item| {
                    item.map(|item| {
                        item.map(|item| {
                            see(&item);
                            payload::same(item)
                        })
                    })
                });
            }
            stream.poll_item(cx, |item| {
                see(item);
                payload::decode(format, item)
            })
        });
        // It came, so the handler ran.
        let unread = |error| StreamEnd { outcome: None, error: Some(error) };
        polled.map(|polled| polled.and_then(|value| value.map_err(unread)))
    }

    /// As [`poll_item`](Self::poll_item), for an item whose value is not wanted.
    pub(crate) fn poll_unread(
        &mut self,
        cx: &mut task::Context<'_>,
        see: impl FnOnce(&[u8]),
    ) -> Poll<Result<(), StreamEnd>> {
        self.poll_as(cx, |stream, cx| stream.poll_item(cx, see))
    }

    #[inline]
    fn poll_as<V>(
        &mut self,
        cx: &mut task::Context<'_>,
        poll: impl FnOnce(&mut ResponseStream, &mut task::Context<'_>) -> Poll<Option<Result<V, Error>>>,
    ) -> Poll<Result<V, StreamEnd>> {
        if self.is_late {
            return Poll::Ready(Err(Self::late()));
        }
        let Some(Started { stream, .. }) = &mut self.open else {
            return Poll::Ready(Err(StreamEnd { outcome: None, error: None }));
        };
        match poll(stream, cx) {
            Poll::Ready(Some(Ok(value))) => {
                self.unchecked += 1;
                if self.unchecked == CHECK_EVERY {
                    self.unchecked = 0;
                    // When it has, the next poll says so.
                    let _ = self.poll_deadline(cx);
                }
                Poll::Ready(Ok(value))
            }
            Poll::Ready(Some(Err(error))) => {
                let outcome = stream.outcome().cloned();
                Poll::Ready(Err(StreamEnd { outcome, error: Some(error) }))
            }
            Poll::Ready(None) => {
                let outcome = stream.outcome().cloned();
                Poll::Ready(Err(StreamEnd { outcome, error: None }))
            }
            Poll::Pending => {
                ready!(self.poll_deadline(cx));
                Poll::Ready(Err(Self::late()))
            }
        }
    }

    /// The token of the stream, until its end.
    pub(crate) fn token(&self) -> Option<ResumeToken> {
        self.open.as_ref()?.stream.resume_token()
    }

    /// The newest checkpoint that has arrived; none after [`close`](Self::close).
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.open.as_ref()?.stream.checkpoint()
    }

    /// Lets go of the stream, and counts the error with which it ended. Head and facts are kept.
    pub(crate) fn close(&mut self, error: Option<&Error>) {
        if let Some(Started { mut stream, metrics, .. }) = self.open.take() {
            let mut no_waker = task::Context::from_waker(task::Waker::noop());
            if let Poll::Ready(Ok(head)) = stream.poll_head(&mut no_waker) {
                self.head = head;
            }
            self.facts = stream.facts();
            if let Some(error) = error {
                count(&metrics, error);
            }
        }
    }

    /// The head and the facts that [`close`](Self::close) has kept.
    pub(crate) fn kept(&self) -> (&Headers, &Headers) {
        (&self.head, &self.facts)
    }

    /// A worker that shuts down cuts what has not ended within its grace. For a caller that has not
    /// cancelled anything, this is a stream that broke off.
    fn seen_by_caller(&self, end: StreamEnd) -> StreamEnd {
        let is_cut =
            matches!(end.outcome, Some(Outcome::Cancelled { reason: CancelReason::Shutdown }));
        match &self.open {
            Some(Started { stream, .. }) if is_cut && self.context.reason().is_none() => {
                let received = stream.received();
                let message = format!(
                    "the stream broke off after {received} items: its worker shut down before the end"
                );
                let error = Error::new(Code::Truncated, message).with_executed(Executed::Yes);
                let outcome = Some(Outcome::Truncated { received });
                StreamEnd { outcome, error: Some(error) }
            }
            _ => end,
        }
    }

    /// Ready once the deadline has passed; the handler is then cancelled.
    fn poll_deadline(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        self.is_late = true;
        self.context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        Poll::Ready(())
    }

    fn late() -> StreamEnd {
        let outcome = Outcome::Cancelled { reason: CancelReason::DeadlineExceeded };
        let error = deadline_exceeded(Executed::Yes);
        StreamEnd { outcome: Some(outcome), error: Some(error) }
    }
}

impl<T: DeserializeOwned + 'static> BodySource<T> for Remote<T> {
    fn poll_value(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        match ready!(self.poll_item(cx, |_| {})) {
            Ok(value) => Poll::Ready(Next::Item(value)),
            Err(end) => {
                let StreamEnd { outcome, error } = self.seen_by_caller(end);
                self.close(error.as_ref());
                Poll::Ready(Next::End(BodyEnd::of(outcome, error)))
            }
        }
    }

    fn poll_head(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        let Some(Started { stream, .. }) = &mut self.open else {
            return Poll::Ready(Ok(self.head.clone()));
        };
        if let Poll::Ready(head) = stream.poll_head(cx) {
            return Poll::Ready(head);
        }
        ready!(self.poll_deadline(cx));
        Poll::Ready(Err(deadline_exceeded(Executed::Yes)))
    }

    fn source_facts(&self) -> Headers {
        self.facts.clone()
    }

    fn source_token(&self) -> Option<ResumeToken> {
        self.token()
    }
}
