//! The ways to the instances that are called, by each of their addresses.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use sinew_plane::{Address, Way, Ways};

use crate::Route;

/// Entries beyond those in use that are kept before the table is swept.
const SPARE: usize = 64;

/// The ways to each instance whose routes are kept somewhere. Its transports look here when they
/// have lost a connection.
#[derive(Default)]
pub(crate) struct KnownWays(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_address: HashMap<Address, Weak<[Way]>>,
    /// Entries after the last sweep.
    swept: usize,
}

impl KnownWays {
    /// Enters the routes to one instance. They keep the entry.
    pub(crate) fn learn(&self, routes: &mut [Route]) {
        // With one address there is nothing to go on over.
        let [first, _, ..] = &*routes else { return };
        let mut table = self.0.lock();
        let known = table.by_address.get(&first.address).and_then(Weak::upgrade);
        let ways = known.filter(|ways| are_same(ways, routes)).unwrap_or_else(|| {
            let way = |route: &Route| Way {
                transport: Arc::clone(&route.transport),
                address: route.address.clone(),
            };
            routes.iter().map(way).collect()
        });
        for route in routes {
            table.by_address.insert(route.address.clone(), Arc::downgrade(&ways));
            route.ways = Some(Arc::clone(&ways));
        }
        if table.by_address.len() > 2 * table.swept + SPARE {
            table.by_address.retain(|_, ways| ways.strong_count() > 0);
            table.swept = table.by_address.len();
        }
    }
}

#[cfg(test)]
impl KnownWays {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().by_address.len()
    }
}

impl Ways for KnownWays {
    fn ways(&self, address: &Address) -> Arc<[Way]> {
        let known = self.0.lock().by_address.get(address).and_then(Weak::upgrade);
        known.unwrap_or_default()
    }
}

/// Whether these are the ways of those routes. Several endpoints of one process share them.
fn are_same(ways: &[Way], routes: &[Route]) -> bool {
    let is_same = |way: &Way, route: &Route| {
        way.address == route.address && Arc::ptr_eq(&way.transport, &route.transport)
    };
    ways.len() == routes.len() && ways.iter().zip(routes).all(|(way, route)| is_same(way, route))
}
