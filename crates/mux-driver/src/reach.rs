//! The other ways to the process behind an address.

use std::sync::{Arc, OnceLock};

use sinew_plane::Ways;

use crate::{MuxTransport, dial::Dialer};

/// Finds the diallers of other addresses of the same instance, of this transport and of others that
/// speak the mux. It knows none until the transport is registered.
#[derive(Default)]
pub(crate) struct Reach(OnceLock<Arc<dyn Ways>>);

impl Reach {
    /// Sets who knows the ways. The first counts.
    pub(crate) fn set(&self, ways: Arc<dyn Ways>) {
        let _ = self.0.set(ways);
    }

    /// The diallers of the other addresses.
    pub(crate) fn others(&self, own: &Dialer) -> Vec<Arc<Dialer>> {
        let Some(ways) = self.0.get() else { return Vec::new() };
        let ways = ways.ways(own.address());
        let others = ways.iter().filter(|way| way.address != *own.address());
        let dialers = others.filter_map(|way| {
            let mux = way.transport.carrier_of_streams()?.downcast_ref::<MuxTransport>()?;
            mux.dialer(&way.address).ok()
        });
        // Streams are known by the process that opened them.
        dialers.filter(|it| it.own_process() == own.own_process()).collect()
    }
}
