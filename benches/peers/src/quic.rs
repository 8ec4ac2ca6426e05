//! `quic`: a QUIC stream for each request, on one connection.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_core::Stream;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig, VarInt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sinew_benches::{Caller, Peer, Server, Service};
use tokio::task::JoinSet;

use crate::wire::{FrameReader, Half, WireSink, frame};

const NAME: &str = "localhost";

/// Streams that may be open at once: quinn's own limit of 100 is below what is asked for here.
const MAX_STREAMS: VarInt = VarInt::from_u32(20_000);

pub(crate) struct Quic;

impl Peer for Quic {
    type Sink = WireSink<SendStream>;
    type Server = QuicServer;
    type Caller = QuicCaller;

    fn name(&self) -> &'static str {
        "quic"
    }

    fn about(&self) -> &'static str {
        "quinn 0.11, one connection and a bidirectional stream for each request, items behind a \
         length; with TLS, which QUIC cannot be without; defaults but for 20,000 streams at once \
         instead of 100"
    }

    async fn serve(&self, service: Arc<Service<Self::Sink>>) -> Result<QuicServer> {
        let certified = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let certificate = certified.cert.der().clone();
        let mut config =
            ServerConfig::with_single_cert(vec![certificate.clone()], PrivateKeyDer::Pkcs8(key))?;
        let transport = Arc::get_mut(&mut config.transport).context("a new configuration")?;
        transport.max_concurrent_bidi_streams(MAX_STREAMS);
        let endpoint = Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = format!("{} {}", endpoint.local_addr()?, hexadecimal(&certificate));
        let writes = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(endpoint, service, writes));
        Ok(QuicServer { address, _tasks: tasks })
    }

    async fn connect(&self, address: &str) -> Result<QuicCaller> {
        let (address, certificate) = address.split_once(' ').context("no certificate")?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(bytes_of(certificate)?))?;
        let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
        let connection = endpoint.connect(address.parse()?, NAME)?.await?;
        Ok(QuicCaller { connection, _endpoint: endpoint })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(digits: &str) -> Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

pub(crate) struct QuicServer {
    address: String,
    /// The endpoint, which owns its connections; all end with the server.
    _tasks: JoinSet<()>,
}

impl Server for QuicServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    /// quinn sends from its own tasks; what it is given says little about packets.
    fn writes(&self) -> Option<u64> {
        None
    }
}

type QuicService = Service<WireSink<SendStream>>;

async fn accept(endpoint: Endpoint, service: Arc<QuicService>, writes: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while connections.try_join_next().is_some() {}
        let (service, writes) = (Arc::clone(&service), Arc::clone(&writes));
        connections.spawn(async move {
            if let Ok(connection) = incoming.await {
                answer(connection, service, writes).await;
            }
        });
    }
}

async fn answer(connection: Connection, service: Arc<QuicService>, writes: Arc<AtomicU64>) {
    let mut requests = JoinSet::new();
    while let Ok((send, receive)) = connection.accept_bi().await {
        while requests.try_join_next().is_some() {}
        let (service, writes) = (Arc::clone(&service), Arc::clone(&writes));
        requests.spawn(async move {
            if let Ok(Some(body)) = FrameReader::new(receive).next().await {
                service.call(body, WireSink::new(send, writes));
            }
        });
    }
}

impl Half for SendStream {
    fn finish(&mut self) {
        // It fails when the stream has been reset, and then nobody waits for its end.
        let _ = SendStream::finish(self);
    }
}

#[derive(Clone)]
pub(crate) struct QuicCaller {
    connection: Connection,
    /// Ends with the last clone.
    _endpoint: Endpoint,
}

impl Caller for QuicCaller {
    type Items = QuicItems;

    async fn open(&self, request: Bytes) -> Result<QuicItems> {
        let (mut send, receive) = self.connection.open_bi().await?;
        send.write_all(&frame(&request)).await?;
        send.finish()?;
        Ok(QuicItems(FrameReader::new(receive)))
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

pub(crate) struct QuicItems(FrameReader<RecvStream>);

impl Stream for QuicItems {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx).map(Result::transpose)
    }
}
