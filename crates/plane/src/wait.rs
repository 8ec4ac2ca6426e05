//! The time limits of a caller's waits for items.

use std::{
    fmt,
    pin::Pin,
    task::{self, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    CallLimits, Error,
    limits::{accept_timed_out, first_item_timed_out, idle_timed_out},
    timeout,
};

/// Keeps the time limits of one call. Only calls with limits have one.
///
/// The limit of the first item counts from the beginning; the limit of a further item counts while
/// the caller waits for it, so the time that the caller spends on an item does not count.
pub struct ItemWait {
    limits: CallLimits,
    began: Instant,
    /// Also when the acceptance is limited by the call itself, for who never asks for the start.
    accepted: bool,
    received: u64,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: Option<Awaited>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Acceptance(Duration),
    First(Duration),
    Next(Duration),
}

impl ItemWait {
    /// Makes the limits of a call that begins now; `None` without limits on items.
    pub fn new(limits: CallLimits) -> Option<Box<Self>> {
        limits.limit_items().then(|| Box::new(Self::begin(limits, true)))
    }

    /// The same for one whose acceptance is watched too.
    pub(crate) fn with_acceptance(limits: CallLimits) -> Box<Self> {
        Box::new(Self::begin(limits, false))
    }

    fn begin(limits: CallLimits, accepted: bool) -> Self {
        let began = Instant::now();
        Self { limits, began, accepted, received: 0, timer: None, waiting: None }
    }

    /// The worker has accepted.
    pub(crate) fn accepted(&mut self) {
        self.accepted = true;
        if matches!(self.waiting, Some(Awaited::Acceptance(_))) {
            self.waiting = None;
        }
    }

    /// True while the acceptance is still waited for.
    pub(crate) fn wants_acceptance(&self) -> bool {
        !self.accepted && self.received == 0
    }

    /// Records that an item has arrived.
    pub fn on_item(&mut self) {
        self.received += 1;
        self.waiting = None;
    }

    /// Called while there is no item. Ready with the error once a limit has passed; until then it
    /// wakes the task of `cx` when one passes.
    pub fn poll_passed(&mut self, cx: &mut task::Context<'_>) -> Poll<Error> {
        if self.waiting.is_none() {
            let Some((at, awaited)) = self.next() else { return Poll::Pending };
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(at),
                None => self.timer = Some(Box::pin(sleep_until(at))),
            }
            self.waiting = Some(awaited);
        }
        let (Some(timer), Some(awaited)) = (&mut self.timer, self.waiting) else {
            return Poll::Pending;
        };
        ready!(timeout::poll_passed(timer.as_mut(), cx));
        Poll::Ready(match awaited {
            Awaited::Acceptance(limit) => accept_timed_out(limit),
            Awaited::First(limit) => first_item_timed_out(limit),
            Awaited::Next(limit) => idle_timed_out(limit, self.received),
        })
    }

    /// What is waited for, and until when.
    fn next(&self) -> Option<(Instant, Awaited)> {
        // Also says that there is a clock to wait on.
        let until = |since: Instant, limit: Duration| {
            timeout::deadline(limit).and_then(|_| since.checked_add(limit))
        };
        if self.received > 0 {
            let limit = self.limits.idle?;
            return Some((until(Instant::now(), limit)?, Awaited::Next(limit)));
        }
        let limited = |limit: Duration, awaited: fn(Duration) -> Awaited| {
            until(self.began, limit).map(|at| (at, awaited(limit)))
        };
        let first = self.limits.first_item.and_then(|limit| limited(limit, Awaited::First));
        let accept = self.limits.accept.filter(|_| !self.accepted);
        let accept = accept.and_then(|limit| limited(limit, Awaited::Acceptance));
        [accept, first].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

impl fmt::Debug for ItemWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ItemWait");
        debug.field("limits", &self.limits).field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::{Code, Executed};

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_limit_and_its_own_error() {
        let limits =
            CallLimits { first_item: Some(secs(3)), idle: Some(secs(1)), ..CallLimits::default() };
        let mut wait = ItemWait::new(limits).unwrap();
        let began = Instant::now();
        tokio::time::advance(secs(2)).await;
        let error = poll_fn(|cx| wait.poll_passed(cx)).await;
        assert_eq!(error.code(), Code::FirstItemTimedOut);
        assert_eq!(began.elapsed().as_secs(), 3, "from the beginning, not from the first look");
        assert!(error.message().contains("3s"), "{error}");

        wait.on_item();
        // The consumer is busy with it for longer than the limit.
        tokio::time::advance(secs(60)).await;
        let looked = Instant::now();
        let error = poll_fn(|cx| wait.poll_passed(cx)).await;
        assert_eq!((error.code(), error.executed()), (Code::IdleTimedOut, Executed::Yes));
        assert_eq!(looked.elapsed().as_secs(), 1, "from the first look on");
    }

    #[tokio::test(start_paused = true)]
    async fn the_acceptance_ends_its_own_limit_and_no_other() {
        let limits = CallLimits { accept: Some(secs(1)), ..CallLimits::default() };
        let mut wait = ItemWait::with_acceptance(limits);
        assert!(futures_util::poll!(poll_fn(|cx| wait.poll_passed(cx))).is_pending());
        wait.accepted();
        tokio::time::advance(secs(60)).await;
        assert!(futures_util::poll!(poll_fn(|cx| wait.poll_passed(cx))).is_pending());

        let mut wait = ItemWait::with_acceptance(limits);
        let error = poll_fn(|cx| wait.poll_passed(cx)).await;
        assert_eq!((error.code(), error.executed()), (Code::AcceptTimedOut, Executed::Maybe));
    }

    #[test]
    fn calls_without_limits_have_no_wait() {
        assert!(ItemWait::new(CallLimits::default()).is_none());
        assert!(ItemWait::new(CallLimits::UNLIMITED).is_none());
    }
}
