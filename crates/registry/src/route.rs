//! The routes to one instance, best first.

use std::{cmp::Reverse, fmt, sync::Arc};

use sinew_plane::{Address, DuplexTransport, LatencyClass, TransportRequirements, Way};
use sinew_telemetry::{Side, TransportMetrics};

use crate::{Proximity, TransportRegistration};

/// One route to an instance: a transport and the address that it dials.
#[derive(Clone)]
pub struct Route {
    /// The transport.
    pub transport: Arc<dyn DuplexTransport>,
    /// The address.
    pub address: Address,
    pub(crate) metrics: TransportMetrics,
    /// All ways to the instance, which its transports find by its addresses for as long as a route
    /// to it is kept.
    pub(crate) ways: Option<Arc<[Way]>>,
}

impl Route {
    /// Makes a route without a registry. Each new route looks up its metrics, so keep a route that
    /// is used often.
    pub fn new(transport: Arc<dyn DuplexTransport>, address: Address) -> Self {
        let metrics = TransportMetrics::new(transport.id(), Side::Calling);
        Self { transport, address, metrics, ways: None }
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

/// All pairs of an address and a transport that dials it and reaches far enough, in the order in
/// which they are tried.
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
                    ways: None,
                };
                found.push((order, route));
            }
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, route)| route).collect()
}

/// The distance, which counts before the priority: within the process, within the host, then the
/// rest. Priorities choose between networks.
fn nearness(class: LatencyClass) -> LatencyClass {
    class.min(LatencyClass::Network)
}
