//! Waits that end with the cancel or the deadline of their request.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Poll, ready},
};

use tokio::time::{Sleep, sleep};

use crate::{CancelReason, Context, StopKind};

/// Runs `work` until the context is cancelled or its deadline passes. With [`StopKind::Stop`] a
/// stop or a kill ends the wait; with [`StopKind::Kill`] only a kill does.
///
/// Work that is ready at the first poll costs no timer. Work that is ready at the moment when the
/// wait would end counts as done. Needs a tokio runtime with its clock if there is a deadline.
/// Cancel-safe if `work` is. Pass large work as `pin!(work)`, because the future of this function
/// holds it twice.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::{future::pending, time::Duration};
/// use sinew_plane::{Code, Context, Error, Executed, StopKind, within};
///
/// let context = Context::builder().timeout(Duration::from_millis(1)).build();
/// let reason = within(&context, StopKind::Stop, pending::<()>()).await.unwrap_err();
/// let error = Error::cancelled_while(reason, "a connection was made");
/// assert_eq!(error.code(), Code::DeadlineExceeded);
/// # });
/// ```
///
/// # Errors
/// Why the wait ended; the work is dropped. [`Error::cancelled_while`](crate::Error::cancelled_while)
/// makes an error of it.
pub async fn within<T>(
    context: &Context,
    end: StopKind,
    work: impl Future<Output = T>,
) -> Result<T, CancelReason> {
    let work = pin!(work);
    let mut work = pin!(unless_cancelled(context, end, work));
    let mut timer = pin!(None::<Sleep>);
    poll_fn(|cx| {
        if let Poll::Ready(ended) = work.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if timer.is_none()
            && let Some(left) = context.remaining()
        {
            timer.set(Some(sleep(left)));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(cx).map(|()| Err(CancelReason::DeadlineExceeded)),
            None => Poll::Pending,
        }
    })
    .await
}

/// As [`within`], but without a timer for the deadline: for callers whose deadline is watched by
/// other code, which cancels the context.
///
/// # Errors
/// Why the context was cancelled; the work is dropped.
pub async fn unless_cancelled<T>(
    context: &Context,
    end: StopKind,
    work: impl Future<Output = T>,
) -> Result<T, CancelReason> {
    let mut work = pin!(work);
    let mut cancelled = pin!(context.cancelled(end));
    poll_fn(|cx| {
        if let Poll::Ready(value) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        Poll::Ready(Err(ready!(cancelled.as_mut().poll(cx))))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        time::Duration,
    };

    use tokio::{
        task::yield_now,
        time::{Instant, advance},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    fn limited() -> Context {
        Context::builder().timeout(LIMIT).build()
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_the_wait_and_is_the_reason() {
        for end in [StopKind::Stop, StopKind::Kill] {
            let (context, began) = (limited(), Instant::now());
            let ended = within(&context, end, pending::<()>()).await;
            assert_eq!(ended, Err(CancelReason::DeadlineExceeded));
            assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs());
            assert!(!context.is_stopped(), "the wait alone is over");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_those_waits_that_it_is_to_end() {
        for (kind, end, is_over) in [
            (StopKind::Stop, StopKind::Stop, true),
            (StopKind::Kill, StopKind::Stop, true),
            (StopKind::Stop, StopKind::Kill, false),
            (StopKind::Kill, StopKind::Kill, true),
        ] {
            let context = limited();
            let waiting = tokio::spawn({
                let context = context.clone();
                async move { within(&context, end, pending::<()>()).await }
            });
            yield_now().await;
            context.cancel(kind, CancelReason::Shutdown);
            yield_now().await;
            assert_eq!(waiting.is_finished(), is_over, "{kind:?} of {end:?}");
            advance(LIMIT).await;
            let reason = waiting.await.unwrap().unwrap_err();
            let late = CancelReason::DeadlineExceeded;
            assert_eq!(reason, if is_over { CancelReason::Shutdown } else { late });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_for_the_deadline_is_told_as_that() {
        let context = Context::new();
        context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        for ended in [
            within(&context, StopKind::Kill, pending::<()>()).await,
            unless_cancelled(&context, StopKind::Kill, pending::<()>()).await,
        ] {
            assert_eq!(ended, Err(CancelReason::DeadlineExceeded));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_counts_though_the_request_is_over() {
        let context = Context::builder().timeout(Duration::ZERO).build();
        context.kill();
        assert_eq!(within(&context, StopKind::Stop, ready(7)).await, Ok(7));
        assert_eq!(unless_cancelled(&context, StopKind::Stop, ready(7)).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn who_watches_no_deadline_waits_beyond_it() {
        let context = limited();
        let mut waiting = pin!(unless_cancelled(&context, StopKind::Stop, pending::<()>()));
        let limit = tokio::time::timeout(2 * LIMIT, waiting.as_mut());
        assert!(limit.await.is_err(), "ended with the deadline");
        context.stop();
        assert_eq!(waiting.await, Err(CancelReason::Caller));
    }

    #[test]
    fn without_a_deadline_no_runtime_is_needed() {
        let context = Context::new();
        let mut waiting = pin!(within(&context, StopKind::Stop, pending::<()>()));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        context.stop();
        assert_eq!(waiting.as_mut().poll(&mut cx), Poll::Ready(Err(CancelReason::Caller)));
    }
}
