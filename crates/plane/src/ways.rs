//! The ways to one instance: what a stream that has lost one of them goes on over.

use std::{fmt, sync::Arc};

use crate::{Address, DuplexTransport};

/// One way to an instance: an address, and a transport that dials it.
#[derive(Clone)]
pub struct Way {
    /// The transport.
    pub transport: Arc<dyn DuplexTransport>,
    /// The address.
    pub address: Address,
}

/// Knows the ways to the instances that a process calls. The registry of transports is one.
pub trait Ways: Send + Sync {
    /// All ways to the instance at this address, best first, that address among them. Empty if the
    /// instance is not known, or has no other address.
    fn ways(&self, address: &Address) -> Arc<[Way]>;
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Way({} over {})", self.address, self.transport.id())
    }
}
