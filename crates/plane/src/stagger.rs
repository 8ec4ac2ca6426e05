//! Parallel attempts that start one after the other.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

/// How long one attempt to connect runs alone before the next one starts in parallel: the delay
/// that RFC 8305 recommends. The kernel completes a connect even if the peer process is
/// suspended, so an attempt also waits for the peer's hello.
pub const CONNECT_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Runs attempts until one succeeds, and returns its result. `next` starts an attempt; it is called
/// at once, and again after `pause` or when an attempt fails, until it returns `None`. `failed`
/// gets the error of each failed attempt. When one succeeds, the others are dropped.
///
/// `None` if all attempts have failed. Cancel-safe if the attempts are.
pub async fn staggered<F, P, T, E>(
    pause: impl Fn() -> P,
    mut next: impl FnMut() -> Option<F>,
    mut failed: impl FnMut(E),
) -> Option<T>
where
    F: Future<Output = Result<T, E>>,
    P: Future<Output = ()>,
{
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    loop {
        let begun = next().map(Box::pin);
        let is_last = begun.is_none();
        running.extend(begun);
        if running.is_empty() {
            return None;
        }
        let mut pause = pin!(pause());
        let step = poll_fn(|cx| {
            for place in 0..running.len() {
                if let Poll::Ready(ended) = running[place].as_mut().poll(cx) {
                    drop(running.remove(place));
                    return Poll::Ready(Some(ended));
                }
            }
            match is_last {
                true => Poll::Pending,
                false => pause.as_mut().poll(cx).map(|()| None),
            }
        });
        match step.await {
            Some(Ok(value)) => return Some(value),
            Some(Err(error)) => failed(error),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::{Instant, sleep};

    use super::*;

    /// Attempts that end after so many milliseconds, well or not.
    async fn race(attempts: &[(u64, bool)]) -> (Option<usize>, u128, Vec<usize>) {
        let (began, errors) = (Instant::now(), RefCell::new(Vec::new()));
        let mut left = attempts.iter().enumerate();
        let next = || {
            let (place, (millis, works)) = left.next()?;
            Some(async move {
                sleep(Duration::from_millis(*millis)).await;
                if *works { Ok(place) } else { Err(place) }
            })
        };
        let pause = || sleep(CONNECT_ATTEMPT_DELAY);
        let won = staggered(pause, next, |error| errors.borrow_mut().push(error)).await;
        (won, began.elapsed().as_millis(), errors.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_quick_runs_alone_and_one_that_is_slow_does_not_hold_the_others_up() {
        assert_eq!(race(&[(200, true), (0, true)]).await, (Some(0), 200, vec![]));
        assert_eq!(race(&[(60_000, true), (5, true)]).await, (Some(1), 255, vec![]));
        assert_eq!(race(&[(300, true), (100, true)]).await, (Some(0), 300, vec![]));
        // A failure has the next begin at once.
        assert_eq!(race(&[(10, false), (5, true)]).await, (Some(1), 15, vec![0]));
        assert_eq!(race(&[(60_000, true), (10, false), (1, true)]).await, (Some(2), 261, vec![1]));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_fail_are_told_and_the_last_is_waited_for() {
        assert_eq!(race(&[]).await, (None, 0, vec![]));
        assert_eq!(race(&[(400, false), (10, false)]).await, (None, 400, vec![1, 0]));
    }
}
