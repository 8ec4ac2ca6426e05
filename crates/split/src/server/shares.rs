//! How many of the places for waiting requests one caller may take.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use parking_lot::Mutex;
use sinew_plane::Origin;

/// Places and bytes, of which one caller may take half and the callers of one host together three
/// quarters. A single request is never too large for them.
///
/// A caller is the address that it asks to be dialled at. A caller could name many, so those that
/// share a host are bounded too: a host is the peer that the request came from or, where a broker
/// hides it, the host part of that address.
pub(super) struct Shares {
    of_caller: Use,
    of_host: Use,
    /// The addresses are not kept, only their hashes under keys of this process. An entry goes with
    /// its last request.
    hasher: RandomState,
    taken: Mutex<HashMap<u64, Use>>,
}

#[derive(Clone, Copy, Default)]
struct Use {
    places: usize,
    bytes: usize,
}

impl Use {
    fn has_room(self, most: Self, bytes: usize) -> bool {
        let fits = self.places < most.places && self.bytes.saturating_add(bytes) <= most.bytes;
        self.places == 0 || fits
    }
}

impl Shares {
    /// Shares of so many places and bytes.
    pub(super) fn new(places: usize, bytes: usize) -> Self {
        let three_quarters = |all: usize| all - all / 4;
        Self {
            of_caller: Use { places: places.div_ceil(2), bytes: bytes.div_ceil(2) },
            of_host: Use { places: three_quarters(places), bytes: three_quarters(bytes) },
            hasher: RandomState::new(),
            taken: Mutex::default(),
        }
    }

    /// A place for a request of that many bytes, whose caller is at `address` as far as that is
    /// known. `None` when the caller or its host has its share.
    pub(super) fn take(
        self: &Arc<Self>,
        origin: Origin,
        address: Option<&str>,
        bytes: usize,
    ) -> Option<Share> {
        let keys = [self.host(origin, address), self.caller(address)];
        let limits = [self.of_host, self.of_caller];
        let mut taken = self.taken.lock();
        for (key, most) in keys.iter().zip(limits) {
            let used = key.and_then(|key| taken.get(&key)).copied().unwrap_or_default();
            if !used.has_room(most, bytes) {
                return None;
            }
        }
        for key in keys.into_iter().flatten() {
            let used = taken.entry(key).or_default();
            used.places += 1;
            used.bytes += bytes;
        }
        drop(taken);
        Some(Share { shares: Arc::clone(self), keys, bytes })
    }

    fn caller(&self, address: Option<&str>) -> Option<u64> {
        Some(self.key("caller", address?))
    }

    fn host(&self, origin: Origin, address: Option<&str>) -> Option<u64> {
        match origin {
            Origin::Peer(ip) => Some(self.key("peer", ip.to_canonical())),
            Origin::SameHost | Origin::SameProcess => Some(self.key("same host", ())),
            Origin::Broker { .. } => {
                let address = address?;
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                Some(self.key("host", host))
            }
        }
    }

    fn key(&self, kind: &str, of: impl Hash) -> u64 {
        self.hasher.hash_one((kind, of))
    }
}

/// A place in the share of a caller and of its host. Dropping it gives the place back.
pub(super) struct Share {
    shares: Arc<Shares>,
    keys: [Option<u64>; 2],
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock();
        for key in self.keys.into_iter().flatten() {
            let Some(used) = taken.get_mut(&key) else { continue };
            used.places -= 1;
            used.bytes -= self.bytes;
            if used.places == 0 {
                taken.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Origin = Origin::Peer(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)));
    const BROKER: Origin = Origin::Broker { is_local: false };

    fn shares(places: usize, bytes: usize) -> Arc<Shares> {
        Arc::new(Shares::new(places, bytes))
    }

    #[test]
    fn a_caller_gets_half_and_its_host_three_quarters() {
        for (origin, elsewhere) in
            [(PEER, Origin::SameHost), (BROKER, BROKER), (Origin::SameHost, PEER)]
        {
            let all = shares(8, 800);
            let take = |address, bytes| all.take(origin, Some(address), bytes);
            let of_one: Vec<_> = (0..4).map(|_| take("10.0.0.7:1", 10).unwrap()).collect();
            assert!(take("10.0.0.7:1", 10).is_none(), "half of the places");
            let _others = [take("10.0.0.7:2", 10).unwrap(), take("10.0.0.7:3", 10).unwrap()];
            assert!(take("10.0.0.7:4", 10).is_none(), "three quarters of the places");
            assert!(all.take(elsewhere, Some("10.0.0.8:1"), 10).is_some());
            drop(of_one);
            assert!(take("10.0.0.7:1", 10).is_some());
        }
    }

    #[test]
    fn bytes_are_shared_as_places_are_and_one_request_always_fits() {
        let all = shares(8, 800);
        let take = |bytes| all.take(PEER, Some("10.0.0.7:1"), bytes);
        let large = take(700).unwrap();
        assert!(take(1).is_none());
        drop(large);
        let _half = take(400).unwrap();
        assert!(take(1).is_none());
        assert!(all.take(PEER, Some("10.0.0.7:2"), 200).is_some());
        assert!(all.take(PEER, Some("10.0.0.7:2"), 201).is_none());
    }

    #[test]
    fn what_is_given_back_leaves_nothing() {
        let all = shares(8, 800);
        let taken =
            [all.take(PEER, None, 1), all.take(BROKER, None, 1), all.take(PEER, Some(""), 1)];
        assert!(taken.iter().all(Option::is_some));
        assert_eq!(all.taken.lock().len(), 2);
        drop(taken);
        assert!(all.taken.lock().is_empty());
    }
}
