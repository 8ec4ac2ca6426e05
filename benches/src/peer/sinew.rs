//! Sinew over TCP and over Unix domain sockets, with every limit and window at its default.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_core::Stream;
use sinew_plane::{
    Address, DuplexServer, DuplexTransport, EndpointName, IncomingRequest, InstanceId,
    OutgoingRequest, ResponseSink, ResponseStream, TrySendError,
};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};
use tempfile::TempDir;

use super::{Caller, Peer, Sent, Server, Sink};
use crate::{Service, Shape};

/// Over TCP, with a check behind every frame or without.
pub(super) struct SinewTcp {
    is_checked: bool,
}

impl SinewTcp {
    /// `sinew-tcp`: as within one host.
    pub(super) fn new() -> Self {
        Self { is_checked: false }
    }

    /// `sinew-tcp-checked`: as over a network.
    pub(super) fn checked() -> Self {
        Self { is_checked: true }
    }

    fn config(&self) -> TcpConfig {
        let mut config = TcpConfig::default();
        config.driver.mux.integrity = self.is_checked;
        config
    }
}

pub(super) struct SinewUnix;

impl Peer for SinewTcp {
    type Sink = SinewSink;
    type Server = SinewServer;
    type Caller = SinewCaller;

    fn name(&self) -> &'static str {
        if self.is_checked { "sinew-tcp-checked" } else { "sinew-tcp" }
    }

    fn about(&self) -> &'static str {
        if self.is_checked {
            "the same with a check behind every frame, both ways; small and large calls, streams \
             and passes only"
        } else {
            "Sinew over TCP: the whole stream contract of `sinew-transport-tcp`, defaults throughout"
        }
    }

    /// A check costs time for each byte and each frame, and nothing while nothing is sent.
    fn runs(&self, shape: &Shape) -> bool {
        let is_sending =
            matches!(shape, Shape::Unary { .. } | Shape::Stream { .. } | Shape::Passes { .. });
        is_sending || !self.is_checked
    }

    async fn serve(&self, service: Arc<Service<SinewSink>>) -> Result<SinewServer> {
        SinewServer::bind(service, self.config(), None)
    }

    async fn connect(&self, address: &str) -> Result<SinewCaller> {
        SinewCaller::new(TcpTransport::new(self.config().checked()?), address)
    }
}

impl Peer for SinewUnix {
    type Sink = SinewSink;
    type Server = SinewServer;
    type Caller = SinewCaller;

    fn name(&self) -> &'static str {
        "sinew-uds"
    }

    fn about(&self) -> &'static str {
        "`sinew-tcp` over a Unix domain socket, which callers on the same host take by themselves"
    }

    async fn serve(&self, service: Arc<Service<SinewSink>>) -> Result<SinewServer> {
        SinewServer::bind(service, TcpConfig::default(), Some(tempfile::tempdir()?))
    }

    async fn connect(&self, address: &str) -> Result<SinewCaller> {
        SinewCaller::new(TcpTransport::unix(TcpConfig::default().checked()?), address)
    }
}

pub(super) struct SinewServer {
    server: TcpServer,
    /// Where the Unix socket is, if there is one. Behind the server, so that it is emptied first.
    _folder: Option<TempDir>,
}

impl SinewServer {
    fn bind(
        service: Arc<Service<SinewSink>>,
        config: TcpConfig,
        folder: Option<TempDir>,
    ) -> Result<Self> {
        let unix_dir = folder.as_ref().map(|folder| folder.path().join("sockets"));
        let config = TcpConfig { unix_dir, ..config }.checked()?;
        let handler = move |request: IncomingRequest<'_>, sink: ResponseSink| {
            service.call(request.body, SinewSink(sink));
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = TcpServer::bind(config, address, Arc::new(handler))?;
        Ok(Self { server, _folder: folder })
    }
}

impl Server for SinewServer {
    fn address(&self) -> String {
        // The best address comes first: the Unix socket when there is one.
        self.server.addresses().first().map(Address::to_string).unwrap_or_default()
    }

    fn writes(&self) -> Option<u64> {
        Some(self.server.writes())
    }
}

#[derive(Clone)]
pub(super) struct SinewCaller {
    transport: TcpTransport,
    address: Address,
    endpoint: EndpointName,
}

impl SinewCaller {
    fn new(transport: TcpTransport, address: &str) -> Result<Self> {
        let address = address.parse().context("the address that the server gave")?;
        Ok(Self { transport, address, endpoint: "bench/peer/ask".parse()? })
    }
}

impl Caller for SinewCaller {
    type Items = SinewItems;

    async fn open(&self, request: Bytes) -> Result<SinewItems> {
        let request = OutgoingRequest::new(self.endpoint.clone(), InstanceId(0), request);
        Ok(SinewItems(self.transport.open(&self.address, request).await?))
    }

    fn writes(&self) -> Option<u64> {
        Some(self.transport.writes())
    }
}

pub(super) struct SinewItems(pub(super) ResponseStream);

impl Stream for SinewItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map_err(anyhow::Error::from)
    }
}

pub(super) struct SinewSink(pub(super) ResponseSink);

impl Sink for SinewSink {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        match self.0.try_send(item.clone()) {
            Ok(()) => Sent::Taken,
            Err(TrySendError::Full(_)) => Sent::Full,
            Err(TrySendError::Closed(_)) => Sent::Closed,
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.0.poll_ready(cx).map(|ready| ready.is_ok())
    }

    fn accept(&mut self) {
        self.0.accept();
    }

    fn flush(&self) {
        self.0.flush();
    }

    fn end(self) {
        self.0.complete();
    }
}
