//! Callers that call all the time, and an account of what became of every request.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use sinew::{Error, InstanceId, ManyOut, Outcome, SingleIn};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use crate::{
    engine::{Item, Job},
    fleet::Router,
    wait::soon,
};

/// Between two requests of one caller at least: so that refusals at once do not take the whole
/// machine.
const PACE: Duration = Duration::from_millis(5);

/// Why a request did not complete.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Who had taken it; `None` when it did not come so far.
    pub(crate) by: Option<InstanceId>,
    /// How it ended, where it had begun.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) error: Error,
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
}

/// Makes a request and reads the response to its end, checking each item. Says who made them.
pub(crate) async fn call(router: &Router, job: Job) -> Result<InstanceId, Failure> {
    soon("a request to end", async {
        let begun = Instant::now();
        let failure =
            |by, outcome, error| Failure { by, outcome, error, begun, took: begun.elapsed() };
        let (items, how) = router
            .generate_explained(SingleIn::new(job))
            .await
            .map_err(|error| failure(None, None, error))?;
        finish(items, job, 0)
            .await
            .map_err(|(outcome, error)| failure(Some(how.instance), Some(outcome), error))
    })
    .await
}

/// Reads a response from item `next` to its end. Says who made it.
async fn finish(
    mut items: ManyOut<Item>,
    job: Job,
    mut next: u64,
) -> Result<InstanceId, (Outcome, Error)> {
    let mut by = None;
    while let Some(item) = items.next().await {
        match item {
            Ok(item) => {
                assert_eq!(item.number, next, "items come whole and in order");
                assert_eq!(*by.get_or_insert(item.by), item.by, "all of one worker");
            }
            Err(error) => return Err((items.outcome().unwrap().clone(), error)),
        }
        next += 1;
    }
    assert_eq!(next, job.items, "a response that is complete has all its items");
    assert!(matches!(items.outcome(), Some(Outcome::Complete { items }) if *items == next));
    Ok(InstanceId(by.unwrap()))
}

/// What became of the requests of a load so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Account {
    pub(crate) begun: u64,
    pub(crate) completed: BTreeMap<InstanceId, u64>,
    pub(crate) failed: Vec<Failure>,
}

impl Account {
    pub(crate) fn completed(&self) -> u64 {
        self.completed.values().sum()
    }
}

/// Callers that go on until they are told to end.
pub(crate) struct Load {
    account: watch::Sender<Account>,
    stop: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many callers, each with one request after another.
    pub(crate) fn start(router: &Router, callers: usize) -> Self {
        let (account, stop) = (watch::Sender::<Account>::default(), Arc::<AtomicBool>::default());
        let lane = |_| {
            let (router, account, stop) = (router.clone(), account.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut pace = interval(PACE);
                // A long response is followed by one request, not by all that it held up.
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::SeqCst) {
                    pace.tick().await;
                    account.send_modify(|account| account.begun += 1);
                    let result = call(&router, Job::SHORT).await;
                    account.send_modify(|account| match result {
                        Ok(by) => *account.completed.entry(by).or_default() += 1,
                        Err(failure) => account.failed.push(failure),
                    });
                }
            })
        };
        let lanes = (0..callers).map(lane).collect();
        Self { account, stop, lanes }
    }

    /// Waits until the account says so.
    pub(crate) async fn until(&self, what: &str, is_so: impl FnMut(&Account) -> bool) -> Account {
        let mut account = self.account.subscribe();
        let account = soon(what, account.wait_for(is_so)).await;
        account.unwrap().clone()
    }

    /// Waits until so many more are complete.
    pub(crate) async fn completes(&self, more: u64) -> Account {
        let before = self.account.borrow().completed();
        self.until("requests to go on", |account| account.completed() >= before + more).await
    }

    /// Waits until each of these has completed some more.
    pub(crate) async fn uses(&self, ids: &[InstanceId]) {
        let of = |account: &Account, id| account.completed.get(id).copied().unwrap_or_default();
        let before = self.account.borrow().clone();
        let all = |now: &Account| ids.iter().all(|id| of(now, id) >= of(&before, id) + 5);
        self.until("every worker to be used", all).await;
    }

    /// Ends it, and says what became of every request.
    pub(crate) async fn end(self) -> Account {
        self.stop.store(true, Ordering::SeqCst);
        for lane in self.lanes {
            soon("a caller to end", lane).await.unwrap();
        }
        let account = self.account.borrow().clone();
        let ended = account.completed() + account.failed.len() as u64;
        assert_eq!(account.begun, ended, "every request ends one way");
        account
    }

    /// Ends it: no request failed.
    pub(crate) async fn ends_without_failure(self) -> Account {
        let account = self.end().await;
        assert!(account.failed.is_empty(), "{}", told(&account));
        account
    }
}

/// The failures, few of them.
fn told(account: &Account) -> String {
    let some: Vec<_> = account.failed.iter().take(5).collect();
    format!("{} of {} requests failed: {some:#?}", account.failed.len(), account.begun)
}

/// Responses that have begun and wait behind their first item.
pub(crate) struct Held(Vec<(InstanceId, ManyOut<Item>)>);

impl Held {
    /// Makes requests of one instance, and reads the first item of each.
    pub(crate) async fn begin(router: &Router, count: usize, id: InstanceId) -> Self {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            let router = router.clone();
            calls.spawn(async move {
                let mut items = router.direct(Job::HELD, id).await.unwrap();
                let first = items.next().await.unwrap().unwrap();
                assert_eq!(first, Item { number: 0, by: id.0 });
                (id, items)
            });
        }
        Self(soon("streams to begin", calls.join_all()).await)
    }

    /// Reads each to its end.
    pub(crate) async fn end(self) -> Vec<Result<InstanceId, Failure>> {
        let begun = Instant::now();
        let mut ends = Vec::new();
        for (id, items) in self.0 {
            let end = soon("a stream to end", finish(items, Job::HELD, 1)).await;
            ends.push(end.map_err(|(outcome, error)| Failure {
                by: Some(id),
                outcome: Some(outcome),
                error,
                begun,
                took: begun.elapsed(),
            }));
        }
        ends
    }

    /// Reads each to its end: all complete.
    pub(crate) async fn complete(self) {
        for end in self.end().await {
            end.unwrap();
        }
    }
}
