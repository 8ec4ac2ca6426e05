//! The calling side: one shared connection per address.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::RwLock;
use sinew_net::{Connector, TCP, UNIX};
use sinew_plane::{
    Address, BoxFuture, Code, DuplexTransport, Error, Executed, LatencyClass, OutgoingRequest,
    ResponseStream, Shutdown, StopKind, TransportCapabilities, TransportId, within,
};
use sinew_telemetry::Side;

use crate::{CheckedTcpConfig, connections::Connections, target::Target};

/// The calling side over TCP or over Unix domain sockets.
///
/// All requests to one address share one connection, which is made when it is first needed and
/// again when it was lost; while dials fail, callers get the last failure at once instead of
/// waiting for another. Clones share the connections.
#[derive(Clone)]
pub struct TcpTransport {
    inner: Arc<Inner>,
}

struct Inner {
    id: TransportId,
    capabilities: TransportCapabilities,
    connector: Arc<dyn Connector>,
    config: Arc<CheckedTcpConfig>,
    connections: Arc<Connections>,
    targets: RwLock<HashMap<Address, Arc<Target>>>,
}

impl TcpTransport {
    /// The transport `tcp`, for `tcp://HOST:PORT`.
    pub fn new(config: CheckedTcpConfig) -> Self {
        Self::over(TCP, LatencyClass::Network, config)
    }

    /// The transport `unix`, for `unix:///PATH`.
    pub fn unix(config: CheckedTcpConfig) -> Self {
        Self::over(UNIX, LatencyClass::Host, config)
    }

    fn over(id: TransportId, latency: LatencyClass, config: CheckedTcpConfig) -> Self {
        let mut capabilities = TransportCapabilities::streaming(config.mux.max_message_bytes);
        capabilities.latency = latency;
        let inner = Inner {
            id,
            capabilities,
            connector: Arc::new(config.connector()),
            config: Arc::new(config),
            connections: Connections::new(Side::Calling),
            targets: RwLock::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Connections that are up now.
    pub fn connections(&self) -> usize {
        let targets = self.inner.targets.read();
        targets.values().filter(|target| target.current().is_some_and(|it| it.is_usable())).count()
    }

    /// Writes that reached a socket since the transport was made.
    pub fn writes(&self) -> u64 {
        self.inner.connections.writes.load(Ordering::Relaxed)
    }

    fn target(&self, address: &Address) -> Result<Arc<Target>, Error> {
        if let Some(target) = self.inner.targets.read().get(address) {
            return Ok(Arc::clone(target));
        }
        let mut targets = self.inner.targets.write();
        if targets.len() >= self.inner.config.max_targets {
            targets.retain(|_, target| target.current().is_some_and(|it| it.is_usable()));
            if targets.len() >= self.inner.config.max_targets {
                let message = "connections to too many addresses at once (max_targets)";
                return Err(Error::new(Code::Exhausted, message));
            }
        }
        let target = targets.entry(address.clone()).or_insert_with(|| {
            let config = Arc::clone(&self.inner.config);
            let connections = Arc::clone(&self.inner.connections);
            let connector = Arc::clone(&self.inner.connector);
            Arc::new(Target::new(address.clone(), connector, config, connections))
        });
        Ok(Arc::clone(target))
    }

    fn refuse_when_closed(&self) -> Result<(), Error> {
        match self.inner.connections.tasks.is_closed() {
            true => Err(Error::new(Code::ConnectFailed, "the transport was closed")),
            false => Ok(()),
        }
    }

    /// Sends at once over the connection that is up and has room; `None` without one.
    fn send_now(
        &self,
        address: &Address,
        request: &OutgoingRequest,
    ) -> Option<Result<ResponseStream, Error>> {
        if let Err(closed) = self.refuse_when_closed() {
            return Some(Err(closed));
        }
        let connection = self.inner.targets.read().get(address)?.usable()?;
        connection.open_now(request).transpose()
    }

    /// Waits for the connection of an address, unless it is up.
    fn wait_for_connection<'a>(
        &'a self,
        address: &Address,
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        let target = self.refuse_when_closed().and_then(|()| self.target(address));
        match target {
            Ok(target) if target.usable().is_some() => None,
            Ok(target) => Some(Box::pin(async move { target.connection().await.map(drop) })),
            Err(error) => Some(Box::pin(std::future::ready(Err(error)))),
        }
    }

    async fn send(
        &self,
        address: &Address,
        request: OutgoingRequest,
    ) -> Result<ResponseStream, Error> {
        if let Some(sent) = self.send_now(address, &request) {
            return sent;
        }
        let target = self.target(address)?;
        // Boxed, so that the usual way above does not pay for the room that waiting takes.
        Box::pin(Self::send_when_connected(&target, address, request)).await
    }

    async fn send_when_connected(
        target: &Arc<Target>,
        address: &Address,
        mut request: OutgoingRequest,
    ) -> Result<ResponseStream, Error> {
        // A connection may retire between its look-up and its use, but not twice in a row.
        for _ in 0..2 {
            let connecting = pin!(target.connection());
            let connecting = within(&request.context, StopKind::Stop, connecting);
            let connection = connecting.await.map_err(|reason| {
                let error = Error::cancelled_while(reason, "a connection was made");
                error.with_executed(Executed::No)
            })??;
            match connection.open(request).await? {
                Ok(stream) => return Ok(stream),
                Err(back) => request = back,
            }
        }
        Err(Error::draining(format!("{address} takes no new streams")))
    }

    async fn finish(&self, grace: Duration) -> Shutdown {
        let cut_streams = self.inner.connections.end(grace).await;
        self.inner.targets.write().clear();
        Shutdown { cut_streams, cut_tasks: 0 }
    }
}

impl DuplexTransport for TcpTransport {
    fn id(&self) -> &TransportId {
        &self.inner.id
    }

    fn capabilities(&self) -> &TransportCapabilities {
        &self.inner.capabilities
    }

    fn dials(&self, address: &Address) -> bool {
        address.scheme() == self.inner.id.as_str()
    }

    fn open<'a>(
        &'a self,
        address: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        Box::pin(self.send(address, request))
    }

    fn open_now(
        &self,
        address: &Address,
        request: &OutgoingRequest,
    ) -> Option<Result<ResponseStream, Error>> {
        self.send_now(address, request)
    }

    fn connect<'a>(&'a self, address: &'a Address) -> Option<BoxFuture<'a, Result<(), Error>>> {
        self.wait_for_connection(address)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(self.finish(grace))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let error = Error::new(Code::ConnectionLost, "the transport was dropped");
        self.connections.close_all(&error);
    }
}

impl std::fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpTransport")
            .field("id", &self.inner.id)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
