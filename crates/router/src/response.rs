//! The typed response as the caller reads it: from a transport, or from an engine in the same
//! process.

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use futures_core::Stream;
use serde_core::de::DeserializeOwned;
use sinew_codec::PayloadFormat;
use sinew_plane::{
    BoxFuture, CancelReason, Code, Context, Error, Executed, ItemWait, ManyOut, Outcome, StopKind,
};
use tokio::time::Sleep;

use crate::{
    Started,
    active_attempt::{ActiveAttempt, Ending, Served},
    addressed::{cancelled, count},
    payload,
};

/// The response over a transport.
pub(crate) fn remote<T: DeserializeOwned + Send + 'static>(
    started: Started,
    format: PayloadFormat,
    context: &Context,
    attempt: ActiveAttempt,
) -> ManyOut<T> {
    let ending = Ending::default();
    let values = Remote {
        open: Some(started),
        format,
        deadline: Deadline::of(context),
        ending: Arc::clone(&ending),
        value: PhantomData,
    };
    many_out(values, context, ending, attempt)
}

/// The response of an engine in this process.
pub(crate) fn local<T: Send + 'static>(
    values: ManyOut<T>,
    context: &Context,
    wait: Option<Box<ItemWait>>,
    attempt: ActiveAttempt,
) -> ManyOut<T> {
    let ending = Ending::default();
    let values = Local {
        values: Some(values),
        wait,
        received: 0,
        killed: None,
        deadline: Deadline::of(context),
        context: context.clone(),
        ending: Arc::clone(&ending),
    };
    many_out(values, context, ending, attempt)
}

fn many_out<T>(
    values: impl Stream<Item = Result<T, Error>> + Send + Unpin + 'static,
    context: &Context,
    ending: Ending,
    attempt: ActiveAttempt,
) -> ManyOut<T> {
    let values = Served::new(values, attempt, Arc::clone(&ending));
    ManyOut::new(values, context.clone()).with_ending(move || ending.get().cloned())
}

/// The caller's own watch on its deadline, for a peer that has fallen silent.
struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
    context: Context,
}

impl Deadline {
    fn of(context: &Context) -> Self {
        let until = |at: Instant| Box::pin(tokio::time::sleep_until(at.into()));
        Self { sleep: context.deadline().map(until), context: context.clone() }
    }

    /// The error once the deadline has passed; the handler is then told to end.
    fn poll_passed(&mut self, cx: &mut task::Context<'_>) -> Option<Error> {
        let sleep = self.sleep.as_mut()?;
        if sleep.as_mut().poll(cx).is_pending() {
            return None;
        }
        self.context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        Some(deadline_exceeded(Executed::Yes))
    }
}

/// The error of a request whose deadline has passed.
pub(crate) fn deadline_exceeded(executed: Executed) -> Error {
    Error::new(Code::DeadlineExceeded, CancelReason::DeadlineExceeded.to_string())
        .with_executed(executed)
}

const PAST_DEADLINE: Outcome = Outcome::Cancelled { reason: CancelReason::DeadlineExceeded };

struct Remote<T> {
    /// Dropped at the first error, which ends the handler if it has not ended by itself.
    open: Option<Started>,
    format: PayloadFormat,
    deadline: Deadline,
    ending: Ending,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> Remote<T> {
    fn end(&mut self, outcome: Option<Outcome>, error: Option<&Error>) {
        if let Some(outcome) = outcome {
            // Set once: the stream is closed here.
            let _ = self.ending.set(outcome);
        }
        if let (Some(Started { metrics, .. }), Some(error)) = (self.open.take(), error) {
            count(&metrics, error);
        }
    }

    fn decode(&mut self, item: Bytes) -> Result<T, Error> {
        let value = payload::decode(self.format, item);
        // It came, so the handler ran.
        let value = value.map_err(|error| error.with_executed(Executed::Yes));
        if let Err(error) = &value {
            self.end(Some(Outcome::Failed { error: error.clone() }), Some(error));
        }
        value
    }
}

impl<T: DeserializeOwned + 'static> Stream for Remote<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(Started { stream, .. }) = &mut this.open else { return Poll::Ready(None) };
        if let Some(error) = this.deadline.poll_passed(cx) {
            this.end(Some(PAST_DEADLINE), Some(&error));
            return Poll::Ready(Some(Err(error)));
        }
        let next = ready!(Pin::new(&mut *stream).poll_next(cx));
        let outcome = stream.outcome().cloned();
        Poll::Ready(match next {
            Some(Ok(item)) => Some(this.decode(item)),
            Some(Err(error)) => {
                this.end(outcome, Some(&error));
                Some(Err(error))
            }
            None => {
                this.end(outcome, None);
                None
            }
        })
    }
}

