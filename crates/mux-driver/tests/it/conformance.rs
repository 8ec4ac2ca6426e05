//! The suite that every transport passes, over carriers in memory.

use std::{sync::Arc, time::Duration};

use sinew_mux_driver::{CheckedDriverConfig, DriverConfig};
use sinew_plane::{Address, BoxFuture, DuplexServer, DuplexTransport, RequestHandler};
use sinew_testkit::{Harness, Served};

use crate::memory::{Hub, PipeServer, client};

struct Pipes {
    hub: Arc<Hub>,
    config: CheckedDriverConfig,
}

impl Pipes {
    fn new() -> Self {
        let config =
            DriverConfig { backoff_max: Duration::from_millis(50), ..DriverConfig::default() };
        Self { hub: Arc::default(), config: config.checked().unwrap() }
    }
}

impl Harness for Pipes {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        let server = PipeServer::new(&self.hub, self.config.clone(), handler);
        let address = server.addresses().remove(0);
        let served = Served { server: Arc::new(server), client: self.client(), address };
        Box::pin(std::future::ready(served))
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        Arc::new(client(&self.hub, self.config.clone()))
    }

    fn nowhere(&self) -> Address {
        Address::new("pipe", "nobody").unwrap()
    }
}

sinew_testkit::duplex_suite!(crate::conformance::Pipes::new());
