//! What a worker tells about a request: that it starts, that a stop or kill reaches it, how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dynamo_runtime::pipeline::AsyncEngineContext;
use serde_json::{Value, json};

use crate::line;

/// One request's report; the end is told when it is dropped, whoever drops it.
#[derive(Debug)]
pub struct Report {
    cancellation: Arc<Cancellation>,
    /// What the engine knows about the end; `None` while it streams.
    outcome: Option<&'static str>,
    items: u64,
    watcher: tokio::task::JoinHandle<()>,
}

/// Tells of a stop or kill once: as it comes, or at the latest before the end.
#[derive(Debug)]
struct Cancellation {
    context: Arc<dyn AsyncEngineContext>,
    told: AtomicBool,
    quiet: bool,
}

impl Report {
    /// Tells the start and begins to watch for cancellation.
    pub fn start(context: Arc<dyn AsyncEngineContext>, metadata: Value, quiet: bool) -> Self {
        if !quiet {
            line::print(
                &json!({ "event": "start", "request": context.id(), "metadata": metadata }),
            );
        }
        let cancellation = Arc::new(Cancellation { context, told: AtomicBool::new(false), quiet });
        let watched = cancellation.clone();
        let watcher = tokio::spawn(async move {
            watched.context.stopped().await;
            watched.tell();
        });
        Self { cancellation, outcome: None, items: 0, watcher }
    }

    /// The request's context.
    pub fn context(&self) -> &Arc<dyn AsyncEngineContext> {
        &self.cancellation.context
    }

    /// The items sent so far.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Counts an item.
    pub fn sent(&mut self) {
        self.items += 1;
    }

    /// Says how the engine itself ended the request.
    pub fn ended_with(&mut self, outcome: &'static str) {
        self.outcome = Some(outcome);
    }

    /// Whether the engine has ended the request.
    pub fn has_ended(&self) -> bool {
        self.outcome.is_some()
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.watcher.abort();
        let outcome = match self.outcome {
            Some(known) => known,
            None if self.context().is_stopped() => {
                self.cancellation.tell();
                self.cancellation.kind()
            }
            None => "dropped",
        };
        if !self.cancellation.quiet {
            let request = self.context().id();
            line::print(&json!({
                "event": "end", "request": request, "outcome": outcome, "items": self.items,
            }));
        }
    }
}

impl Cancellation {
    fn tell(&self) {
        if !self.quiet && !self.told.swap(true, Ordering::Relaxed) {
            line::print(&json!({ "event": self.kind(), "request": self.context.id() }));
        }
    }

    fn kind(&self) -> &'static str {
        if self.context.is_killed() { "killed" } else { "stopped" }
    }
}