struct Local<T> {
    /// Dropped at the end, whatever end it is.
    values: Option<ManyOut<T>>,
    received: u64,
    /// Only for calls that limit the waits for items.
    wait: Option<Box<ItemWait>>,
    /// Made when first needed, which a stream that is always ready never does.
    killed: Option<BoxFuture<'static, ()>>,
    deadline: Deadline,
    context: Context,
    ending: Ending,
}

impl<T> Local<T> {
    fn poll_killed(&mut self, cx: &mut task::Context<'_>) -> bool {
        let context = &self.context;
        let killed = self.killed.get_or_insert_with(|| {
            let context = context.clone();
            Box::pin(async move { context.killed().await })
        });
        killed.as_mut().poll(cx).is_ready()
    }

    /// True for the error with which an engine answers a cancel.
    fn is_the_cancel(&self, error: &Error) -> bool {
        self.context.is_stopped()
            && matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded)
    }

    fn end(&mut self, outcome: Outcome, error: Option<Error>) -> Option<Result<T, Error>> {
        let _ = self.ending.set(outcome);
        self.values = None;
        error.map(Err)
    }

    fn end_cancelled(&mut self) -> Option<Result<T, Error>> {
        let reason = self.context.reason().unwrap_or(CancelReason::Caller);
        let error = cancelled(&self.context, Executed::Yes);
        self.end(Outcome::Cancelled { reason }, Some(error))
    }
}

impl<T> Stream for Local<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(values) = &mut this.values else { return Poll::Ready(None) };
        if let Some(error) = this.deadline.poll_passed(cx) {
            return Poll::Ready(this.end(PAST_DEADLINE, Some(error)));
        }
        if this.context.is_killed() {
            return Poll::Ready(this.end_cancelled());
        }
        // A handler's panic is its caller's to hear of, as it would be over a transport, not to
        // share.
        let next = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *values).poll_next(cx)));
        let next = match next {
            Ok(Poll::Pending) if this.poll_killed(cx) => return Poll::Ready(this.end_cancelled()),
            Ok(Poll::Pending) => {
                let Some(wait) = &mut this.wait else { return Poll::Pending };
                let error = ready!(wait.poll_passed(cx)).with_executed(Executed::Yes);
                this.context.kill();
                return Poll::Ready(
                    this.end(Outcome::Failed { error: error.clone() }, Some(error)),
                );
            }
            Ok(next) => ready!(next),
            Err(_) => Some(Err(panicked())),
        };
        Poll::Ready(match next {
            Some(Ok(value)) => {
                this.received += 1;
                if let Some(wait) = &mut this.wait {
                    wait.on_item();
                }
                Some(Ok(value))
            }
            Some(Err(error)) if this.is_the_cancel(&error) => this.end_cancelled(),
            Some(Err(error)) => this.end(Outcome::Failed { error: error.clone() }, Some(error)),
            None if this.context.is_stopped() => this.end_cancelled(),
            None => this.end(Outcome::Complete { items: this.received }, None),
        })
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        if self.values.is_some() {
            self.context.kill();
        }
    }
}

// The boxed stream is Unpin and nothing else is pinned.
impl<T> Unpin for Local<T> {}

/// The error of a handler that panicked within this process.
pub(crate) fn panicked() -> Error {
    Error::new(Code::HandlerGone, "the handler panicked")
}
