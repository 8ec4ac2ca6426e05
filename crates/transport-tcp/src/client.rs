//! The calling side over sockets.

use std::{any::Any, sync::Arc};

use sinew_mux_driver::MuxTransport;
use sinew_net::{TCP, UNIX};
use sinew_plane::{
    Address, BoxFuture, DuplexTransport, Error, LatencyClass, OutgoingRequest, ResponseStream,
    ResumeRequest, Shutdown, TransportCapabilities, TransportId, Way, Ways,
};

use crate::CheckedTcpConfig;

/// The calling side over TCP or over Unix domain sockets.
///
/// All requests to one address share one connection, which is made when it is first needed and
/// again after it was lost. After a failed dial, calls fail at once with its error for a while.
/// Clones share the connections.
#[derive(Debug, Clone)]
pub struct TcpTransport(MuxTransport);

impl TcpTransport {
    /// Makes the transport `tcp`, for `tcp://HOST:PORT`.
    pub fn new(config: CheckedTcpConfig) -> Self {
        Self::over(TCP, LatencyClass::Network, config)
    }

    /// Makes the transport `unix`, for `unix:///PATH`.
    pub fn unix(config: CheckedTcpConfig) -> Self {
        Self::over(UNIX, LatencyClass::Host, config)
    }

    fn over(id: TransportId, latency: LatencyClass, config: CheckedTcpConfig) -> Self {
        let connector = Arc::new(config.driver.socket_connector());
        let limit = config.driver.mux.max_message_bytes;
        let offers = TransportCapabilities::streaming(limit).with_latency(latency);
        Self(MuxTransport::new(id, offers, connector, config.driver))
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }

    /// The number of writes to sockets since the transport was made.
    pub fn writes(&self) -> u64 {
        self.0.writes()
    }
}

impl DuplexTransport for TcpTransport {
    fn id(&self) -> &TransportId {
        self.0.id()
    }

    fn capabilities(&self) -> &TransportCapabilities {
        self.0.capabilities()
    }

    fn dials(&self, address: &Address) -> bool {
        self.0.dials(address)
    }

    fn open<'a>(
        &'a self,
        address: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        self.0.open(address, request)
    }

    fn open_now(
        &self,
        address: &Address,
        request: &OutgoingRequest,
    ) -> Option<Result<ResponseStream, Error>> {
        self.0.open_now(address, request)
    }

    fn connect<'a>(&'a self, address: &'a Address) -> Option<BoxFuture<'a, Result<(), Error>>> {
        self.0.connect(address)
    }

    fn find_ways(&self, ways: Arc<dyn Ways>) {
        self.0.find_ways(ways);
    }

    fn carrier_of_streams(&self) -> Option<&(dyn Any + Send + Sync)> {
        self.0.carrier_of_streams()
    }

    fn resume<'a>(
        &'a self,
        address: &'a Address,
        request: ResumeRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        self.0.resume(address, request)
    }

    fn move_streams<'a>(
        &'a self,
        from: &'a Address,
        to: &'a Way,
        most: usize,
    ) -> BoxFuture<'a, Result<usize, Error>> {
        self.0.move_streams(from, to, most)
    }

    fn close(&self, grace: std::time::Duration) -> BoxFuture<'_, Shutdown> {
        self.0.close(grace)
    }
}
