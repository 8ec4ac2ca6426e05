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
    Next, Outcome, StopKind,
};
use tokio::time::Sleep;

use crate::{Started, active_attempt::ActiveAttempt, addressed::count, payload};

/// The response over a transport.
pub(crate) fn remote<T: DeserializeOwned + Send + 'static>(
    started: Started,
    format: PayloadFormat,
    context: &Context,
    attempt: ActiveAttempt,
) -> ManyOut<T> {
    let sleep = |at: std::time::Instant| Box::pin(tokio::time::sleep_until(at.into()));
    let source = Remote {
        open: Some(started),
        format,
        is_bytes: format == PayloadFormat::Raw && payload::is_bytes::<T>(),
        deadline: context.deadline().map(sleep),
        context: context.clone(),
        facts: Headers::new(),
        value: PhantomData,
    };
    Body::new(source, context.clone()).on_end(attempt)
}

/// The error of a request whose deadline has passed.
pub(crate) fn deadline_exceeded(executed: Executed) -> Error {
    Error::new(Code::DeadlineExceeded, CancelReason::DeadlineExceeded.to_string())
        .with_executed(executed)
}

struct Remote<T> {
    /// Dropped at the end, which ends the handler if it has not ended by itself.
    open: Option<Started>,
    format: PayloadFormat,
    /// Items are wanted as the bytes that they are.
    is_bytes: bool,
    /// The caller's own watch on its deadline, for a peer that has fallen silent.
    deadline: Option<Pin<Box<Sleep>>>,
    context: Context,
    /// Those that came with the end.
    facts: Headers,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> Remote<T> {
    fn end(&mut self, outcome: Option<Outcome>, error: Option<Error>) -> Poll<Next<T>> {
        if let Some(Started { stream, metrics, .. }) = self.open.take() {
            self.facts = stream.facts();
            if let Some(error) = &error {
                count(&metrics, error);
            }
        }
        Poll::Ready(Next::End(BodyEnd::of(outcome, error)))
    }

    /// Nothing is there. Ready once the deadline has passed; the handler is then told to end.
    fn poll_deadline(&mut self, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        self.context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        let outcome = Outcome::Cancelled { reason: CancelReason::DeadlineExceeded };
        self.end(Some(outcome), Some(deadline_exceeded(Executed::Yes)))
    }
}

impl<T: DeserializeOwned + 'static> BodySource<T> for Remote<T> {
    fn poll_value(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Next<T>> {
        let this = &mut *self;
        let Some(Started { stream, .. }) = &mut this.open else { return this.end(None, None) };
        let format = this.format;
        let polled = if this.is_bytes {
            let item = futures_core::Stream::poll_next(Pin::new(&mut *stream), cx);
            item.map(|item| item.map(|item| item.map(payload::same)))
        } else {
            stream.poll_item(cx, |item| payload::decode(format, item))
        };
        match polled {
            Poll::Ready(Some(Ok(Ok(value)))) => Poll::Ready(Next::Item(value)),
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
            Poll::Pending => this.poll_deadline(cx),
        }
    }

    fn poll_head(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        match &mut self.open {
            Some(Started { stream, .. }) => stream.poll_head(cx),
            None => Poll::Ready(Ok(Headers::new())),
        }
    }

    fn facts(&self) -> Headers {
        self.facts.clone()
    }
}
