//! Tasks that do one job after another, so that a request does not pay for a task of its own.

use std::{
    future::poll_fn,
    mem,
    sync::{Arc, OnceLock, Weak},
    task::{self, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};

/// Most tasks of one pool, and so of one endpoint, that wait for a job. It bounds the memory that a
/// burst leaves, to a few KiB for each; jobs beyond it get tasks that end with them.
const MAX_IDLE: usize = 32;

/// The work that a pool runs, from its start to its end.
pub(crate) trait Job: Send + 'static {
    fn run(self) -> impl Future<Output = ()> + Send;
}

/// Runs each job in a task, as `tokio::spawn` does: jobs run beside each other, and a panic ends the
/// job and its task alone. A task that has done its job waits for the next one, which costs a wake in
/// place of the room and the bookkeeping of a new task. Idle tasks end with the pool.
///
/// Only the runtime that runs the first job keeps tasks. Jobs of another runtime get a task each.
pub(crate) struct TaskPool<J> {
    idle: Mutex<Vec<Arc<Slot<J>>>>,
    /// The runtime whose tasks are kept.
    runtime: OnceLock<Id>,
}

impl<J> TaskPool<J> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), runtime: OnceLock::new() })
    }
}

impl<J: Job> TaskPool<J> {
    /// Runs a job on the current runtime, without waiting for it.
    pub(crate) fn run(self: &Arc<Self>, mut job: J) {
        let here = Handle::current();
        if *self.runtime.get_or_init(|| here.id()) != here.id() {
            here.spawn(job.run());
            return;
        }
        loop {
            let Some(slot) = self.idle.lock().pop() else { break };
            match slot.give(job) {
                Ok(()) => return,
                // Its runtime has dropped the task.
                Err(back) => job = back,
            }
        }
        here.spawn(work(Arc::downgrade(self), job));
    }

    /// Puts the task of `slot` among those that wait; false when enough of them do.
    fn keep(&self, slot: &Arc<Slot<J>>) -> bool {
        let mut idle = self.idle.lock();
        let has_room = idle.len() < MAX_IDLE;
        if has_room {
            idle.push(Arc::clone(slot));
        }
        has_room
    }
}

impl<J> Drop for TaskPool<J> {
    fn drop(&mut self) {
        for slot in self.idle.get_mut().drain(..) {
            slot.close();
        }
    }
}

/// The task: one job after another, until no more are kept for it.
async fn work<J: Job>(pool: Weak<TaskPool<J>>, first: J) {
    first.run().await;
    let slot = Arc::new(Slot::new());
    // A task that is dropped while it waits must not be given a job.
    let _closed_on_drop = CloseOnDrop(&slot);
    loop {
        // Held no longer than this, so that the pool ends when its owner lets it go.
        let is_kept = pool.upgrade().is_some_and(|pool| pool.keep(&slot));
        if !is_kept {
            return;
        }
        let Some(job) = poll_fn(|cx| slot.poll_job(cx)).await else { return };
        job.run().await;
    }
}

/// Where a task waits for its next job.
struct Slot<J>(Mutex<State<J>>);

enum State<J> {
    Waiting(Option<Waker>),
    Given(J),
    /// The task has ended, or is to end: it takes no job.
    Closed,
}

impl<J> Slot<J> {
    fn new() -> Self {
        Self(Mutex::new(State::Waiting(None)))
    }

