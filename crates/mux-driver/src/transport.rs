//! The calling side: one shared connection per address.

use std::{any::Any, pin::pin, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use sinew_net::Connector;
use sinew_plane::{
    Address, BoxFuture, Code, DuplexTransport, Error, Executed, OutgoingRequest, ProcessId,
    ResponseStream, ResumeRequest, Shutdown, StopKind, TransportCapabilities, TransportId, Way,
    Ways, within,
};
use sinew_telemetry::Side;

use crate::{
    CheckedDriverConfig, Connection, connection_set::ConnectionSet, dial::Dialer, reach::Reach,
};

/// The calling side of the mux, over the carriers that a [`Connector`] makes.
///
/// All requests to one address share one connection, which is made when it is first needed and
/// again after it was lost. After a failed dial, calls fail at once with its error for a while.
/// Clones share the connections; dropping the last one closes them.
#[derive(Clone)]
pub struct MuxTransport {
    inner: Arc<Inner>,
}

struct Inner {
    id: TransportId,
    capabilities: TransportCapabilities,
    connector: Arc<dyn Connector>,
    config: Arc<CheckedDriverConfig>,
    connections: Arc<ConnectionSet>,
    /// Few, and looked up for every call; the addresses come from discovery, not from peers.
    dialers: RwLock<FxHashMap<Address, Arc<Dialer>>>,
    /// The other ways to the instances behind those addresses.
    reach: Arc<Reach>,
}

impl MuxTransport {
    /// Makes the transport `id`, for addresses with that scheme, to which `connector` connects.
    ///
    /// `capabilities` says what the carriers of `connector` offer, for example
    /// [encryption](TransportCapabilities::with_encryption) or
    /// [how far](TransportCapabilities::with_latency) they reach. The message limit is the smaller of
    /// that in `capabilities` and `config.mux.max_message_bytes`. Whether streams resume is set by
    /// `config`.
    pub fn new(
        id: TransportId,
        capabilities: TransportCapabilities,
        connector: Arc<dyn Connector>,
        config: CheckedDriverConfig,
    ) -> Self {
        let mut capabilities = capabilities;
        let limit = config.mux.max_message_bytes;
        capabilities.max_message_bytes = capabilities.max_message_bytes.min(limit);
        capabilities.resumable = config.mux.resumes();
        let inner = Inner {
            id,
            capabilities,
            connector,
            config: Arc::new(config),
            connections: ConnectionSet::new(Side::Calling),
            dialers: RwLock::default(),
            reach: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        let dialers = self.inner.dialers.read();
        dialers.values().filter(|dialer| dialer.current().is_some_and(|it| it.is_usable())).count()
    }

    /// The number of writes to carriers since the transport was made.
    pub fn writes(&self) -> u64 {
        self.inner.connections.writes()
    }

    /// The process for which it calls.
    pub(crate) fn own_process(&self) -> ProcessId {
        self.inner.config.mux.process
    }

    /// The open connections that were dialled at this address.
    pub(crate) fn connections_to(&self, address: &Address) -> Vec<Connection> {
        let mut all = self.inner.connections.all();
        all.retain(|it| it.tasks().address() == Some(address));
        all
    }

    pub(crate) fn dialer(&self, address: &Address) -> Result<Arc<Dialer>, Error> {
        if let Some(dialer) = self.inner.dialers.read().get(address) {
            return Ok(Arc::clone(dialer));
        }
        let mut dialers = self.inner.dialers.write();
        if dialers.len() >= self.inner.config.max_targets {
            dialers.retain(|_, dialer| dialer.is_in_use());
            if dialers.len() >= self.inner.config.max_targets {
                let message = "connections to too many addresses at once (max_targets)";
                return Err(Error::new(Code::Exhausted, message));
            }
        }
        let dialer = dialers.entry(address.clone()).or_insert_with(|| {
            let config = Arc::clone(&self.inner.config);
            let connections = Arc::clone(&self.inner.connections);
            let connector = Arc::clone(&self.inner.connector);
            let dialer = Dialer::new(address.clone(), connector, config, connections);
            Arc::new(dialer.with_reach(Arc::clone(&self.inner.reach)))
        });
        Ok(Arc::clone(dialer))
    }

    fn refuse_when_closed(&self) -> Result<(), Error> {
        match self.inner.connections.is_ending() {
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
        let connection = self.inner.dialers.read().get(address)?.usable()?;
        connection.open_now(request).transpose()
    }

    /// Waits for the connection of an address, unless it is up.
    fn wait_for_connection<'a>(
        &'a self,
        address: &Address,
    ) -> Option<BoxFuture<'a, Result<(), Error>>> {
        let dialer = self.refuse_when_closed().and_then(|()| self.dialer(address));
        match dialer {
            Ok(dialer) if dialer.usable().is_some() => None,
            Ok(dialer) => Some(Box::pin(async move { dialer.connection().await.map(drop) })),
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
        let dialer = self.dialer(address)?;
        // Boxed, so that the usual way above does not pay for the room that waiting takes.
        Box::pin(Self::send_when_connected(&dialer, address, request)).await
    }

    async fn send_when_connected(
        dialer: &Arc<Dialer>,
        address: &Address,
        mut request: OutgoingRequest,
    ) -> Result<ResponseStream, Error> {
        // A connection may retire between its look-up and its use, but not twice in a row.
        for _ in 0..2 {
            let connecting = pin!(dialer.connection());
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

    async fn take_over(
        &self,
        address: &Address,
        request: ResumeRequest,
    ) -> Result<ResponseStream, Error> {
        self.refuse_when_closed()?;
        let dialer = self.dialer(address)?;
        // A connection may retire between its look-up and its use, but not twice in a row.
        for _ in 0..2 {
            let connecting = pin!(dialer.connection());
            let connecting = within(&request.context, StopKind::Stop, connecting);
            let connection = connecting
                .await
                .map_err(|reason| Error::cancelled_while(reason, "a connection was made"))??;
            if let Some(stream) = connection.take_over(&request).await? {
                return Ok(stream);
            }
        }
        Err(Error::draining(format!("{address} takes no new streams")))
    }

    async fn finish(&self, grace: Duration) -> Shutdown {
        let cut_streams = self.inner.connections.end(grace).await;
        self.inner.dialers.write().clear();
        Shutdown { cut_streams, cut_tasks: 0 }
    }
}

impl DuplexTransport for MuxTransport {
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

    fn find_ways(&self, ways: Arc<dyn Ways>) {
        self.inner.reach.set(ways);
    }

    fn carrier_of_streams(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(self)
    }

    fn move_streams<'a>(
        &'a self,
        from: &'a Address,
        to: &'a Way,
        most: usize,
    ) -> BoxFuture<'a, Result<usize, Error>> {
        Box::pin(self.move_from(from, to, most))
    }

    fn resume<'a>(
        &'a self,
        address: &'a Address,
        request: ResumeRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        Box::pin(self.take_over(address, request))
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(self.finish(grace))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let error = Error::new(Code::ConnectionLost, "the transport was dropped");
        // Who has streams come back gives up.
        self.connections.ending().cancel();
        self.connections.close_all(&error);
    }
}

impl std::fmt::Debug for MuxTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxTransport")
            .field("id", &self.inner.id)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
