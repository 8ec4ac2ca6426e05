//! The masked transport as parts of a runtime, which serves and calls over it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sinew::layers::transport_tcp::{CheckedTcpConfig, TcpServer};
use sinew::{CheckedConfig, Listener, StartError, TransportFactory};
use sinew_plane::{
    Address, BoxFuture, DuplexServer, DuplexTransport, Error, RequestHandler, RequestPlaneServer,
    Shutdown,
};

use crate::masked::{MASKED, MaskedProtocol, masked_transport};

/// Serves masked connections on a port of its own, on loopback.
#[derive(Default)]
pub struct MaskedListener(Mutex<Option<Arc<TcpServer>>>);

impl Listener for MaskedListener {
    fn name(&self) -> &str {
        "masked"
    }

    fn start<'a>(
        &'a self,
        config: &'a CheckedConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            // The identity, the budget and the limits are those of the process.
            let tcp = CheckedTcpConfig { unix_dir: None, ..config.tcp().clone() };
            let server = TcpServer::new(tcp, handler);
            let protocol = MaskedProtocol(server.mux());
            let server = server.with_protocol(Arc::new(protocol));
            server.start(([127, 0, 0, 1], 0).into()).await?;
            *self.0.lock() = Some(Arc::new(server));
            Ok(())
        })
    }

    fn addresses(&self) -> Vec<Address> {
        let tcp = self.0.lock().as_ref().and_then(|server| server.public_address());
        tcp.and_then(|tcp| Address::new(MASKED.as_str(), tcp.rest()).ok()).into_iter().collect()
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            let server = self.0.lock().take();
            match server {
                Some(server) => server.shutdown(grace).await,
                None => Shutdown::default(),
            }
        })
    }
}

/// Calls workers that are reached masked.
pub struct MaskedTransports;

impl TransportFactory for MaskedTransports {
    fn transports(
        &self,
        config: &CheckedConfig,
    ) -> Result<Vec<Arc<dyn DuplexTransport>>, StartError> {
        Ok(vec![Arc::new(masked_transport(config.tcp().driver.clone()))])
    }
}
