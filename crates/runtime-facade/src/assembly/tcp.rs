//! The port of the process: the mux over TCP and a Unix domain socket, and the other protocols on
//! that port.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
#[cfg(feature = "dynamo")]
use sinew_plane::RequestPlaneHandler;
use sinew_plane::{
    Address, BoxFuture, DuplexServer, Error, RequestHandler, RequestPlaneServer, Shutdown,
};
#[cfg(feature = "dynamo")]
use sinew_plane_request_tcp::TcpRequestServer;
use sinew_transport_tcp::{CheckedTcpConfig, TcpServer};

use crate::{CheckedConfig, Listener};

/// The server on `listen`, bound when the first endpoint is served.
pub(crate) struct TcpListener {
    server: Mutex<Option<Arc<TcpServer>>>,
    /// The handler of requests in Dynamo's frames.
    #[cfg(feature = "dynamo")]
    frames: Arc<dyn RequestPlaneHandler>,
}

impl TcpListener {
    #[cfg(feature = "dynamo")]
    pub(crate) fn new(frames: Arc<dyn RequestPlaneHandler>) -> Self {
        Self { server: Mutex::default(), frames }
    }

    #[cfg(not(feature = "dynamo"))]
    pub(crate) fn new() -> Self {
        Self { server: Mutex::default() }
    }

    async fn bind(
        &self,
        config: &CheckedConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<TcpServer, Error> {
        let tcp = config.tcp();
        let error = match self.bind_with(config, tcp.clone(), Arc::clone(&handler)).await {
            Ok(server) => return Ok(server),
            Err(error) if config.unix => error,
            Err(error) => return Err(error),
        };
        // TCP alone reaches everyone; the Unix socket only makes it faster on one host. The same
        // settings otherwise, so that the process is the one that is announced.
        let without_unix = CheckedTcpConfig { unix_dir: None, ..tcp.clone() };
        let server = self.bind_with(config, without_unix, handler).await?;
        tracing::warn!(%error, "serving over TCP alone");
        Ok(server)
    }

    async fn bind_with(
        &self,
        config: &CheckedConfig,
        tcp: CheckedTcpConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<TcpServer, Error> {
        let server = TcpServer::new(tcp, handler);
        #[cfg(feature = "dynamo")]
        let server = {
            let frames =
                TcpRequestServer::new(config.frame_server.clone(), Arc::clone(&self.frames));
            server.with_protocol(Arc::new(frames))
        };
        server.start(config.listen).await?;
        Ok(server)
    }
}

impl Listener for TcpListener {
    fn name(&self) -> &str {
        "tcp"
    }

    fn start<'a>(
        &'a self,
        config: &'a CheckedConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let server = self.bind(config, handler).await?;
            *self.server.lock() = Some(Arc::new(server));
            Ok(())
        })
    }

    fn addresses(&self) -> Vec<Address> {
        self.server.lock().as_ref().map(|server| server.addresses()).unwrap_or_default()
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            let server = self.server.lock().take();
            match server {
                Some(server) => server.shutdown(grace).await,
                None => Shutdown::default(),
            }
        })
    }
}
