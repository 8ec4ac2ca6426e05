//! The ways to reach one instance, best first.

use std::{cmp::Reverse, fmt, sync::Arc};

use sinew_plane::{Address, DuplexTransport, LatencyClass, TransportRequirements};
use sinew_telemetry::{Side, TransportMetrics};

use crate::{Proximity, TransportRegistration};

/// One way to reach an instance: a transport and the address it dials.
#[derive(Clone)]
pub struct Route {
    /// The transport.
    pub transport: Arc<dyn DuplexTransport>,
    /// The address.
    pub address: Address,
    pub(crate) metrics: TransportMetrics,
}

impl Route {
    /// A route that was not resolved by a registry. Routes that are used often are better made
    /// once: each looks its metrics up.
    pub fn new(transport: Arc<dyn DuplexTransport>, address: Address) -> Self {
        let metrics = TransportMetrics::new(transport.id(), Side::Calling);
        Self { transport, address, metrics }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Route({} over {})", self.address, self.transport.id())
    }
}

/// A registered duplex transport.
#[derive(Clone)]
pub(crate) struct Duplex {
    pub(crate) registration: TransportRegistration,
    pub(crate) transport: Arc<dyn DuplexTransport>,
    pub(crate) metrics: TransportMetrics,
}

impl Duplex {
    fn dials(&self, address: &Address) -> bool {
        self.registration.scheme == address.scheme() && self.transport.dials(address)
    }
}

/// All pairs of an address and a transport that understands it and is near enough, in the order
/// in which they are to be tried.
pub(crate) fn routes(
    transports: &[Duplex],
    addresses: &[Address],
    proximity: Proximity,
    required: &TransportRequirements,
) -> Vec<Route> {
    let mut found = Vec::new();
    for duplex in transports {
        let TransportRegistration { id, capabilities, priority, .. } = &duplex.registration;
        if !proximity.is_within(capabilities.latency) || !capabilities.satisfy(required) {
            continue;
        }
        for (position, address) in addresses.iter().enumerate() {
            if duplex.dials(address) {
                let order = (
                    nearness(capabilities.latency),
                    Reverse(*priority),
                    capabilities.latency,
                    position,
                    id,
                );
                let route = Route {
                    transport: Arc::clone(&duplex.transport),
                    address: address.clone(),
                    metrics: duplex.metrics.clone(),
                };
                found.push((order, route));
            }
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, route)| route).collect()
}

/// The process comes before the host and the host before the rest, whatever the priorities say:
/// those are for choosing between networks.
fn nearness(class: LatencyClass) -> LatencyClass {
    class.min(LatencyClass::Network)
}
