//! What a process has written for one request and its caller has not taken yet.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew::{
    BudgetUse, Error,
    layers::plane::budget::{Account, Tally, Work},
};

use super::wire::MAX_LINE;

/// Most that is kept for one request, in bytes. The process writes for all requests through one
/// pipe, so a slow caller must not hold it up; one that is this far behind is failed.
const MAX_KEPT: usize = MAX_LINE;

/// What an item costs besides its bytes, so that empty ones are bounded too.
const ITEM_COST: usize = 64;

/// One thing that a request's task is told.
#[derive(Debug)]
pub(crate) enum ProcessOutput {
    /// The process is given the request now.
    Begun,
    Item(Bytes),
    /// All items were there.
    End,
    /// The request failed, or was not begun and is safe to send elsewhere.
    Failed(Error),
}

/// The letters of one request, in order.
pub(crate) struct OutputQueue {
    account: Arc<Account>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<ProcessOutput>,
    kept: usize,
    charged: Tally,
    closed: bool,
    /// What was kept was too much.
    overflowed: bool,
    /// Who waits for output.
    waker: Option<Waker>,
}

impl OutputQueue {
    /// An empty one, whose letters are charged to `account`.
    pub(crate) fn new(account: Arc<Account>) -> Self {
        Self { account, state: Mutex::default() }
    }

    /// Adds output. An end or a failure is the last one; what follows is ignored. False for an
    /// item for which there is no room, which is not taken.
    #[must_use]
    pub(crate) fn put(&self, output: ProcessOutput) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return true;
        }
        match &output {
            ProcessOutput::Item(item) => {
                let cost = item.len() + ITEM_COST;
                // An empty box takes any item: a line may be as large as the box.
                if state.kept > 0 && state.kept + cost > MAX_KEPT {
                    return false;
                }
                let kept = state.kept + cost;
                if !state.charged.cover(kept, BudgetUse::Queued, &self.account, Work::Running) {
                    return false;
                }
                state.kept = kept;
            }
            ProcessOutput::Begun => {}
            ProcessOutput::End | ProcessOutput::Failed(_) => state.closed = true,
        }
        state.waiting.push_back(output);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        true
    }

    /// Fails the request at once: what was kept for it is dropped.
    pub(crate) fn overflow(&self, error: Error) {
        let mut state = self.state.lock();
        state.charged.clear(BudgetUse::Queued, &self.account);
        state.waiting = [ProcessOutput::Failed(error)].into();
        (state.kept, state.closed, state.overflowed) = (0, true, true);
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// The next output, if there is some.
    pub(crate) fn try_take(&self) -> Option<ProcessOutput> {
        let mut state = self.state.lock();
        let Some(output) = state.waiting.pop_front() else {
            // The task that asks waits now, maybe for long.
            state.waiting = VecDeque::new();
            return None;
        };
        if let ProcessOutput::Item(item) = &output {
            state.kept -= item.len() + ITEM_COST;
            let State { kept, charged, .. } = &mut *state;
            charged.settle(*kept, BudgetUse::Queued, &self.account);
        }
        Some(output)
    }

    /// Ready when there is output. Only the latest waker is kept.
    pub(crate) fn poll_arrived(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let arrived = !state.waiting.is_empty();
        state.poll(arrived, cx)
    }

    /// Ready when what was kept was too much, and the failure is the only output. Only the latest
    /// waker is kept.
    pub(crate) fn poll_overflowed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let overflowed = state.overflowed;
        state.poll(overflowed, cx)
    }
}

impl State {
    fn poll(&mut self, is_so: bool, cx: &mut Context<'_>) -> Poll<()> {
        if is_so {
            return Poll::Ready(());
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Drop for OutputQueue {
    fn drop(&mut self) {
        self.state.get_mut().charged.clear(BudgetUse::Queued, &self.account);
    }
}

#[cfg(test)]
mod tests {
    use sinew::Budget;

    use super::*;

    fn output() -> OutputQueue {
        OutputQueue::new(Budget::new(64 << 20).open())
    }

    #[test]
    fn what_the_budget_has_no_room_for_is_not_kept() {
        let budget = Budget::new(4 << 20);
        let output = OutputQueue::new(budget.open());
        let other = budget.open().hold(BudgetUse::Kept, 1 << 20, Work::Running);
        let mut more: Vec<_> = (0..2)
            .map(|_| budget.open().hold(BudgetUse::Kept, 1 << 20, Work::Running).unwrap())
            .collect();
        more.push(budget.open().hold(BudgetUse::Kept, 1 << 19, Work::Running).unwrap());
        assert!(output.put(item(1 << 18)) && !output.put(item(1 << 18)));
        drop((other, more));
        assert!(output.put(item(1 << 18)));
        drop(output);
        assert_eq!(budget.total(), 0);
    }

    fn item(bytes: usize) -> ProcessOutput {
        ProcessOutput::Item(vec![b'x'; bytes].into())
    }

    #[test]
    fn the_room_is_bounded_and_comes_back() {
        let output = output();
        assert!(output.put(item(MAX_LINE)), "an empty box takes the longest line");
        assert!(!output.put(item(0)));
        assert!(output.try_take().is_some());
        let empty = (0..1_000_000).take_while(|_| output.put(item(0))).count();
        assert_eq!(empty, MAX_KEPT / ITEM_COST);
        output.overflow(Error::handler("too far behind"));
        assert!(
            matches!(output.try_take(), Some(ProcessOutput::Failed(_))),
            "it does not wait its turn"
        );
        assert!(output.try_take().is_none());
    }

    #[test]
    fn nothing_follows_the_end() {
        let output = output();
        assert!(output.put(item(1)) && output.put(ProcessOutput::End) && output.put(item(1)));
        assert!(matches!(output.try_take(), Some(ProcessOutput::Item(_))));
        assert!(matches!(output.try_take(), Some(ProcessOutput::End)));
        assert!(output.try_take().is_none());
    }
}
