//! The streams of a router that run and can be moved.

use std::sync::Arc;

use parking_lot::Mutex;
use sinew_plane::{InstanceId, RunningStream, TransportId};

use super::{
    ends::Counted,
    health::{AllEnds, Interval},
    moves::TransportMoves,
    observe::{Look, Past},
};
use crate::Client;

/// How many places are looked at under one lock. Requests that begin meanwhile wait for it.
const AT_ONCE: usize = 256;

/// The running streams, each in a place that the next one uses again.
#[derive(Default)]
pub(crate) struct Running(Mutex<Places>);

#[derive(Default)]
struct Places {
    places: Vec<Place>,
    free: Vec<u32>,
    ends: Counted,
    /// The transport of the policy that is followed.
    target: Option<TransportId>,
    /// That of the last one.
    last_target: Option<TransportId>,
    /// Which policy it is, counted from 1.
    epoch: u32,
}

#[derive(Default)]
struct Place {
    /// How many streams had this place.
    generation: u32,
    stream: Option<Entry>,
}

/// A running stream.
pub(super) struct Entry {
    pub(super) stream: RunningStream,
    /// Knows the routes that the stream may take.
    pub(super) client: Client,
    pub(super) instance: InstanceId,
    pub(super) transport: TransportId,
    /// How it came to the transport of the policy.
    pub(super) came: Came,
    pub(super) moves: TransportMoves,
    pub(super) past: Past,
    /// The policy that was followed when it began; 0 for none.
    pub(super) epoch: u32,
    /// How often a move of it was refused.
    pub(super) refused: u8,
    /// True if the last move of it has failed. That counts once its worker has shown that it lives.
    pub(super) has_failed: bool,
}

/// How a stream came to the transport that it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Came {
    /// In the default order.
    ByDefault,
    /// It began there, because the policy says so.
    Pinned,
    /// It was moved there from another transport.
    From(TransportId),
}

/// Which stream it is, also when another one has its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    place: u32,
    generation: u32,
}

/// What is known of a stream that begins.
pub(crate) struct Begun {
    pub(crate) stream: RunningStream,
    pub(crate) client: Client,
    pub(crate) instance: InstanceId,
    pub(crate) transport: TransportId,
    /// True if the policy chose the transport.
    pub(crate) is_pinned: bool,
    pub(crate) moves: TransportMoves,
}

/// Keeps a stream in the list until it is dropped.
pub(crate) struct Kept {
    running: Arc<Running>,
    key: Key,
    /// How it ended: true if with an error of the transport. `None` if its reader has left it.
    end: Option<bool>,
}

impl Kept {
    /// The stream has ended; `is_lost` if with an error of the transport.
    pub(crate) fn ended(mut self, is_lost: bool) {
        self.end = Some(is_lost);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let gone = {
            let Places { places, free, target, ends, .. } = &mut *self.running.0.lock();
            let Some(place) = places.get_mut(self.key.place as usize) else { return };
            place.generation = place.generation.wrapping_add(1);
            let gone = place.stream.take();
            if let Some((entry, is_lost)) = gone.as_ref().zip(self.end) {
                ends.ended(entry.instance, target.as_ref() == Some(&entry.transport), is_lost);
            }
            free.push(self.key.place);
            gone
        };
        // Behind the lock, because it may be the last that holds its client.
        drop(gone);
    }
}

impl Running {
    /// Adds a stream until the result is dropped.
    pub(crate) fn add(self: &Arc<Self>, begun: Begun) -> Kept {
        let Begun { stream, client, instance, transport, is_pinned, moves } = begun;
        let Places { places, free, ends, epoch, target, .. } = &mut *self.0.lock();
        if !ends.is_settled() {
            ends.lives(instance);
        }
        let is_followed = target.is_some();
        let is_there = target.as_ref() == Some(&transport);
        if is_pinned && is_followed {
            ends.all.attempts.count(!is_there);
        }
        let came = if is_pinned && is_there { Came::Pinned } else { Came::ByDefault };
        let epoch = if is_followed { *epoch } else { 0 };
        let past = Past::default();
        let (refused, has_failed) = (0, false);
        let entry = Entry {
            stream,
            client,
            instance,
            transport,
            came,
            moves,
            past,
            epoch,
            refused,
            has_failed,
        };
        let place = free.pop().unwrap_or_else(|| {
            places.push(Place::default());
            // One that runs for each of 2^32 places does not fit into memory.
            u32::try_from(places.len() - 1).unwrap_or(u32::MAX)
        });
        let at = &mut places[place as usize];
        at.stream = Some(entry);
        let key = Key { place, generation: at.generation };
        Kept { running: Arc::clone(self), key, end: None }
    }

    /// A policy for that transport is followed from now on.
    pub(super) fn begin(&self, target: &TransportId) {
        let is_same = {
            let places = &mut *self.0.lock();
            places.epoch = places.epoch.wrapping_add(1).max(1);
            places.ends.begin();
            let is_same = places.last_target.as_ref() == Some(target);
            places.target = Some(target.clone());
            places.last_target = Some(target.clone());
            is_same
        };
        self.each(|_, entry, _| {
            (entry.refused, entry.has_failed) = (0, false);
            if !is_same {
                entry.past = Past::default();
                entry.came = Came::ByDefault;
            }
        });
    }

    /// The policy is followed no more; the streams stay where they are.
    pub(super) fn finish(&self) {
        let places = &mut *self.0.lock();
        places.target = None;
        places.ends.finish();
    }

    /// Looks at all streams: what they did in the last interval, which took `seconds`.
    pub(super) fn look(&self, target: &TransportId, seconds: f64) -> (Interval, AllEnds) {
        let epoch = self.0.lock().epoch;
        let mut look = Look { target, seconds, epoch, interval: Interval::default() };
        self.each(|_, entry, ends| {
            if !look.at(entry) {
                return;
            }
            // Items have come, so its worker lives.
            if std::mem::take(&mut entry.has_failed) {
                ends.all.attempts.count(true);
            }
            if ends.awaits(entry.instance) {
                ends.lives(entry.instance);
            }
        });
        let ends = &mut self.0.lock().ends;
        ends.age();
        (look.interval, ends.all)
    }

    /// Calls `see` with each stream. A stream that begins or ends meanwhile may be left out.
    pub(super) fn each(&self, mut see: impl FnMut(Key, &mut Entry, &mut Counted)) {
        let mut from = 0;
        loop {
            let Places { places, ends, .. } = &mut *self.0.lock();
            let to = places.len().min(from + AT_ONCE);
            for (place, at) in (from..).zip(&mut places[from.min(to)..to]) {
                let Place { generation, stream: Some(entry) } = at else { continue };
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                see(Key { place, generation: *generation }, entry, ends);
            }
            if to == places.len() {
                return;
            }
            from = to;
        }
    }

    /// Calls `change` with a stream if it still runs. `None` if it has ended.
    pub(super) fn with<T>(
        &self,
        key: Key,
        change: impl FnOnce(&mut Entry, &mut Counted) -> T,
    ) -> Option<T> {
        let Places { places, ends, .. } = &mut *self.0.lock();
        let place = places.get_mut(key.place as usize)?;
        let entry = place.stream.as_mut().filter(|_| place.generation == key.generation)?;
        Some(change(entry, ends))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let places = self.0.lock();
        places.places.len() - places.free.len()
    }
}

#[cfg(test)]
mod tests;
