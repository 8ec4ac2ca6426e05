//! Many calls at once, told in one line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::call::{Call, Ended, Router, millis};
use crate::line;

/// How many calls, how many at a time, and which.
#[derive(Clone, Debug, Deserialize)]
pub struct Load {
    /// Without it the load goes on until a `finish` command names it.
    pub requests: Option<u64>,
    pub concurrency: u64,
    /// The items that a call must bring to count as ok; without it, what the request asks for.
    pub expect: Option<u64>,
    /// Prints a `progress` line each time this many calls have ended.
    pub progress: Option<u64>,
    #[serde(flatten)]
    pub call: Call,
}

/// What the calls came to.
#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    failed: u64,
    by: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
    took: Vec<Duration>,
}

impl Load {
    /// Runs the load, until it is through or `finish` is set, and prints its line.
    pub async fn run(self, router: Arc<Router>, id: Value, finish: Arc<AtomicBool>) {
        let began = Instant::now();
        let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let expect = self.expect.or_else(|| self.call.request.get("items").and_then(Value::as_u64));
        let mut lanes = JoinSet::new();
        for _ in 0..self.concurrency {
            let (load, router, id) = (self.clone(), router.clone(), id.clone());
            let (finish, next, done) = (finish.clone(), next.clone(), done.clone());
            lanes.spawn(async move {
                let mut tally = Tally::default();
                while !finish.load(Ordering::Relaxed)
                    && load
                        .requests
                        .is_none_or(|limit| next.fetch_add(1, Ordering::Relaxed) < limit)
                {
                    tally.add(load.call.run(&router, None).await, expect);
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if load.progress.is_some_and(|every| done.is_multiple_of(every)) {
                        line::print(&json!({ "id": id, "progress": done }));
                    }
                }
                tally
            });
        }
        let mut all = Tally::default();
        while let Some(lane) = lanes.join_next().await {
            match lane {
                Ok(tally) => all.merge(tally),
                Err(error) => *all.errors.entry(format!("lane: {error}")).or_default() += 1,
            }
        }
        line::print(&json!({ "id": id, "load": all.summary(began.elapsed()) }));
    }
}

impl Tally {
    fn add(&mut self, ended: Ended, expect: Option<u64>) {
        self.took.push(ended.took);
        let complaint = match (&ended.error, expect) {
            (Some(error), _) => Some(format!("{}: {}", error["at"], error["text"])),
            (None, Some(expected)) if expected != ended.items => {
                Some(format!("{} items instead of {expected}", ended.items))
            }
            (None, _) => None,
        };
        match complaint {
            None => self.ok += 1,
            Some(complaint) => {
                self.failed += 1;
                *self.errors.entry(complaint).or_default() += 1;
            }
        }
        if let Some(worker) = ended.worker {
            *self.by.entry(worker).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.took.extend(other.took);
        for (worker, calls) in other.by {
            *self.by.entry(worker).or_default() += calls;
        }
        for (error, calls) in other.errors {
            *self.errors.entry(error).or_default() += calls;
        }
    }

    fn summary(mut self, took: Duration) -> Value {
        self.took.sort_unstable();
        let quantile =
            |part: usize| self.took.get(self.took.len() * part / 100).copied().map(millis);
        json!({
            "ok": self.ok, "failed": self.failed, "by": self.by, "errors": self.errors,
            "ms": millis(took), "p50_ms": quantile(50), "p99_ms": quantile(99),
        })
    }
}
