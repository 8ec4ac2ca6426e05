//! What may happen when a worker dies while it answers: the declaration of an endpoint, a request
//! that goes on, and the note of a migration.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Checkpoint, Code, Error, Headers, InstanceId};

/// Declares what a router may do with the request of a stream whose worker has died or hands the
/// stream over. Each instance of an endpoint declares it, and discovery tells the routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Continuation {
    /// Nothing: the stream ends as truncated.
    #[default]
    None,
    /// The handler yields the same items for the same request each time. The router sends the
    /// request to another instance and drops the items that the caller has, which it compares.
    Replayable,
    /// The handler attaches [checkpoints](crate::Context::checkpoint) to items, and goes on from the
    /// last one that the router has, or from the beginning without one.
    Checkpoint,
}

impl Continuation {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::None, Self::Replayable, Self::Checkpoint];

    /// The word in discovery and on the command line: `none`, `replayable` or `checkpoint`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Replayable => "replayable",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// Reads the word. Anything else, such as a word of a later version, reads as `None`, because a
    /// router may not do more than it understands.
    pub fn from_name(word: &str) -> Self {
        Self::ALL.into_iter().find(|one| one.as_str() == word).unwrap_or_default()
    }
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the handler of a continued request begins: in its context
/// ([`Context::continued`](crate::Context::continued)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Continued {
    /// The number of the first item that the handler yields: how many items the checkpoint covers.
    pub items: u64,
    /// The checkpoint that an earlier handler attached to item `items - 1`; `None` if it is empty.
    pub checkpoint: Option<Bytes>,
}

impl Continued {
    /// A request that goes on behind the items that a checkpoint covers.
    pub fn behind(checkpoint: &Checkpoint) -> Self {
        let state = (!checkpoint.state.is_empty()).then(|| checkpoint.state.clone());
        Self { items: checkpoint.items, checkpoint: state }
    }

    /// The value of the header `continue-at`: `items`, or `items;checkpoint=LENGTH`, where the
    /// checkpoint is the first LENGTH bytes of the body.
    pub fn header_value(&self) -> String {
        match &self.checkpoint {
            Some(checkpoint) => format!("{};checkpoint={}", self.items, checkpoint.len()),
            None => self.items.to_string(),
        }
    }

    /// The body of the request: the checkpoint, then the body of the original request. Copies both if
    /// there is a checkpoint.
    pub fn body(&self, original: &Bytes) -> Bytes {
        match &self.checkpoint {
            Some(checkpoint) => [&checkpoint[..], &original[..]].concat().into(),
            None => original.clone(),
        }
    }

    /// Reads the header's value, and takes the checkpoint off the front of the body.
    ///
    /// # Errors
    /// [`Code::InvalidPayload`]: the value has another form, or names more bytes than a checkpoint
    /// may have or the body has. The body is then unchanged.
    pub fn read(value: &str, body: &mut Bytes) -> Result<Self, Error> {
        let (items, checkpoint) = match value.split_once(';') {
            None => (value, None),
            Some((items, rest)) => {
                let length = rest.strip_prefix("checkpoint=").ok_or_else(malformed)?;
                (items, Some(number(length)?))
            }
        };
        let items = number(items)?;
        let Some(length) = checkpoint else { return Ok(Self { items, checkpoint: None }) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 || length > Checkpoint::MAX_BYTES || length > body.len() {
            let message = format!(
                "the request names a checkpoint of {length} bytes, and its body has {}; a checkpoint \
                 has 1 to {}",
                body.len(),
                Checkpoint::MAX_BYTES,
            );
            return Err(Error::new(Code::InvalidPayload, message));
        }
        Ok(Self { items, checkpoint: Some(body.split_to(length)) })
    }
}

/// Reads a decimal number that is written in one way only: digits, no sign, no leading zero.
fn number(text: &str) -> Result<u64, Error> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    let number = if is_plain { text.parse().ok() } else { None };
    number.ok_or_else(malformed)
}

fn malformed() -> Error {
    let message = "the header `continue-at` has another form than `N` or `N;checkpoint=LENGTH`";
    Error::new(Code::InvalidPayload, message)
}

/// The checkpoints of a request whose endpoint declares [`Continuation::Checkpoint`]. The ingress
/// makes it; the contexts of the request and its children share it.
#[derive(Debug, Default)]
pub struct Checkpoints {
    /// Where the handler begins, of a continued request.
    continued: Option<Continued>,
    state: Mutex<CheckpointState>,
    /// Notified once a checkpoint is wanted.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct CheckpointState {
    /// Of the next item, if the handler has set one.
    next: Option<Bytes>,
    is_wanted: bool,
}

impl Checkpoints {
    /// Of a new request, or of a continued one.
    pub fn new(continued: Option<Continued>) -> Arc<Self> {
        Arc::new(Self { continued, ..Self::default() })
    }

    /// Where the handler begins; `None` for a new request.
    pub fn continued(&self) -> Option<&Continued> {
        self.continued.as_ref()
    }

    /// Takes the checkpoint of the next item, if the handler has set one since the last call. A
    /// checkpoint that was wanted is no longer wanted then.
    pub fn take(&self) -> Option<Bytes> {
        let mut state = self.state.lock();
        let next = state.next.take();
        if next.is_some() {
            state.is_wanted = false;
        }
        next
    }

    /// Asks the handler for a checkpoint. The wish ends with the next checkpoint.
    pub fn want(&self) {
        self.state.lock().is_wanted = true;
        self.wanted.notify_waiters();
    }

    pub(crate) fn set(&self, checkpoint: Bytes) {
        self.state.lock().next = Some(checkpoint);
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.state.lock().is_wanted
    }

