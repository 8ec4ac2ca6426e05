//! A peer of the mux that is driven by hand, so that it can leave out what it likes.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use sinew_mux::{Event, Inbound, MuxConfig, Open, Outbound, Role};
use sinew_plane::{InstanceId, ProcessId, StreamId, Terminal, Window};
use sinew_transport_tcp::TcpServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixture::soon;

/// One connection, without any task: nothing is read, answered or granted unless it is said.
pub(crate) struct MuxPeer {
    socket: TcpStream,
    inbound: Inbound,
    pub(crate) outbound: Outbound,
    buffer: BytesMut,
}

impl MuxPeer {
    /// Connects and exchanges hellos.
    pub(crate) async fn greet(server: &TcpServer) -> Self {
        Self::greet_over(TcpStream::connect(server.local_address().unwrap()).await.unwrap()).await
    }

    /// Connects and exchanges hellos, as one of this process, which resumes.
    pub(crate) async fn greet_as(server: &TcpServer, process: ProcessId) -> Self {
        let socket = TcpStream::connect(server.local_address().unwrap()).await.unwrap();
        Self::greet_with(socket, MuxConfig { process, ..MuxConfig::default() }).await
    }

    /// Exchanges hellos over a connection that is made already.
    pub(crate) async fn greet_over(socket: TcpStream) -> Self {
        Self::greet_with(socket, MuxConfig::default()).await
    }

    async fn greet_with(socket: TcpStream, config: MuxConfig) -> Self {
        let config = config.checked().unwrap();
        let mut peer = Self {
            socket,
            inbound: Inbound::new(Role::Dialler, &config, Instant::now()),
            outbound: Outbound::new(Role::Dialler, &config),
            buffer: BytesMut::new(),
        };
        peer.write().await;
        match peer.next().await {
            Some(Event::Hello(hello)) => peer.outbound.on_hello(hello),
            other => panic!("not a hello: {other:?}"),
        }
        peer
    }

    /// Sends what waits. False when the connection is gone.
    pub(crate) async fn write(&mut self) -> bool {
        let mut bytes = Vec::new();
        loop {
            let batch = self.outbound.take_batch();
            if batch.is_empty() {
                break;
            }
            batch.parts().for_each(|part| bytes.extend_from_slice(part));
        }
        soon("the peer to take bytes", self.socket.write_all(&bytes)).await.is_ok()
    }

    /// Opens a stream and sends so many bytes of its body, in chunks.
    pub(crate) async fn open(&mut self, body: &Bytes, bytes: usize, window: Window) -> Option<u32> {
        let open = Open::new(StreamId::random(), "test/tcp/echo", InstanceId(0), window);
        let (stream, mut sent) = self.outbound.open(&open, body).ok()?;
        while sent < bytes {
            sent = self.outbound.body_chunk(stream, body, sent);
            if !self.write().await {
                return None;
            }
        }
        self.write().await.then_some(stream)
    }

    /// The next event; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.inbound.poll_event(Instant::now()).unwrap() {
                return Some(event);
            }
            if self.inbound.ingest(&mut self.buffer).unwrap() {
                continue;
            }
            let read = soon("bytes", self.socket.read_buf(&mut self.buffer)).await;
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    /// Reads on until a stream ends; its number and end, and the items of all streams until then.
    pub(crate) async fn next_end(&mut self) -> Option<(u32, Terminal, usize)> {
        let mut items = 0;
        loop {
            match self.next().await? {
                Event::Ended { stream, terminal, .. } => return Some((stream, terminal, items)),
                Event::Items { items: more, .. } => items += more.count() as usize,
                _ => {}
            }
        }
    }
}