    /// Gives the task a job, or the job back if the task has ended.
    fn give(&self, job: J) -> Result<(), J> {
        let mut state = self.0.lock();
        let State::Waiting(waker) = &mut *state else { return Err(job) };
        let waker = waker.take();
        *state = State::Given(job);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Ready with a job, or with nothing once there will be none.
    fn poll_job(&self, cx: &mut task::Context<'_>) -> Poll<Option<J>> {
        let mut state = self.0.lock();
        match mem::replace(&mut *state, State::Waiting(None)) {
            State::Given(job) => Poll::Ready(Some(job)),
            State::Closed => {
                *state = State::Closed;
                Poll::Ready(None)
            }
            State::Waiting(_) => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }

    fn close(&self) {
        let before = mem::replace(&mut *self.0.lock(), State::Closed);
        if let State::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

struct CloseOnDrop<'a, J>(&'a Slot<J>);

impl<J> Drop for CloseOnDrop<'_, J> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        sync::{mpsc, oneshot},
        task::Id as TaskId,
    };

    use super::*;

    /// Says which task runs it, waits until it may end, and may panic.
    struct Told {
        ran: mpsc::UnboundedSender<TaskId>,
        until: Option<oneshot::Receiver<()>>,
        panics: bool,
    }

    impl Job for Told {
        async fn run(self) {
            let _ = self.ran.send(tokio::task::id());
            if let Some(until) = self.until {
                let _ = until.await;
            }
            assert!(!self.panics, "as the test wants");
        }
    }

    fn job(ran: &mpsc::UnboundedSender<TaskId>) -> Told {
        Told { ran: ran.clone(), until: None, panics: false }
    }

    async fn idle(pool: &TaskPool<Told>, count: usize) {
        while pool.idle.lock().len() != count {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_task_does_one_job_after_another() {
        let (ran, mut tasks) = mpsc::unbounded_channel();
        let pool = TaskPool::new();
        let mut ids = Vec::new();
        for _ in 0..3 {
            pool.run(job(&ran));
            ids.push(tasks.recv().await.unwrap());
            idle(&pool, 1).await;
        }
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[tokio::test]
    async fn jobs_run_beside_each_other_and_few_tasks_are_kept() {
        let (ran, mut tasks) = mpsc::unbounded_channel();
        let pool = TaskPool::new();
        let ends: Vec<_> = (0..MAX_IDLE + 10)
            .map(|_| {
                let (end, until) = oneshot::channel();
                pool.run(Told { until: Some(until), ..job(&ran) });
                end
            })
            .collect();
        let mut ids = Vec::new();
        for _ in &ends {
            ids.push(tasks.recv().await.unwrap());
        }
        ids.sort_by_key(ToString::to_string);
        ids.dedup();
        assert_eq!(ids.len(), ends.len(), "each has a task of its own while all run");
        drop(ends);
        idle(&pool, MAX_IDLE).await;
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_its_task_with_it_and_no_other() {
        let (ran, mut tasks) = mpsc::unbounded_channel();
        let pool = TaskPool::new();
        pool.run(Told { panics: true, ..job(&ran) });
        let first = tasks.recv().await.unwrap();
        pool.run(job(&ran));
        assert_ne!(tasks.recv().await.unwrap(), first);
        idle(&pool, 1).await;
    }

    #[tokio::test]
    async fn idle_tasks_end_with_the_pool() {
        let (ran, mut tasks) = mpsc::unbounded_channel();
        let pool = TaskPool::new();
        pool.run(job(&ran));
        tasks.recv().await.unwrap();
        idle(&pool, 1).await;
        let slot = Arc::downgrade(&pool.idle.lock()[0]);
        drop(pool);
        while slot.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_job_runs_to_its_end_after_its_pool() {
        let (ran, mut tasks) = mpsc::unbounded_channel();
        let pool = TaskPool::new();
        let (end, until) = oneshot::channel();
        pool.run(Told { until: Some(until), ..job(&ran) });
        tasks.recv().await.unwrap();
        drop((pool, ran));
        assert!(!end.is_closed(), "the job still waits");
        end.send(()).unwrap();
        assert_eq!(tasks.recv().await, None, "its task has ended");
    }

    #[test]
    fn a_job_that_was_never_polled_is_dropped_with_its_runtime() {
        let (ran, mut tasks) = mpsc::unbounded_channel();
        let pool = TaskPool::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            pool.run(job(&ran));
            tasks.recv().await.unwrap();
            idle(&pool, 1).await;
            // Nothing else is awaited: the task has no time to run it.
            pool.run(job(&ran));
        });
        drop((runtime, ran));
        assert_eq!(tasks.blocking_recv(), None, "it did not run, and its sender is gone");
    }

    #[test]
    fn a_runtime_that_has_ended_takes_no_job_with_it() {
        let (ran, mut tasks) = mpsc::unbounded_channel();
        let pool = TaskPool::new();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build();
        let first = runtime().unwrap();
        first.block_on(async {
            pool.run(job(&ran));
            tasks.recv().await.unwrap();
            idle(&pool, 1).await;
        });
        drop(first);
        runtime().unwrap().block_on(async {
            pool.run(job(&ran));
            let second = tokio::time::timeout(Duration::from_secs(20), tasks.recv()).await;
            assert!(second.unwrap().is_some());
        });
    }
}
