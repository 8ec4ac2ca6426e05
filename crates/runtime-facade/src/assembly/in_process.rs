//! Calls within the process whose request or response types differ on the two sides: they are
//! encoded, and pass no socket.

use std::{future::ready, sync::Arc, time::Duration};

use sinew_ingress::Ingress;
use sinew_plane::{
    Address, BoxFuture, Code, DuplexServer, DuplexTransport, Error, RequestHandler, Shutdown,
};
use sinew_transport_memory::{MemoryConfig, MemoryHub, MemoryServer, MemoryTransport};

use crate::{CheckedConfig, ConfigError, Listener, StartError, TransportFactory};

/// Both ends of the transport within the process. It serves from the start of the runtime, and its
/// address is not announced to other processes.
pub(crate) struct InProcess {
    hub: MemoryHub,
    server: MemoryServer,
}

impl InProcess {
    /// Makes both ends, with the limits that transports to other processes have.
    pub(crate) fn new(config: &CheckedConfig, ingress: Ingress) -> Result<Self, StartError> {
        let mux = &config.tcp().driver.mux;
        let limits = MemoryConfig {
            max_message_bytes: mux.max_message_bytes,
            max_streams: config.max_in_flight,
            window: mux.window,
            budget: Some(Arc::clone(config.budget())),
        };
        let hub =
            MemoryHub::new(limits).map_err(|error| ConfigError::new(error.field, error.reason))?;
        let server = hub
            .serve(&mux.process.to_string(), ingress)
            .map_err(|error| Error::new(Code::Exhausted, error.to_string()))?;
        Ok(Self { hub, server })
    }

    /// Its addresses, which have a meaning in this process only.
    pub(crate) fn own_addresses(&self) -> Vec<Address> {
        self.server.addresses()
    }
}

impl Listener for InProcess {
    fn name(&self) -> &str {
        "memory"
    }

    fn start<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }

    /// Nothing to wait for: its streams are requests of this process, which the handler counts.
    fn stop(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            self.server.shutdown(grace).await;
            Shutdown::default()
        })
    }
}

impl TransportFactory for InProcess {
    fn transports(&self, _: &CheckedConfig) -> Result<Vec<Arc<dyn DuplexTransport>>, StartError> {
        Ok(vec![Arc::new(MemoryTransport::new(self.hub.clone()))])
    }
}
