//! The streams that this side serves to one process.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use sinew_plane::{Budget, Error, StreamId, budget::Hold};

use super::ids::StreamIds;
use crate::{
    Attach, Connection, Driver,
    stream::ProducerStream,
    sync::{Mutex, MutexGuard},
};

/// The streams of one caller, over all its connections.
///
/// Its lock is taken after that of a connection's streams, and that of a stream's state after it.
pub(crate) struct Session<D: Driver> {
    streams: Mutex<Streams<D>>,
    /// Held from the look for a stream until it is where it was attached: one that looks for it
    /// meanwhile, over yet another connection, finds it there. Taken before all other locks.
    attaching: Mutex<()>,
    /// Streams that wait, of all sessions of the server.
    waiting: Arc<AtomicUsize>,
}

struct Streams<D: Driver> {
    ids: StreamIds,
    /// How many connections of the caller are up.
    count: usize,
    /// Those among them whose streams can be attached elsewhere.
    connections: Vec<Weak<Connection<D>>>,
    detached: FxHashMap<StreamId, DetachedStream<D>>,
    /// Streams were let go of whose consumers may not have their ends.
    has_dropped: bool,
}

/// The loss of a connection whose streams are to be kept.
pub(crate) struct Loss<'a> {
    pub(crate) now: Instant,
    /// How long those wait that have no grace of their own.
    pub(crate) grace: Duration,
    /// Most streams that are kept for one caller.
    pub(crate) most: usize,
    pub(crate) error: &'a Error,
}

/// A stream that waits for its consumer.
pub(super) struct DetachedStream<D: Driver> {
    pub(super) stream: Arc<ProducerStream<D>>,
    until: Instant,
    /// Why its connection was lost.
    pub(super) error: Error,
    /// What its request costs meanwhile.
    _hold: Option<Hold>,
}

impl<D: Driver> Session<D> {
    /// Without a stream. `has_dropped`: others of the same process may have let go of some.
    pub(super) fn new(
        budget: Option<&Arc<Budget>>,
        has_dropped: bool,
        waiting: Arc<AtomicUsize>,
    ) -> Arc<Self> {
        let streams = Mutex::new(Streams {
            ids: StreamIds::charged_to(budget),
            count: 0,
            connections: Vec::new(),
            detached: FxHashMap::default(),
            has_dropped,
        });
        Arc::new(Self { streams, attaching: Mutex::default(), waiting })
    }

    /// A stream wants to begin under a number. False when one of its id runs or has ended lately.
    pub(crate) fn begin(&self, id: StreamId, number: u32) -> bool {
        self.streams.lock().ids.begin(id, number)
    }

    /// The stream is on another connection, under another number.
    pub(crate) fn renumber(&self, id: StreamId, number: u32) {
        self.streams.lock().ids.renumber(id, number);
    }

    /// A stream that had begun was refused after all: nothing ran under its id.
    pub(crate) fn withdraw(&self, id: StreamId) {
        self.streams.lock().ids.withdraw(id);
    }

    /// A stream that had begun has ended.
    pub(crate) fn end(&self, id: StreamId) {
        self.streams.lock().ids.end(id);
    }

    /// A stream is let go of, and its consumer may not have its end.
    pub(crate) fn drop_stream(&self, id: StreamId) {
        let mut streams = self.streams.lock();
        streams.has_dropped = true;
        streams.ids.end(id);
    }

    /// An attach found no stream. True when none of this id has ever begun here; and none will, as an
    /// open that is still on its way over another connection finds its id taken.
    pub(crate) fn never_begins(&self, id: StreamId, now: Instant) -> bool {
        let mut streams = self.streams.lock();
        !streams.has_dropped && streams.ids.refuse(id, now)
    }

