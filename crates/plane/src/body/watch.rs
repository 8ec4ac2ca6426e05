//! The watch over an engine that runs in the task of its reader.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll, ready},
};

use tokio::time::{Sleep, sleep_until};

use super::{BodyEnd, BodySource, Next};
use crate::{BoxFuture, CancelReason, Code, Context, Error, Executed, Headers, ItemWait, StopKind};

/// Ends a response for what its engine does not see to: a kill, a stop between two values, a limit
/// to a wait, a panic.
#[derive(Default)]
pub(super) struct Watch {
    /// The engine works on a value: it was asked for one and had none yet.
    in_hand: bool,
    /// Only for calls that limit the waits for values.
    wait: Option<Box<ItemWait>>,
    /// Made when first needed, which a stream that is always ready never does.
    killed: Option<BoxFuture<'static, ()>>,
    /// The same for the deadline of the request.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Values since the deadline was last looked at.
    unchecked: u8,
    /// The end that came while the head was waited for.
    ended: Option<BodyEnd>,
}

/// A source that always has a value is held to its deadline once in so many.
const CHECK_EVERY: u8 = 64;

impl Watch {
    /// Limits the waits for values.
    pub(super) fn limit(&mut self, wait: Box<ItemWait>) {
        self.wait = Some(wait);
    }

    #[inline]
    pub(super) fn poll_value<T>(
        &mut self,
        source: Pin<&mut dyn BodySource<T>>,
        context: &Context,
        cx: &mut task::Context<'_>,
    ) -> Poll<Next<T>> {
        if let Some(end) = self.ended.take() {
            return Poll::Ready(Next::End(end));
        }
        if context.is_stopped() && (context.is_killed() || !self.in_hand) {
            return Poll::Ready(Next::End(cancelled(context)));
        }
        // A panic of the engine is its caller's to hear of, as it would be over a transport, not to
        // share.
        match catch_unwind(AssertUnwindSafe(|| source.poll_value(cx))) {
            Ok(Poll::Ready(Next::Item(value))) => {
                self.in_hand = false;
                if let Some(wait) = &mut self.wait {
                    wait.on_item();
                }
                self.unchecked += 1;
                if self.unchecked == CHECK_EVERY {
                    self.unchecked = 0;
                    if self.poll_deadline(context, cx).is_ready() {
                        self.ended = Some(cancelled(context));
                    }
                }
                Poll::Ready(Next::Item(value))
            }
            Ok(Poll::Ready(Next::End(end))) => Poll::Ready(Next::End(judge(end, context))),
            Ok(Poll::Pending) => self.poll_waiting(context, cx).map(Next::End),
            Err(_) => Poll::Ready(Next::End(BodyEnd::failed(panicked()))),
        }
    }

    /// The engine has nothing. Ready when it is not to be waited for any more.
    fn poll_waiting(&mut self, context: &Context, cx: &mut task::Context<'_>) -> Poll<BodyEnd> {
        self.in_hand = true;
        let killed = self.killed.get_or_insert_with(|| {
            let context = context.clone();
            Box::pin(async move { context.killed().await })
        });
        if killed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(cancelled(context));
        }
        if self.poll_deadline(context, cx).is_ready() {
            return Poll::Ready(cancelled(context));
        }
        let Some(wait) = &mut self.wait else { return Poll::Pending };
        let error = ready!(wait.poll_passed(cx)).with_executed(Executed::Yes);
        context.kill();
        Poll::Ready(BodyEnd::failed(error))
    }
}

impl Watch {
    /// Ready once the deadline has passed, which ends the request.
    fn poll_deadline(&mut self, context: &Context, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some(deadline) = context.deadline() else { return Poll::Pending };
        let at_deadline = || Box::pin(sleep_until(deadline.into()));
        let sleep = self.deadline.get_or_insert_with(at_deadline);
        ready!(sleep.as_mut().poll(cx));
        context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        Poll::Ready(())
    }

    /// The head, with the same care as for the values. An end that comes meanwhile comes again with
    /// them.
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
                // No value was asked for.
                self.in_hand = in_hand;
                ready!(end)
            }
            Err(_) => BodyEnd::failed(panicked()),
        };
        let error = end.error.clone();
        self.ended = Some(end);
        Poll::Ready(error.map_or_else(|| Ok(Headers::new()), Err))
    }
}

/// The end that the engine gave, unless it is its answer to a cancel: whether something is missing
/// cannot be known then. How the response to a request of its own ended is in the error alone: that
/// is no word about this one.
fn judge(end: BodyEnd, context: &Context) -> BodyEnd {
    let answers_cancel =
        |error: &Error| matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded);
    if context.is_stopped() && end.error.as_ref().is_none_or(answers_cancel) {
        return cancelled(context);
    }
    // The engine ran, whatever an error of somebody whom it asked says.
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
