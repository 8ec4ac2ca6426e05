//! Ends a response whose engine runs in the task of its reader, for a cancel, a limit or a panic.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll, ready},
};

use tokio::time::{Sleep, sleep_until};

use super::{BodyEnd, BodySource, Next};
use crate::{BoxFuture, CancelReason, Code, Context, Error, Executed, Headers, ItemWait, StopKind};

/// Ends a response in the cases that its engine does not handle: a kill, a stop between two values,
/// a deadline, a time limit of a wait, a panic.
#[derive(Default)]
pub(super) struct Watch {
    /// The engine works on a value: it was polled for one and had none yet.
    in_hand: bool,
    /// Values since the last check of the deadline.
    unchecked: u8,
    /// Made when it is first needed. A source that always has a value does without.
    waits: Option<Box<Waits>>,
}

/// The reasons for which a wait for a value ends.
#[derive(Default)]
struct Waits {
    /// The time limits of the waits for values, if the call has any.
    limits: Option<Box<ItemWait>>,
    /// The wait for a kill, made when the source is first not ready.
    killed: Option<BoxFuture<'static, ()>>,
    /// The timer of the request's deadline, made when it is first needed.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The end that came during the wait for the head.
    ended: Option<BodyEnd>,
}

/// While a source always has a value ready, the deadline is checked once in so many values.
const CHECK_EVERY: u8 = 64;

impl Watch {
    /// Limits the waits for values.
    pub(super) fn limit(&mut self, wait: Box<ItemWait>) {
        self.waits.get_or_insert_default().limits = Some(wait);
    }

    #[inline]
    pub(super) fn poll_value<T>(
        &mut self,
        source: Pin<&mut dyn BodySource<T>>,
        context: &Context,
        cx: &mut task::Context<'_>,
    ) -> Poll<Next<T>> {
        if let Some(end) = self.waits.as_mut().and_then(|waits| waits.ended.take()) {
            return Poll::Ready(Next::End(end));
        }
        if context.is_stopped() && (context.is_killed() || !self.in_hand) {
            return Poll::Ready(Next::End(cancelled(context)));
        }
        // A panic of the engine is an error of the response, as over a transport, and does not
        // unwind into its reader.
        match catch_unwind(AssertUnwindSafe(|| source.poll_value(cx))) {
            Ok(Poll::Ready(Next::Item(value))) => {
                self.in_hand = false;
                if let Some(limits) = self.waits.as_mut().and_then(|waits| waits.limits.as_mut()) {
                    limits.on_item();
                }
                self.unchecked += 1;
                if self.unchecked == CHECK_EVERY {
                    self.unchecked = 0;
                    if self.poll_deadline(context, cx).is_ready() {
                        self.end_later(cancelled(context));
                    }
                }
                Poll::Ready(Next::Item(value))
            }
            Ok(Poll::Ready(Next::End(end))) => Poll::Ready(Next::End(judge(end, context))),
            Ok(Poll::Pending) => self.poll_waiting(context, cx).map(Next::End),
            Err(_) => Poll::Ready(Next::End(BodyEnd::failed(panicked()))),
        }
    }

    /// Called while the source is pending. Ready with the end if the wait has to end.
    fn poll_waiting(&mut self, context: &Context, cx: &mut task::Context<'_>) -> Poll<BodyEnd> {
        self.in_hand = true;
        let waits = self.waits.get_or_insert_default();
        let killed = waits.killed.get_or_insert_with(|| {
            let context = context.clone();
            Box::pin(async move { context.killed().await })
        });
        if killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(cancelled(context));
        }
        if self.poll_deadline(context, cx).is_ready() {
            return Poll::Ready(cancelled(context));
        }
        let limits = self.waits.as_mut().and_then(|waits| waits.limits.as_mut());
        let Some(limits) = limits else { return Poll::Pending };
        let error = ready!(limits.poll_passed(cx)).with_executed(Executed::Yes);
        context.kill();
        Poll::Ready(BodyEnd::failed(error))
    }
}

impl Watch {
    /// Keeps an end until the next poll for a value, which returns it.
    fn end_later(&mut self, end: BodyEnd) {
        self.waits.get_or_insert_default().ended = Some(end);
    }

    /// Ready once the deadline has passed; kills the request then.
    fn poll_deadline(&mut self, context: &Context, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(deadline) = context.deadline() else { return Poll::Pending };
        let at_deadline = || Box::pin(sleep_until(deadline.into()));
        let sleep = self.waits.get_or_insert_default().deadline.get_or_insert_with(at_deadline);
        ready!(sleep.as_mut().poll(cx));
        context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        Poll::Ready(())
    }

    /// Polls for the head, with the same checks as for the values. If the response ends meanwhile,
    /// [`poll_value`](Self::poll_value) returns that end.
    pub(super) fn poll_head<T>(
        &mut self,
        source: Pin<&mut dyn BodySource<T>>,
        context: &Context,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Headers, Error>> {
        let in_hand = self.in_hand;
        let end = match catch_unwind(AssertUnwindSafe(|| source.poll_head(cx))) {
            Ok(Poll::Ready(head)) => return Poll::Ready(head),
            Ok(Poll::Pending) => {
                let end = self.poll_waiting(context, cx);
                // The engine was not polled for a value.
                self.in_hand = in_hand;
                ready!(end)
            }
            Err(_) => BodyEnd::failed(panicked()),
        };
        let error = end.error.clone();
        self.end_later(end);
        Poll::Ready(error.map_or_else(|| Ok(Headers::new()), Err))
    }
}

/// The end of the response, from the end of its source. If the request was cancelled and the engine
/// answers that, the response is cancelled, because values may be missing. The outcome of a request
/// that the engine has made itself is not used: only its error counts.
fn judge(end: BodyEnd, context: &Context) -> BodyEnd {
    let answers_cancel =
        |error: &Error| matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded);
    if context.is_stopped() && end.error.as_ref().is_none_or(answers_cancel) {
        return cancelled(context);
    }
    // The engine ran, whatever an error of another service says about its own request.
    match end.error {
        None => BodyEnd::complete(),
        Some(error) if error.executed() == Executed::Yes => BodyEnd::failed(error),
        Some(error) => BodyEnd::failed(error.with_executed(Executed::Yes)),
    }
}

fn cancelled(context: &Context) -> BodyEnd {
    let reason = context.reason().unwrap_or(CancelReason::Caller);
    BodyEnd::cancelled(reason, Error::cancelled(reason).with_executed(Executed::Yes))
}

/// The error of an engine that panicked within this process.
pub fn panicked() -> Error {
    Error::new(Code::HandlerGone, "the handler panicked")
}
