//! Limits how many connections a listener has at once, and chooses which one is closed for a new
//! one.
//!
//! The limit follows the number of files that the process may open, so that the listener leaves
//! file descriptors for discovery, programs and other connections. If the limit is reached, the
//! connection that has been idle for longest is closed for a new one. A connection with open
//! streams is never closed for another.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_plane::clock;
use tokio_util::sync::CancellationToken;

/// Descriptors that a process needs for other things than the connections of a listener: its
/// files, its own calls, its runtime. A quarter of what it may open, within these bounds.
const LEAST_RESERVE: usize = 32;
const LARGEST_RESERVE: usize = 1024;

/// The origin by which connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Connections from one address.
    Ip(IpAddr),
    /// Connections over Unix domain sockets, which only this user can make.
    Unix,
}

impl Peer {
    /// The peer at an address. An IPv4 address in IPv6 form is the same peer.
    pub fn at(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

/// How many connections a listener may have, given how many files the process may open.
///
/// The result is never over `configured`. `others` is the number of further file descriptors that
/// the process needs; they get at most half of what is left for both.
pub fn connection_limit(configured: usize, others: usize, descriptors: u64) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let reserve = (descriptors / 4).clamp(LEAST_RESERVE, LARGEST_RESERVE);
    let left = descriptors.saturating_sub(reserve);
    let left = left - others.min(left / 2);
    configured.min(left).max(1)
}

/// How many files the process may have open now.
pub fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// A connection that has a place at a listener.
pub trait Occupant: Send + Sync {
    /// True if it can be closed without a loss.
    fn is_idle(&self) -> bool;

    /// Closes it for another connection, unless a stream has been opened on it meanwhile.
    fn make_room(&self);
}

/// The places of the connections of one listener.
pub struct Admission {
    limit: usize,
    per_peer: usize,
    epoch: Instant,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    taken: FxHashMap<u64, Arc<Seat>>,
    by_peer: FxHashMap<Peer, usize>,
    /// Those that were asked to go and have not gone yet.
    leaving: usize,
}

/// A connection as its listener sees it.
struct Seat {
    peer: Peer,
    /// Microseconds since the listener began, when it was last of use.
    used: AtomicU64,
    /// Something runs on it that has no other sign of it.
    busy: AtomicBool,
    /// Set once a protocol has taken it over that knows whether it is idle.
    occupant: OnceLock<Weak<dyn Occupant>>,
    /// Asks it to go.
    leave: CancellationToken,
}

/// The place of one connection. Dropping it frees the place.
pub struct Place {
    admission: Arc<Admission>,
    id: u64,
    seat: Arc<Seat>,
}

/// Why a connection has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The peer has reached its limit, and none of its connections is idle.
    Peer,
    /// The listener has reached its limit, and none of its connections is idle.
    Listener,
}

impl Admission {
    /// Makes places for `limit` connections, at most `per_peer` of them for one peer; `None` means
    /// half.
    pub fn new(limit: usize, per_peer: Option<usize>) -> Self {
        Self {
            limit,
            // Half, so that one address alone cannot keep all others out.
            per_peer: per_peer.unwrap_or(limit.div_ceil(2)).clamp(1, limit.max(1)),
            epoch: clock::now(),
            places: Mutex::default(),
        }
    }

    /// Takes a place for a connection of `peer`. If none is free, closes the connection that has
    /// been idle for longest. `ending` is cancelled when all connections have to end.
    ///
    /// # Errors
    /// All places are taken by connections that are not idle, or that are being closed already.
    pub fn enter(self: &Arc<Self>, peer: Peer, ending: &CancellationToken) -> Result<Place, Full> {
        let victim = {
            let mut places = self.places.lock();
            let of_peer = places.by_peer.get(&peer).copied().unwrap_or_default();
            let full = if of_peer >= self.per_peer {
                Some(Full::Peer)
            } else if places.taken.len() >= self.limit {
                Some(Full::Listener)
            } else {
                None
            };
            match full {
                None => None,
                // Those who leave still have their descriptors: no more of them than are in reserve.
                Some(full) if places.leaving > self.limit / 3 => return Err(full),
                Some(full) => {
                    let among = (full == Full::Peer).then_some(peer);
                    Some(self.dismiss(&mut places, among).ok_or(full)?)
                }
            }
        };
        if let Some(victim) = victim {
            victim.go();
        }
        Ok(self.take(peer, ending))
    }

    /// Closes the connection that has been idle for longest, because no file descriptor is left.
    pub fn make_room(&self) {
        let victim = self.dismiss(&mut self.places.lock(), None);
        if let Some(victim) = victim {
            victim.go();
        }
    }

    fn take(self: &Arc<Self>, peer: Peer, ending: &CancellationToken) -> Place {
        let seat = Arc::new(Seat {
            peer,
            used: AtomicU64::new(self.now()),
            busy: AtomicBool::new(false),
            occupant: OnceLock::new(),
            leave: ending.child_token(),
        });
        let mut places = self.places.lock();
        let id = places.next;
        places.next += 1;
        places.taken.insert(id, Arc::clone(&seat));
        *places.by_peer.entry(peer).or_default() += 1;
        Place { admission: Arc::clone(self), id, seat }
    }

