//! What a request asks of the worker: the vocabulary that the workers of both projects share in these tests.

use std::time::Duration;

use serde::Deserialize;

/// A request's body. Every field has a default, so `{}` is a stream of no items.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    /// What the items look like.
    pub kind: Kind,
    /// How many items to send.
    pub items: u64,
    /// Send items until stopped; `items` is then ignored.
    pub forever: bool,
    /// Comes back in every item.
    pub text: String,
    /// Adds this many bytes of padding to every item.
    pub size: usize,
    /// The items themselves, for `kind: "values"`.
    pub values: Vec<serde_json::Value>,
    /// `before` (no stream at all) or `after:K` (K items, then an error item).
    pub fail: Option<String>,
    /// The class of that failure, as Dynamo spells it; without it the failure is an unclassified one.
    pub fail_class: Option<String>,
    /// Milliseconds of silence before the stream exists.
    pub open_delay_ms: u64,
    /// Milliseconds of silence before each item.
    pub delay_ms: u64,
    /// After this many items, silence until stopped.
    pub stall_after: Option<u64>,
    /// Pay no attention to stop and kill: only the loss of the reader ends the stream.
    pub ignore_stop: bool,
}

/// What the items of a stream look like.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `{"i", "text", "worker", "pid", "pad"?}`.
    #[default]
    Echo,
    /// `text` alone, a bare string.
    Text,
    /// The values the request brings.
    Values,
}

/// When an application error comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailAt {
    /// The engine refuses the request.
    Before,
    /// An error item follows this many items.
    After(u64),
}

impl Job {
    /// The item number at which the stream ends by itself, if it does.
    pub fn count(&self) -> Option<u64> {
        match (self.forever, self.kind) {
            (true, _) => None,
            (false, Kind::Values) => Some(self.values.len() as u64),
            (false, _) => Some(self.items),
        }
    }

    /// When the application error comes; `None` for a job without one.
    pub fn fail_at(&self) -> anyhow::Result<Option<FailAt>> {
        match self.fail.as_deref() {
            None => Ok(None),
            Some("before") => Ok(Some(FailAt::Before)),
            Some(text) => match text.strip_prefix("after:").map(str::parse) {
                Some(Ok(items)) => Ok(Some(FailAt::After(items))),
                _ => anyhow::bail!("not a point to fail at: {text}"),
            },
        }
    }

    /// The silence before each item.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }
}