    /// One attach after the other.
    pub(crate) fn attaching(&self) -> MutexGuard<'_, ()> {
        self.attaching.lock()
    }

    /// Takes the stream that an attach is for away from where it is, if it may be attached.
    pub(crate) fn claim(&self, attach: &Attach) -> Option<Arc<ProducerStream<D>>> {
        let (number, connections) = {
            let mut streams = self.streams.lock();
            if streams.detached.contains_key(&attach.id) {
                return self.claimed(streams.claim_detached(attach));
            }
            (streams.ids.number(attach.id)?, streams.connections.clone())
        };
        // It is on a connection whose loss this side has not seen, or that is up.
        let mut connections = connections.iter().filter_map(Weak::upgrade);
        let found = connections.find_map(|it| it.release(attach, number));
        // Or that was lost while this side looked.
        found.or_else(|| self.claimed(self.streams.lock().claim_detached(attach)))
    }

    /// Lets another process have a stream that waits for its consumer.
    ///
    /// # Errors
    /// It does not wait here, or the secret is wrong; or, with the right one, which items are kept.
    pub(crate) fn give_away(
        &self,
        attach: &Attach,
    ) -> Result<Arc<ProducerStream<D>>, Option<(u64, u64)>> {
        let mut streams = self.streams.lock();
        let waiting = streams.detached.get(&attach.id).ok_or(None)?;
        waiting.stream.gives(attach)?;
        let waiting = streams.detached.remove(&attach.id).ok_or(None)?;
        // The earlier consumer may come back for it, also when its id is forgotten.
        streams.has_dropped = true;
        streams.ids.end(attach.id);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        waiting.stream.change_hands();
        Ok(waiting.stream)
    }

    fn claimed(&self, stream: Option<Arc<ProducerStream<D>>>) -> Option<Arc<ProducerStream<D>>> {
        self.waiting.fetch_sub(usize::from(stream.is_some()), Ordering::Relaxed);
        stream
    }

    /// Keeps streams, up to `most` of them. Returns the others, and until when those wait that are
    /// kept, in order.
    pub(super) fn keep(
        &self,
        streams: Vec<Arc<ProducerStream<D>>>,
        Loss { now, grace, most, error }: &Loss<'_>,
    ) -> (Vec<Arc<ProducerStream<D>>>, Vec<Instant>) {
        let detached = &mut self.streams.lock().detached;
        let (mut others, mut ends) = (Vec::new(), Vec::new());
        for stream in streams {
            let until = stream.waits_until(*now, *grace).filter(|_| detached.len() < *most);
            let Some((until, Ok(hold))) = until.map(|until| (until, stream.hold_request())) else {
                others.push(stream);
                continue;
            };
            // Mostly all of them have one grace.
            if let Err(place) = ends.binary_search(&until) {
                ends.insert(place, until);
            }
            let waiting = DetachedStream { until, error: Error::clone(error), _hold: hold, stream };
            detached.insert(waiting.stream.id(), waiting);
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        (others, ends)
    }

    /// Takes the streams out whose time is over; all of them without a time.
    pub(super) fn take_due(&self, now: Option<Instant>) -> Vec<DetachedStream<D>> {
        let Streams { ids, detached, has_dropped, .. } = &mut *self.streams.lock();
        let is_due = |waiting: &mut DetachedStream<D>| now.is_none_or(|now| waiting.until <= now);
        let due: Vec<_> =
            detached.extract_if(|_, waiting| is_due(waiting)).map(|(_, waiting)| waiting).collect();
        *has_dropped |= !due.is_empty();
        self.waiting.fetch_sub(due.len(), Ordering::Relaxed);
        due.iter().for_each(|waiting| ids.end(waiting.stream.id()));
        due
    }

    /// A connection is there, and can be resumed elsewhere if it is given.
    pub(super) fn arrive(&self, resuming: Option<&Weak<Connection<D>>>) {
        let mut streams = self.streams.lock();
        streams.count += 1;
        streams.connections.extend(resuming.cloned());
    }

    /// A connection is gone. True when it was the last.
    pub(super) fn leave(&self, connection: &Weak<Connection<D>>) -> bool {
        let mut streams = self.streams.lock();
        streams.count -= 1;
        if let Some(at) = streams.connections.iter().position(|it| it.ptr_eq(connection)) {
            streams.connections.swap_remove(at);
        }
        let is_last = streams.count == 0;
        if is_last {
            streams.ids.shrink();
        }
        is_last
    }

    pub(super) fn is_connected(&self) -> bool {
        self.streams.lock().count > 0
    }

    pub(super) fn keeps_streams(&self) -> bool {
        !self.streams.lock().detached.is_empty()
    }

    pub(super) fn kept_until(&self) -> Option<Instant> {
        self.streams.lock().detached.values().map(|waiting| waiting.until).max()
    }

    pub(super) fn has_dropped(&self) -> bool {
        self.streams.lock().has_dropped
    }

    #[cfg(test)]
    pub(super) fn is_known(&self, id: StreamId) -> bool {
        self.streams.lock().ids.number(id).is_some()
    }
}

impl<D: Driver> Streams<D> {
    fn claim_detached(&mut self, attach: &Attach) -> Option<Arc<ProducerStream<D>>> {
        self.detached.get(&attach.id).filter(|waiting| waiting.stream.takes(attach))?;
        self.detached.remove(&attach.id).map(|waiting| waiting.stream)
    }
}
