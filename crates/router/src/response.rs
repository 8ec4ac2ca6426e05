//! The typed response over a transport, as the caller reads it.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{self, Poll, ready},
};

use serde_core::de::DeserializeOwned;
use sinew_codec::PayloadFormat;
use sinew_plane::{
    Body, BodyEnd, BodySource, CancelReason, Code, Context, Error, Executed, Headers, ManyOut,
    Next, Outcome, StopKind, TransportId,
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

    /// The response as its caller reads it.
    pub(crate) fn into_body(self: Pin<Box<Self>>, attempt: ActiveAttempt) -> ManyOut<T> {
        let context = self.context.clone();
        Body::from_source(self, context).on_end(attempt)
    }
}

impl<T: DeserializeOwned + 'static> Remote<T> {
    fn end(&mut self, outcome: Option<Outcome>, error: Option<Error>) -> Poll<Next<T>> {
        if let Some(Started { mut stream, metrics, .. }) = self.open.take() {
            let mut no_waker = task::Context::from_waker(task::Waker::noop());
            if let Poll::Ready(Ok(head)) = stream.poll_head(&mut no_waker) {
                self.head = head;
            }
            self.facts = stream.facts();
            if let Some(error) = &error {
                count(&metrics, error);
            }
        }
        Poll::Ready(Next::End(BodyEnd::of(outcome, error)))
    }

    /// Ready once the deadline has passed; the handler is then cancelled.
    fn poll_deadline(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        self.is_late = true;
        self.context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        Poll::Ready(())
    }

    fn end_late(&mut self) -> Poll<Next<T>> {
        let outcome = Outcome::Cancelled { reason: CancelReason::DeadlineExceeded };
        self.end(Some(outcome), Some(deadline_exceeded(Executed::Yes)))
    }
}

impl<T: DeserializeOwned + 'static> BodySource<T> for Remote<T> {
    fn poll_value(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        let this = &mut *self;
        if this.is_late {
            return this.end_late();
        }
        let Some(Started { stream, .. }) = &mut this.open else { return this.end(None, None) };
        let format = this.format;
        let polled = if this.is_bytes {
            let item = futures_core::Stream::poll_next(Pin::new(&mut *stream), cx);
            item.map(|item| item.map(|item| item.map(payload::same)))
        } else {
            stream.poll_item(cx, |item| payload::decode(format, item))
        };
        match polled {
            Poll::Ready(Some(Ok(Ok(value)))) => {
                this.unchecked += 1;
                if this.unchecked == CHECK_EVERY {
                    this.unchecked = 0;
                    // When it has, the next poll says so.
                    let _ = this.poll_deadline(cx);
                }
                Poll::Ready(Next::Item(value))
            }
            // It came, so the handler ran.
            Poll::Ready(Some(Ok(Err(error)))) => this.end(None, Some(error)),
            Poll::Ready(Some(Err(error))) => {
                let outcome = stream.outcome().cloned();
                this.end(outcome, Some(error))
            }
            Poll::Ready(None) => {
                let outcome = stream.outcome().cloned();
                this.end(outcome, None)
            }
            Poll::Pending => {
                ready!(this.poll_deadline(cx));
                this.end_late()
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
}
