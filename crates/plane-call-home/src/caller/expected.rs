//! The streams that are expected or open, and the instances that were removed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_dynamo_wire::{StreamType, Subject};
use sinew_plane::{Code, EndpointName, Error, Executed, InstanceId, StreamId, clock};
use tokio::sync::Notify;

use super::{request_items::Output, response::Response};

/// Parts of the table, each with a lock of its own; as many as a subject's bits can name.
const SHARDS: usize = 16;

/// The streams of a server by their subjects. Entries go with their streams, so the table holds
/// nothing alive but request streams that nobody has come for.
#[derive(Default)]
pub(crate) struct ExpectedStreams {
    shards: [Mutex<Shard>; SHARDS],
    streams: AtomicUsize,
    emptied: Notify,
}

#[derive(Default)]
struct Shard {
    by_subject: FxHashMap<Subject, Entry>,
    /// The latest stream of a request each way. Before there is another it must have begun.
    by_request: FxHashMap<(StreamId, StreamType), Subject>,
}

/// A stream of the table.
#[derive(Clone)]
pub(crate) enum Entry {
    Response(Weak<Response>),
    Request(Arc<Output>),
}

impl Entry {
    fn stream_type(&self) -> StreamType {
        match self {
            Self::Response(_) => StreamType::Response,
            Self::Request(_) => StreamType::Request,
        }
    }

    /// True while the worker has not come for it, or has not begun.
    fn is_pending(&self) -> bool {
        match self {
            Self::Response(source) => source.upgrade().is_some_and(|source| source.is_pending()),
            Self::Request(output) => !output.is_claimed(),
        }
    }
}

impl ExpectedStreams {
    /// A new subject for a stream of this request.
    pub(crate) fn subject(request: StreamId) -> Subject {
        Subject::random((request.0 & 0xF) as usize)
    }

    /// Adds a stream.
    ///
    /// # Errors
    /// The request has a stream of this kind that has not begun, or there are `limit` streams.
    pub(crate) fn insert(
        &self,
        subject: Subject,
        request: StreamId,
        entry: Entry,
        limit: usize,
    ) -> Result<(), Error> {
        let key = (request, entry.stream_type());
        let mut begun = None;
        let mut shard = loop {
            let shard = self.shards[subject.shard()].lock();
            let before = shard.by_request.get(&key).copied();
            if before == begun || before.is_none() {
                break shard;
            }
            let entry = before.and_then(|before| shard.by_subject.get(&before)).cloned();
            // Asked without the lock: a stream whose last holder lets go here wants it too.
            drop(shard);
            if entry.is_some_and(|entry| entry.is_pending()) {
                let message = format!("a stream of the request {request} is expected already");
                return Err(Error::new(Code::Violation, message).with_executed(Executed::No));
            }
            begun = before;
        };
        if self.streams.fetch_add(1, Ordering::AcqRel) >= limit {
            self.streams.fetch_sub(1, Ordering::AcqRel);
            let message = "too many response streams at once (max_streams)";
            return Err(Error::new(Code::Exhausted, message));
        }
        shard.by_request.insert(key, subject);
        shard.by_subject.insert(subject, entry);
        Ok(())
    }

    /// The stream with this subject.
    pub(crate) fn get(&self, subject: Subject) -> Option<Entry> {
        self.shards[subject.shard()].lock().by_subject.get(&subject).cloned()
    }

    /// Forgets a stream, once.
    pub(crate) fn remove(&self, subject: Subject, request: StreamId) {
        let removed = {
            let mut shard = self.shards[subject.shard()].lock();
            let removed = shard.by_subject.remove(&subject);
            if let Some(entry) = &removed {
                let key = (request, entry.stream_type());
                // The request may have a later stream by now.
                if shard.by_request.get(&key) == Some(&subject) {
                    shard.by_request.remove(&key);
                }
            }
            removed
        };
        if removed.is_some() && self.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }

    /// Every stream, for what concerns many and happens rarely.
    pub(crate) fn all(&self) -> Vec<Entry> {
        let entries = |shard: &Mutex<Shard>| -> Vec<Entry> {
            shard.lock().by_subject.values().cloned().collect()
        };
        self.shards.iter().flat_map(entries).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.load(Ordering::Acquire)
    }

    /// Waits until there is no stream.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// Instances that were removed a short while ago: a request that was on its way to one of them
/// when the removal was seen must not wait for it.
#[derive(Default)]
pub(crate) struct RemovedInstances {
    stones: Mutex<HashMap<(EndpointName, InstanceId), Instant>>,
    /// Read without the lock: mostly there are none.
    count: AtomicUsize,
}

impl RemovedInstances {
    /// The instance is gone.
    pub(crate) fn set(&self, endpoint: &EndpointName, instance: InstanceId, ttl: Duration) {
        let now = clock::now();
        let Some(until) = now.checked_add(ttl) else { return };
        let mut stones = self.stones.lock();
        stones.retain(|_, until| *until > now);
        stones.insert((endpoint.clone(), instance), until);
        self.count.store(stones.len(), Ordering::Release);
    }

    /// The instance is back.
    pub(crate) fn clear(&self, endpoint: &EndpointName, instance: InstanceId) {
        let mut stones = self.stones.lock();
        stones.remove(&(endpoint.clone(), instance));
        self.count.store(stones.len(), Ordering::Release);
    }

    /// True while the instance counts as gone.
    pub(crate) fn has(&self, endpoint: &EndpointName, instance: InstanceId) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let now = clock::now();
        let mut stones = self.stones.lock();
        let key = (endpoint.clone(), instance);
        let gone = stones.get(&key).is_some_and(|until| *until > now);
        if !gone {
            stones.remove(&key);
            self.count.store(stones.len(), Ordering::Release);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EndpointName {
        text.parse().unwrap()
    }

    #[test]
    fn a_tombstone_is_for_one_endpoint_and_one_instance() {
        let stones = RemovedInstances::default();
        let ttl = Duration::from_secs(60);
        stones.set(&name("a/b/c"), InstanceId(1), ttl);
        assert!(stones.has(&name("a/b/c"), InstanceId(1)));
        assert!(!stones.has(&name("a/b/c"), InstanceId(2)), "a sibling");
        assert!(!stones.has(&name("a/b/d"), InstanceId(1)), "another endpoint");
        assert!(!stones.has(&name("a/x/c"), InstanceId(1)), "another component");

        stones.set(&name("a/b/c"), InstanceId(2), ttl);
        stones.clear(&name("a/b/c"), InstanceId(1));
        assert!(!stones.has(&name("a/b/c"), InstanceId(1)));
        assert!(stones.has(&name("a/b/c"), InstanceId(2)), "only the one that came back");
    }

    #[test]
    fn tombstones_expire_and_are_swept_when_another_is_set() {
        let stones = RemovedInstances::default();
        for instance in 0..100 {
            stones.set(&name("a/b/c"), InstanceId(instance), Duration::ZERO);
        }
        assert!(!stones.has(&name("a/b/c"), InstanceId(99)));
        stones.set(&name("a/b/c"), InstanceId(7), Duration::from_secs(60));
        assert_eq!(stones.stones.lock().len(), 1);
    }
}
