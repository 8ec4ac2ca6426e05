//! `raw-conn`: tokio's TCP with a connection for each request that is under way.

use std::{
    net::Ipv4Addr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use anyhow::Result;
use bytes::Bytes;
use futures_core::Stream;
use parking_lot::Mutex;
use sinew_benches::{Caller, Peer, Server, Service, Shape};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

use crate::{
    MAX_FILES,
    wire::{FrameReader, Half, WireSink, frame},
};

pub(crate) struct RawConn;

impl Peer for RawConn {
    type Sink = WireSink<SharedHalf>;
    type Server = Listening;
    type Caller = Pool;

    fn name(&self) -> &'static str {
        "raw-conn"
    }

    fn about(&self) -> &'static str {
        "minimal frames on tokio TCP with a connection for each caller and each stream, kept for \
         the next one; one write for what is flushed at once"
    }

    fn runs(&self, shape: &Shape) -> bool {
        shape.streams() <= MAX_FILES
    }

    async fn serve(&self, service: Arc<Service<Self::Sink>>) -> Result<Listening> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let writes = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, service, Arc::clone(&writes)));
        Ok(Listening { address, writes, _tasks: tasks })
    }

    async fn connect(&self, address: &str) -> Result<Pool> {
        Ok(Pool(Arc::new(Connections { address: address.to_owned(), idle: Mutex::default() })))
    }
}

pub(crate) struct Listening {
    address: String,
    writes: Arc<AtomicU64>,
    /// The listener, which owns its connections; all end with the server.
    _tasks: JoinSet<()>,
}

impl Server for Listening {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn writes(&self) -> Option<u64> {
        Some(self.writes.load(Ordering::Relaxed))
    }
}

async fn accept(
    listener: TcpListener,
    service: Arc<Service<WireSink<SharedHalf>>>,
    writes: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(answer(socket, Arc::clone(&service), Arc::clone(&writes)));
    }
}

/// Requests of one connection: the caller sends the next after the end of a response.
async fn answer(
    socket: TcpStream,
    service: Arc<Service<WireSink<SharedHalf>>>,
    writes: Arc<AtomicU64>,
) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let (read, write) = socket.into_split();
    let write = Arc::new(Mutex::new(write));
    let mut requests = FrameReader::new(read);
    while let Ok(Some(body)) = requests.next().await {
        let sink = WireSink::new(SharedHalf(Arc::clone(&write)), Arc::clone(&writes));
        service.call(body, sink);
    }
}

/// The writing half, lent to one response after the other.
pub(crate) struct SharedHalf(Arc<Mutex<OwnedWriteHalf>>);

impl AsyncWrite for SharedHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Half for SharedHalf {
    /// The connection stays for the next request.
    fn finish(&mut self) {}
}

/// Connections that are not in use, and where to make more.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Connections>);

struct Connections {
    address: String,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    items: FrameReader<OwnedReadHalf>,
    requests: OwnedWriteHalf,
}

impl Caller for Pool {
    type Items = Items;

    async fn open(&self, request: Bytes) -> Result<Items> {
        let idle = self.0.idle.lock().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                let socket = TcpStream::connect(&self.0.address).await?;
                socket.set_nodelay(true)?;
                let (read, requests) = socket.into_split();
                Connection { items: FrameReader::new(read), requests }
            }
        };
        connection.requests.write_all(&frame(&request)).await?;
        Ok(Items { connection: Some(connection), pool: Arc::clone(&self.0) })
    }

    fn writes(&self) -> Option<u64> {
        None
    }
}

/// A response, with the connection it comes on. Dropped before its end it takes that along.
pub(crate) struct Items {
    connection: Option<Connection>,
    pool: Arc<Connections>,
}

impl Stream for Items {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
        let item = ready!(connection.items.poll_next(cx)).transpose();
        if item.is_none() {
            this.pool.idle.lock().extend(this.connection.take());
        }
        Poll::Ready(item)
    }
}
