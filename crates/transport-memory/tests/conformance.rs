//! The conformance suite over the memory transport.

#![expect(clippy::unwrap_used, reason = "a harness that cannot start fails its test")]

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sinew_plane::{Address, BoxFuture, DuplexServer, DuplexTransport, RequestHandler};
use sinew_testkit::{Harness, Served, duplex_suite};
use sinew_transport_memory::{MemoryHub, MemoryTransport};

#[derive(Default)]
struct Memory {
    hub: MemoryHub,
    servers: AtomicUsize,
}

impl Harness for Memory {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        let name = format!("server-{}", self.servers.fetch_add(1, Ordering::Relaxed));
        let server = self.hub.serve_shared(&name, handler).unwrap();
        let address = server.addresses().remove(0);
        let served = Served { server: Arc::new(server), client: self.client(), address };
        Box::pin(ready(served))
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        Arc::new(MemoryTransport::new(self.hub.clone()))
    }

    fn nowhere(&self) -> Address {
        "memory://nobody".parse().unwrap()
    }
}

duplex_suite!(Memory::default());