    /// Takes the one that is idle for longest out of the tables. Its descriptor follows.
    fn dismiss(&self, places: &mut Places, among: Option<Peer>) -> Option<Arc<Seat>> {
        let idle = places
            .taken
            .iter()
            .filter(|(_, seat)| among.is_none_or(|peer| seat.peer == peer) && seat.is_idle());
        let longest = idle.min_by_key(|(_, seat)| seat.used.load(Ordering::Relaxed));
        let id = *longest?.0;
        let seat = places.taken.remove(&id)?;
        places.leave(seat.peer);
        places.leaving += 1;
        Some(seat)
    }

    fn now(&self) -> u64 {
        u64::try_from(clock::since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    /// Connections that have a place, and those that are on their way out.
    #[cfg(test)]
    fn counts(&self) -> (usize, usize) {
        let places = self.places.lock();
        (places.taken.len(), places.leaving)
    }
}

impl Places {
    fn leave(&mut self, peer: Peer) {
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
        // A table that was large once is not kept when few are left.
        if self.taken.capacity() > 4 * self.taken.len() + 64 {
            self.taken.shrink_to(2 * self.taken.len());
            self.by_peer.shrink_to(2 * self.by_peer.len());
        }
    }
}

impl Seat {
    /// One that has not said what it speaks has asked for nothing, and one with frames is answered
    /// what has arrived.
    fn is_idle(&self) -> bool {
        let Some(occupant) = self.occupant.get() else {
            return !self.busy.load(Ordering::Relaxed);
        };
        occupant.upgrade().is_none_or(|it| it.is_idle())
    }

    fn go(&self) {
        tracing::debug!(peer = ?self.peer, "an idle connection makes room for another");
        match self.occupant.get().and_then(Weak::upgrade) {
            Some(occupant) => occupant.make_room(),
            None => self.leave.cancel(),
        }
    }
}

impl Place {
    /// The token that is cancelled when the connection, or all connections, have to end. To make
    /// room for another connection, the admission calls [`Occupant::make_room`] instead if the
    /// place has an [occupant](Self::is_taken_by).
    pub fn leave(&self) -> &CancellationToken {
        &self.seat.leave
    }

    /// Sets the occupant, which from now on says whether the connection is idle, and closes it.
    pub fn is_taken_by(&self, occupant: Weak<dyn Occupant>) {
        // Told once: each place has one connection.
        let _ = self.seat.occupant.set(occupant);
    }

    /// Marks the connection as not idle until its end.
    pub fn is_busy(&self) {
        self.seat.busy.store(true, Ordering::Relaxed);
    }

    /// Marks the connection as used now.
    pub fn touch(&self) {
        self.seat.used.store(self.admission.now(), Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.admission.places.lock();
        match places.taken.remove(&self.id) {
            Some(_) => places.leave(self.seat.peer),
            None => places.leaving -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> Peer {
        Peer::at(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn the_limit_follows_what_the_process_may_open() {
        for (configured, others, descriptors, limit) in [
            (10_000, 0, 256, 192),
            (10_000, 0, 1024, 768),
            (10_000, 0, 1 << 20, 10_000),
            (10_000, 0, u64::MAX, 10_000),
            (100, 0, 1024, 100),
            (10_000, 64, 256, 128),
            (10_000, 1_000, 256, 96),
            (10_000, 0, 16, 1),
        ] {
            let found = connection_limit(configured, others, descriptors);
            assert_eq!(found, limit, "{configured}, {others}, {descriptors}");
        }
        assert!(descriptors() > 0);
    }

    #[test]
    fn the_longest_idle_goes_and_one_address_has_no_more_than_its_part() {
        let admission = Arc::new(Admission::new(16, Some(4)));
        let ending = CancellationToken::new();
        let enter = |number| admission.enter(peer(number), &ending);
        let places: Vec<_> = (0..4).map(|_| enter(1).unwrap()).collect();
        for (at, place) in places.iter().enumerate() {
            place.seat.used.store([7, 3, 9, 5][at], Ordering::Relaxed);
        }
        let fifth = enter(1).unwrap();
        assert!(places[1].leave().is_cancelled(), "idle since 3");
        assert_eq!(admission.counts(), (4, 1));
        let _others: Vec<_> = (0..12).map(|number| enter(100 + number).unwrap()).collect();
        assert_eq!(admission.counts(), (16, 1));
        let _one_more = enter(200).unwrap();
        assert!(places[3].leave().is_cancelled(), "idle since 5, of all");
        drop(places);
        drop(fifth);
        assert_eq!(admission.counts(), (13, 0));
    }

    #[test]
    fn a_flood_does_not_outrun_those_who_leave() {
        let admission = Arc::new(Admission::new(16, Some(16)));
        let ending = CancellationToken::new();
        let mut places = Vec::new();
        let mut refused = 0;
        for _ in 0..100 {
            match admission.enter(Peer::Unix, &ending) {
                Ok(place) => places.push(place),
                Err(full) => {
                    assert_eq!(full, Full::Peer);
                    refused += 1;
                }
            }
        }
        assert_eq!((places.len(), refused), (16 + 6, 78));
        places.retain(|place| !place.leave().is_cancelled());
        assert!(admission.enter(Peer::Unix, &ending).is_ok());
        ending.cancel();
        assert!(places.iter().all(|place| place.leave().is_cancelled()));
    }
}
