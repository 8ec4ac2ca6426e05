//! The trait for the ways in which a process calls other processes.

use std::{future::ready, sync::Arc, time::Duration};

use sinew_plane::{BoxFuture, DuplexTransport, Shutdown};
use sinew_transport_tcp::TcpTransport;

use crate::{CheckedConfig, StartError};

/// Makes transports for the calls of a process. A [`Runtime`](crate::Runtime) has a list of
/// factories. When it starts, it calls each once and registers the transports that they make.
///
/// [`RuntimeBuilder::transport_factory`](crate::RuntimeBuilder::transport_factory) adds your own to the list.
pub trait TransportFactory: Send + Sync {
    /// Makes the transports, each with an id that no other transport of the process has. No
    /// connection is made yet.
    ///
    /// # Errors
    /// Why no transport can be made. The runtime then does not start.
    fn transports(
        &self,
        config: &CheckedConfig,
    ) -> Result<Vec<Arc<dyn DuplexTransport>>, StartError>;

    /// Closes what the transports of this factory share. The runtime calls it after it has closed
    /// the transports. The default does nothing.
    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        let _ = grace;
        Box::pin(ready(Shutdown::default()))
    }
}

/// The mux over Unix domain sockets and over TCP.
pub(crate) struct MuxTransports;

impl TransportFactory for MuxTransports {
    fn transports(
        &self,
        config: &CheckedConfig,
    ) -> Result<Vec<Arc<dyn DuplexTransport>>, StartError> {
        let unix = TcpTransport::unix(config.tcp().clone());
        Ok(vec![Arc::new(unix), Arc::new(TcpTransport::new(config.tcp().clone()))])
    }
}

/// Closes all factories, in their order.
pub(crate) async fn close(factories: &[Arc<dyn TransportFactory>], grace: Duration) -> Shutdown {
    let mut cut = Shutdown::default();
    for factory in factories {
        cut = cut + factory.close(grace).await;
    }
    cut
}