    pub(crate) async fn wanted(&self) {
        loop {
            let wanted = self.wanted.notified();
            if self.is_wanted() {
                return;
            }
            wanted.await;
        }
    }
}

/// Why a stream moved to another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MigrationCause {
    /// The worker, or the way to it, was lost.
    Lost,
    /// The worker drains and has handed the stream over.
    HandedOver,
    /// The worker was shut down before the stream had ended.
    ShutDown,
}

impl MigrationCause {
    /// The word for logs and metrics: `lost`, `handed_over` or `shut_down`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::HandedOver => "handed_over",
            Self::ShutDown => "shut_down",
        }
    }
}

impl fmt::Display for MigrationCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stream went on at another instance, between two items of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The instance that served it before.
    pub from: InstanceId,
    /// The instance that serves it now. An instance that has registered again may have the same id.
    pub to: InstanceId,
    /// The number of the next item that the caller gets.
    pub at_item: u64,
    /// How many items the new instance makes again. The caller has them, and the router drops them.
    pub repeated: u64,
    /// Why.
    pub why: MigrationCause,
    /// The facts of the run that ended: what it has used, for example. [`Body::facts`] are those of
    /// the last run alone. Empty if the worker was lost with them, or its handler had set none.
    ///
    /// [`Body::facts`]: crate::Body::facts
    pub facts: Headers,
}

impl Migrated {
    /// Makes the note of a migration.
    pub fn new(
        from: InstanceId,
        to: InstanceId,
        at_item: u64,
        repeated: u64,
        why: MigrationCause,
    ) -> Self {
        Self { from, to, at_item, repeated, why, facts: Headers::new() }
    }

    /// Adds the facts of the run that ended.
    #[must_use]
    pub fn with_facts(self, facts: Headers) -> Self {
        Self { facts, ..self }
    }

    /// The sum of a fact that is a whole number (tokens, for example) over the runs that ended with
    /// these migrations: what a response has cost besides its last run. A run without the fact, or
    /// with another value, counts as 0; the sum stops at `u64::MAX`.
    pub fn sum_of(all: &[Self], fact: &str) -> u64 {
        let values = all.iter().filter_map(|one| one.facts.get(fact)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    }
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, at_item, repeated, why, .. } = self;
        write!(f, "from {from} to {to} before item {at_item}, {repeated} repeated: {why}")
    }
}

/// The migrations of one response. The router adds to it, and the response shows it. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Migrations(Arc<Mutex<Vec<Migrated>>>);

impl Migrations {
    /// No migration yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a migration. The router bounds their number.
    pub fn add(&self, migrated: Migrated) {
        self.0.lock().push(migrated);
    }

    /// All migrations, in their order.
    pub fn all(&self) -> Vec<Migrated> {
        self.0.lock().clone()
    }

    pub(crate) fn get(&self, index: usize) -> Option<Migrated> {
        self.0.lock().get(index).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_unknown_ones_allow_nothing() {
        for one in Continuation::ALL {
            assert_eq!(Continuation::from_name(one.as_str()), one);
        }
        for word in ["", "Replayable", "teleport"] {
            assert_eq!(Continuation::from_name(word), Continuation::None, "{word}");
        }
    }

    #[test]
    fn a_continued_request_comes_back_from_its_header_and_body() {
        let original = Bytes::from_static(b"request");
        for (items, state) in [(3, ""), (7, "state"), (u64::MAX, "s")] {
            let sent = Continued::behind(&Checkpoint { items, state: state.into() });
            assert_eq!(sent.checkpoint.as_deref().unwrap_or_default(), state.as_bytes());
            let mut body = sent.body(&original);
            let read = Continued::read(&sent.header_value(), &mut body).unwrap();
            assert_eq!((read, &body), (sent, &original));
        }
    }

    #[test]
    fn other_headers_are_refused_and_leave_the_body() {
        for value in [
            "",
            "-1",
            "+1",
            "01",
            " 1",
            "1 ",
            "1;",
            "1;checkpoint",
            "1;checkpoint=",
            "1;checkpoint=0",
            "1;checkpoint=05",
            "1;checkpoint=8",
            "1;checkpoint=65537",
            "1;checkpoint=3;x=1",
            "1; checkpoint=3",
            "18446744073709551616",
            "1;checkpoint=99999999999999999999",
        ] {
            let mut body = Bytes::from_static(b"request");
            let error = Continued::read(value, &mut body).unwrap_err();
            assert_eq!(error.code(), Code::InvalidPayload, "{value}");
            assert_eq!(body, "request", "{value}");
        }
        let mut large = Bytes::from(vec![0; Checkpoint::MAX_BYTES + 1]);
        assert!(Continued::read("1;checkpoint=65537", &mut large.clone()).is_err());
        let read = Continued::read("1;checkpoint=65536", &mut large).unwrap();
        assert_eq!((read.checkpoint.unwrap().len(), large.len()), (Checkpoint::MAX_BYTES, 1));
    }

    #[tokio::test]
    async fn a_wish_ends_with_the_next_checkpoint() {
        let checkpoints = Checkpoints::new(None);
        assert!(!checkpoints.is_wanted());
        let waiting = checkpoints.wanted();
        let wish = async { checkpoints.want() };
        tokio::join!(waiting, wish);
        assert!(checkpoints.is_wanted());
        assert_eq!(checkpoints.take(), None);
        assert!(checkpoints.is_wanted());
        checkpoints.set(Bytes::from_static(b"a"));
        checkpoints.set(Bytes::from_static(b"b"));
        assert_eq!(checkpoints.take().unwrap(), "b", "the newest counts");
        assert!(!checkpoints.is_wanted());
        assert_eq!(checkpoints.take(), None);
    }
}
