//! The split exchange: Dynamo's TCP frames take the request there, and the response is delivered
//! by a worker that calls home. Pooled or with a connection for each response, else the same.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use sinew::layers::codec::ChecksumMode;
use sinew_plane::{
    Address, DuplexTransport, EndpointName, IncomingRequest, InstanceId, OutgoingRequest,
    ProcessId, RequestHandler, RequestPlaneServer, ResponseSink,
};
use sinew_plane_call_home::{
    ListenHost, TcpStreamClient, TcpStreamClientConfig, TcpStreamServer, TcpStreamServerConfig,
};
use sinew_plane_request_tcp::{
    TcpRequestClient, TcpRequestConfig, TcpRequestServer, TcpRequestServerConfig,
};
use sinew_split::{SplitScheme, SplitServer, SplitServerConfig, SplitTransport};
use sinew_transport_tcp::{TcpConfig, TcpServer};

use super::{
    Caller, Peer, Server,
    sinew::{SinewItems, SinewSink},
};
use crate::{PoolCount, Service, Shape};

/// Largest body or item: what both planes carry by default, less what stands around a body.
const MAX_MESSAGE_BYTES: usize = 31 << 20;

/// Streams that are open at once, each of which may be a connection: below the number of files
/// that a process is commonly allowed.
const MAX_STREAMS: usize = 1_000;

/// Without checks of frames, as within one host, and as Dynamo has it.
const FRAME_CHECKS: Option<ChecksumMode> = Some(ChecksumMode::Off);

/// Sinew with Dynamo's two planes in place of its own mux.
pub(super) struct Split {
    pool: bool,
}

impl Split {
    pub(super) fn pooled() -> Self {
        Self { pool: true }
    }

    pub(super) fn single() -> Self {
        Self { pool: false }
    }
}

impl Peer for Split {
    type Sink = SinewSink;
    type Server = SplitHost;
    type Caller = SplitCaller;

    fn name(&self) -> &'static str {
        if self.pool { "sinew-split-pooled" } else { "sinew-split-single" }
    }

    fn about(&self) -> &'static str {
        if self.pool {
            "Sinew's split exchange: requests in Dynamo's TCP frames, and responses that call home \
             over connections that they share"
        } else {
            "the same with a connection for each response, as Dynamo has it"
        }
    }

    fn runs(&self, shape: &Shape) -> bool {
        shape.streams() <= MAX_STREAMS
    }

    async fn serve(&self, service: Arc<Service<SinewSink>>) -> Result<SplitHost> {
        SplitHost::start(service, self.pool).await
    }

    async fn connect(&self, address: &str) -> Result<SplitCaller> {
        SplitCaller::new(address, self.pool)
    }
}

/// The worker: a port for requests, and connections back.
pub(super) struct SplitHost {
    requests: TcpServer,
    responses: Arc<TcpStreamClient>,
    pool: bool,
    process: ProcessId,
}

impl SplitHost {
    async fn start(service: Arc<Service<SinewSink>>, pool: bool) -> Result<Self> {
        let process = ProcessId::random();
        let mut back = TcpStreamClientConfig { pool, ..TcpStreamClientConfig::default() };
        back.driver.mux.process = process;
        back.frame_checks = FRAME_CHECKS;
        let responses = Arc::new(TcpStreamClient::new(back.checked()?));
        let handler = move |request: IncomingRequest<'_>, sink: ResponseSink| {
            service.call(request.body, SinewSink(sink));
        };
        let handler: Arc<dyn RequestHandler> = Arc::new(handler);
        let split = SplitServer::new(
            SplitServerConfig::default(),
            Arc::clone(&responses) as _,
            Arc::clone(&handler),
        );
        let plane = TcpRequestServerConfig::default().checked()?;
        let plane = TcpRequestServer::new(plane, Arc::new(split));
        let requests =
            TcpServer::new(TcpConfig::default().checked()?, handler).with_protocol(Arc::new(plane));
        requests.start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        Ok(Self { requests, responses, pool, process })
    }
}

impl Server for SplitHost {
    /// Where it listens and which process it is, as discovery would tell.
    fn address(&self) -> String {
        let bound = self.requests.local_address();
        bound.map_or_else(String::new, |bound| format!("{bound} {}", self.process))
    }

    fn writes(&self) -> Option<u64> {
        None
    }

    fn pool(&self) -> Option<PoolCount> {
        let usage = self.responses.pool();
        self.pool.then_some(PoolCount { created: usage.created, reused: usage.reused })
    }
}

/// The caller: requests on one connection, and a port where workers call home.
#[derive(Clone)]
pub(super) struct SplitCaller {
    transport: Arc<SplitTransport>,
    responses: Arc<TcpStreamServer>,
    address: Address,
    endpoint: EndpointName,
    process: ProcessId,
}

impl SplitCaller {
    fn new(address: &str, pool: bool) -> Result<Self> {
        let (host, process) = address.split_once(' ').context("an address without a process")?;
        let mut config = TcpStreamServerConfig {
            host: ListenHost::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            pool,
            ..TcpStreamServerConfig::default()
        };
        config.driver.mux.process = ProcessId::random();
        config.frame_checks = FRAME_CHECKS;
        let responses = Arc::new(TcpStreamServer::bind(config.checked()?)?);
        let requests = Arc::new(TcpRequestClient::new(TcpRequestConfig::default().checked()?));
        let transport = SplitTransport::new(
            SplitScheme::TCP,
            MAX_MESSAGE_BYTES,
            requests,
            Arc::clone(&responses) as _,
        );
        Ok(Self {
            transport: Arc::new(transport),
            responses,
            address: Address::new(SplitScheme::TCP.as_str(), host)?,
            endpoint: "bench/peer/ask".parse()?,
            process: ProcessId::from_hex(process).context("the process of an address")?,
        })
    }
}

impl Caller for SplitCaller {
    type Items = SinewItems;

    async fn open(&self, request: Bytes) -> Result<SinewItems> {
        let mut request = OutgoingRequest::new(self.endpoint.clone(), InstanceId(0), request);
        request.process = Some(self.process);
        Ok(SinewItems(self.transport.open(&self.address, request).await?))
    }

    fn writes(&self) -> Option<u64> {
        None
    }

    fn response_connections(&self) -> Option<usize> {
        Some(self.responses.connections())
    }
}
