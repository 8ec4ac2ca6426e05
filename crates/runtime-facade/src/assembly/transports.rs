//! The ways in which a process calls others.

use std::{future::ready, sync::Arc, time::Duration};

use sinew_plane::{BoxFuture, DuplexTransport, Shutdown};
use sinew_transport_tcp::TcpTransport;

use crate::{CheckedConfig, StartError};

/// Makes transports for the calls of a process. A [`Runtime`](crate::Runtime) has a list of
/// factories, asks each once when it starts, and registers what they make.
///
/// One of your own joins the list with
/// [`RuntimeBuilder::transports`](crate::RuntimeBuilder::transports).
pub trait TransportFactory: Send + Sync {
    /// The transports, each under an id that no other has. Nothing is connected yet.
    ///
    /// # Errors
    /// Why there cannot be any: the runtime does not start then.
    fn transports(
        &self,
        config: &CheckedConfig,
    ) -> Result<Vec<Arc<dyn DuplexTransport>>, StartError>;

    /// Ends what its transports share, once the runtime has closed these. The default does
    /// nothing.
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

/// Closes what the factories share, in their order.
pub(crate) async fn close(factories: &[Arc<dyn TransportFactory>], grace: Duration) -> Shutdown {
    let mut cut = Shutdown::default();
    for factory in factories {
        cut = cut + factory.close(grace).await;
    }
    cut
}
