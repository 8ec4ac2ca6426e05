//! A timeout that takes into account that the process itself may have been stopped.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

/// A timer that fires so late means that this process did not run: it was stopped by a signal or
/// with its machine, or starved.
const LATE: Duration = Duration::from_millis(250);

/// What lies in a socket by then is fetched in this time.
const GRACE: Duration = Duration::from_millis(250);

/// Returns the time of a second check if `now` is more than 250 ms after `deadline`. Such a delay
/// means that this process did not run, so the awaited data may have arrived without being read.
/// `None` if the check is on time; the deadline has then passed.
///
/// ```
/// use std::time::Duration;
/// use sinew_plane::second_look;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let deadline = tokio::time::Instant::now();
/// assert_eq!(second_look(deadline, deadline + Duration::from_millis(30)), None);
/// let resumed = deadline + Duration::from_secs(18);
/// assert!(second_look(deadline, resumed).is_some_and(|at| at > resumed));
/// # });
/// ```
pub fn second_look(deadline: Instant, now: Instant) -> Option<Instant> {
    (now.saturating_duration_since(deadline) > LATE).then(|| now + GRACE)
}

/// The limit passed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Runs `work` for at most `limit`. If this process was stopped meanwhile, the work gets another
/// moment to read what has arrived.
///
/// Work that is ready at the first poll costs no timer. A limit that is too long to add to the
/// clock means no limit. Needs a tokio runtime with its clock enabled; outside a runtime there is
/// no limit. Cancel-safe if `work` is.
///
/// # Errors
/// [`Elapsed`]; the work is dropped.
pub async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    let mut timer = pin!(None::<Sleep>);
    poll_fn(|cx| {
        if let Poll::Ready(value) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        if timer.is_none()
            && let Some(at) = deadline(limit)
        {
            timer.set(Some(sleep_until(at)));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => poll_passed(timer, cx).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    })
    .await
}

/// The instant after `limit`; `None` when there is no clock or it does not go that far.
pub(crate) fn deadline(limit: Duration) -> Option<Instant> {
    // A clock outside of a runtime has no timers.
    if limit == Duration::MAX || Handle::try_current().is_err() {
        return None;
    }
    Instant::now().checked_add(limit)
}

/// Ready when the timer has passed and this process was there to see it.
pub(crate) fn poll_passed(mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        std::task::ready!(timer.as_mut().poll(cx));
        match second_look(timer.deadline(), Instant::now()) {
            Some(at) => timer.as_mut().reset(at),
            None => return Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_limit_ends_work_that_is_not_done() {
        let start = Instant::now();
        assert_eq!(timeout(LIMIT, pending::<()>()).await, Err(Elapsed));
        assert!(start.elapsed() >= LIMIT && start.elapsed() < LIMIT + GRACE);
        assert_eq!(timeout(LIMIT, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_gives_what_has_arrived_a_moment_to_be_fetched() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(timeout(LIMIT, told));
        tokio::task::yield_now().await;
        // The clock jumps, as it does for a process that was stopped; the reader of the socket
        // runs behind the timer.
        tokio::time::advance(LIMIT + Duration::from_secs(18)).await;
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "judged before anything was read");
        tell.send(5).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(Ok(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_does_not_make_the_wait_endless() {
        let waiting = tokio::spawn(timeout(LIMIT, pending::<()>()));
        tokio::task::yield_now().await;
        tokio::time::advance(LIMIT * 20).await;
        let resumed = Instant::now();
        assert_eq!(waiting.await.unwrap(), Err(Elapsed));
        assert!(resumed.elapsed() <= 2 * GRACE, "{:?}", resumed.elapsed());
    }

    #[test]
    fn without_a_runtime_there_is_no_limit_and_no_panic() {
        let mut work = std::pin::pin!(timeout(LIMIT, pending::<()>()));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(work.as_mut().poll(&mut cx).is_pending());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_limit_is_none() {
        let mut work = std::pin::pin!(timeout(Duration::MAX, pending::<()>()));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(work.as_mut().poll(&mut cx).is_pending());
    }
}
