//! One timer for the deadlines of all requests.
//!
//! Not a `DelayQueue` of tokio-util, for three reasons. It reuses the key of an expired entry while
//! a request still holds it and is about to remove it, so another request would lose its deadline.
//! It panics at a deadline more than two years ahead, and peers choose deadlines. And each
//! insertion into an empty queue and each removal that empties it allocates a timer and wakes the
//! task, which is what the calls of one sequential caller do.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use parking_lot::Mutex;
use sinew_plane::{CancelReason, Context, StopKind, clock};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

/// Kills requests whose deadline passes. One task serves all of them and starts with the first
/// deadline. An entry stays as long as its request is in flight, so the admission limit bounds
/// their number.
pub(crate) struct Deadlines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Notified when the first entry changes or the queue is closed.
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    /// The key has a number, because two requests may have the same deadline.
    entries: BTreeMap<DeadlineKey, Context>,
    next_number: u64,
    running: bool,
    closed: bool,
}

/// The place of a request in the queue.
pub(crate) type DeadlineKey = (Instant, u64);

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { queue: Mutex::default(), changed: Notify::new() }))
    }

    /// Kills `context` at `deadline` unless [`forget`](Self::forget) comes first.
    pub(crate) fn watch(
        &self,
        deadline: Instant,
        context: &Context,
        tasks: &TaskTracker,
    ) -> DeadlineKey {
        let mut queue = self.0.queue.lock();
        let key = (deadline, queue.next_number);
        queue.next_number += 1;
        queue.entries.insert(key, context.clone());
        let is_first = queue.entries.first_key_value().is_some_and(|(first, _)| *first == key);
        let start = !queue.running && !queue.closed;
        queue.running |= start;
        drop(queue);
        if start {
            tasks.spawn(run(Running(Arc::clone(&self.0))));
        } else if is_first {
            self.0.changed.notify_one();
        }
        key
    }

    pub(crate) fn forget(&self, key: DeadlineKey) {
        // The timer is left as it is: it wakes once for nothing, at most once per entry.
        let context = self.0.queue.lock().entries.remove(&key);
        drop(context);
    }

    /// Ends the task.
    pub(crate) fn close(&self) {
        self.0.queue.lock().closed = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.close();
    }
}

/// Held by the task. If a cancel listener panics and so ends the task, the next deadline starts a
/// new task.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.queue.lock().running = false;
    }
}

async fn run(running: Running) {
    let shared = &running.0;
    loop {
        let (due, next) = {
            let mut queue = shared.queue.lock();
            if queue.closed {
                return;
            }
            (queue.take_due(clock::now()), queue.entries.first_key_value().map(|((at, _), _)| *at))
        };
        for context in due {
            context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
        }
        match next {
            None => shared.changed.notified().await,
            Some(next) => tokio::select! {
                biased;
                () = tokio::time::sleep_until(next.into()) => {}
                () = shared.changed.notified() => {}
            },
        }
    }
}

impl Queue {
    fn take_due(&mut self, now: Instant) -> Vec<Context> {
        let mut due = Vec::new();
        while let Some(first) = self.entries.first_entry() {
            if first.key().0 > now {
                break;
            }
            due.push(first.remove());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_killed_at_its_own_deadline_in_any_order_of_arrival() {
        let (deadlines, tasks, start) = (Deadlines::new(), TaskTracker::new(), clock::now());
        let mut contexts = Vec::new();
        for seconds in [3, 1, 2, 1] {
            let context = Context::new();
            deadlines.watch(start + Duration::from_secs(seconds), &context, &tasks);
            contexts.push((seconds, context));
            // Lets the task go to sleep, so that an earlier deadline has to wake it.
            tokio::task::yield_now().await;
        }
        contexts.sort_by_key(|(seconds, _)| *seconds);
        for (seconds, context) in contexts {
            context.killed().await;
            assert_eq!(context.reason(), Some(CancelReason::DeadlineExceeded));
            // The timer's own step is a millisecond.
            let late = (clock::now() - start).checked_sub(Duration::from_secs(seconds));
            assert!(late.is_some_and(|late| late < Duration::from_millis(10)), "{late:?}");
        }
        assert_eq!(tasks.len(), 1, "one task for all");
    }

    #[tokio::test(start_paused = true)]
    async fn the_forgotten_are_left_alone_and_closing_ends_the_task() {
        let (deadlines, tasks) = (Deadlines::new(), TaskTracker::new());
        let (forgotten, kept) = (Context::new(), Context::new());
        let key = deadlines.watch(clock::now() + Duration::from_secs(1), &forgotten, &tasks);
        deadlines.watch(clock::now() + Duration::from_secs(2), &kept, &tasks);
        deadlines.forget(key);
        kept.killed().await;
        assert!(!forgotten.is_stopped());
        tasks.close();
        drop(deadlines);
        tasks.wait().await;
    }
}
