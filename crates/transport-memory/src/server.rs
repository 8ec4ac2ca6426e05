//! The serving side.

use std::{fmt, sync::Arc, time::Duration};

use sinew_plane::{Address, BoxFuture, CancelReason, DuplexServer, Shutdown};

use crate::{
    exchange,
    hub::{MemoryHub, Service},
};

/// Serves one name of a hub. Dropping it withdraws the name and cuts its streams, as the end of a
/// process would; call [`shutdown`](DuplexServer::shutdown) first to lose none.
pub struct MemoryServer {
    hub: MemoryHub,
    address: Address,
    service: Arc<Service>,
}

impl MemoryServer {
    pub(crate) fn new(hub: MemoryHub, address: Address, service: Arc<Service>) -> Self {
        Self { hub, address, service }
    }

    /// Its address, `memory://NAME`.
    pub fn address(&self) -> &Address {
        &self.address
    }

    fn withdraw(&self) {
        self.hub.withdraw(self.address.rest(), &self.service);
    }
}

impl DuplexServer for MemoryServer {
    fn addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }

    fn drain(&self) {
        self.service.streams.drain();
    }

    /// See the trait. Dropped midway, the server drains on and has cut nothing. Needs a tokio
    /// runtime with its clock enabled.
    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            let cut = exchange::close(&self.service.streams, grace, CancelReason::Shutdown).await;
            self.withdraw();
            cut
        })
    }
}

impl Drop for MemoryServer {
    fn drop(&mut self) {
        self.withdraw();
        exchange::cut(&self.service.streams, CancelReason::Shutdown);
    }
}

impl fmt::Debug for MemoryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryServer").field("address", &self.address).finish_non_exhaustive()
    }
}
