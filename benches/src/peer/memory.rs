//! Sinew without a network: caller and server in one process.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use sinew_plane::{
    Address, DuplexTransport, EndpointName, IncomingRequest, InstanceId, OutgoingRequest,
    ResponseSink,
};
use sinew_transport_memory::{MemoryHub, MemoryServer, MemoryTransport};

use super::{
    Caller, Peer, Server,
    sinew::{SinewItems, SinewSink},
};
use crate::{Service, Shape};

const NAME: &str = "bench";

pub(super) struct SinewMemory;

impl Peer for SinewMemory {
    type Sink = SinewSink;
    type Server = Nobody;
    type Caller = MemoryCaller;

    fn name(&self) -> &'static str {
        "sinew-memory"
    }

    fn about(&self) -> &'static str {
        "Sinew inside one process: the same contract over `sinew-transport-memory`, with callers \
         and server in the client's process"
    }

    /// What the process of the server is asked for has nothing to do with this.
    fn runs(&self, shape: &Shape) -> bool {
        matches!(shape, Shape::Unary { .. } | Shape::Stream { .. } | Shape::Slow { .. })
    }

    async fn serve(&self, _: Arc<Service<SinewSink>>) -> Result<Nobody> {
        Ok(Nobody)
    }

    async fn connect(&self, _: &str) -> Result<MemoryCaller> {
        let hub = MemoryHub::default();
        let service = Service::<SinewSink>::new();
        let handler = move |request: IncomingRequest<'_>, sink: ResponseSink| {
            service.call(request.body, SinewSink(sink));
        };
        let server = hub.serve(NAME, handler)?;
        Ok(MemoryCaller {
            transport: Arc::new(MemoryTransport::new(hub)),
            address: server.address().clone(),
            endpoint: "bench/peer/ask".parse()?,
            _server: Arc::new(server),
        })
    }
}

/// The process that every measurement has, with nothing to do.
pub(super) struct Nobody;

impl Server for Nobody {
    fn address(&self) -> String {
        NAME.to_owned()
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

#[derive(Clone)]
pub(super) struct MemoryCaller {
    transport: Arc<MemoryTransport>,
    address: Address,
    endpoint: EndpointName,
    /// Ends with the last clone.
    _server: Arc<MemoryServer>,
}

impl Caller for MemoryCaller {
    type Items = SinewItems;

    async fn open(&self, request: Bytes) -> Result<SinewItems> {
        // Nothing here ever waits, and others of the process want to run as well.
        tokio::task::coop::consume_budget().await;
        let request = OutgoingRequest::new(self.endpoint.clone(), InstanceId(0), request);
        Ok(SinewItems(self.transport.open(&self.address, request).await?))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}
