//! A caller of the mux that is driven by hand, and what a process holds.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use sinew_mux::{Event, Inbound, MuxConfig, Open, Outbound, Role};
use sinew_plane::{InstanceId, StreamId, Terminal, Window};

use crate::world::{LIMIT, Server};

const WINDOW: Window = Window { items: 16_384, bytes: 1 << 20 };

/// One connection on which nothing is read or granted unless it is said.
pub(crate) struct RawMux {
    socket: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    buffer: BytesMut,
    /// The server asks for checks of frames.
    pub(crate) integrity: bool,
}

impl RawMux {
    /// Connects and exchanges hellos; `None` when the server closes instead.
    pub(crate) fn greet(at: SocketAddr) -> Option<Self> {
        let config = MuxConfig::default().checked().unwrap();
        let socket = TcpStream::connect_timeout(&at, LIMIT).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.set_write_timeout(Some(LIMIT)).unwrap();
        let mut peer = Self {
            socket,
            inbound: Inbound::new(Role::Dialler, &config, Instant::now()),
            outbound: Outbound::new(Role::Dialler, &config),
            buffer: BytesMut::new(),
            integrity: false,
        };
        peer.write();
        let Some(Event::Hello(hello)) = peer.next() else { return None };
        peer.integrity = hello.integrity;
        peer.outbound.on_hello(hello);
        Some(peer)
    }

    /// Sends what waits. False when the connection is gone.
    fn write(&mut self) -> bool {
        let batch = self.outbound.take_batch();
        let bytes: Vec<u8> = batch.parts().flatten().copied().collect();
        self.socket.write_all(&bytes).is_ok()
    }

    /// Opens a stream with this body, of which a byte changes on the way.
    pub(crate) fn open_damaged(&mut self, name: &str, body: &'static str) {
        let open = Open::new(another_stream(), name, InstanceId(0), WINDOW);
        self.outbound.open(&open, &Bytes::from(body)).unwrap();
        let batch = self.outbound.take_batch();
        let mut bytes: Vec<u8> = batch.parts().flatten().copied().collect();
        let at = bytes.windows(body.len()).position(|part| part == body.as_bytes()).unwrap();
        bytes[at] ^= 1;
        self.socket.write_all(&bytes).unwrap();
    }

    /// Opens a stream twice under one id.
    pub(crate) fn open_twice(&mut self, name: &str) {
        let id = another_stream();
        for _ in 0..2 {
            let open = Open::new(id, name, InstanceId(0), WINDOW);
            self.outbound.open(&open, &Bytes::new()).unwrap();
        }
        assert!(self.write());
    }

    /// The items of the next stream to its end; `None` when the connection ends first.
    pub(crate) fn next_response(&mut self) -> Option<(Vec<Bytes>, Terminal)> {
        let mut all = Vec::new();
        loop {
            match self.next()? {
                Event::Items { items, .. } => all.extend(items),
                Event::Ended { terminal, .. } => return Some((all, terminal)),
                _ => {}
            }
        }
    }

    /// Opens a stream with the whole body but for the last `missing` bytes.
    pub(crate) fn open(&mut self, name: &str, body: &Bytes, missing: usize) -> Option<u32> {
        let open = Open::new(another_stream(), name, InstanceId(0), WINDOW);
        let (stream, mut sent) = self.outbound.open(&open, body).ok()?;
        while sent < body.len() - missing {
            sent = self.outbound.body_chunk(stream, body, sent);
            if !self.write() {
                return None;
            }
        }
        self.write().then_some(stream)
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.inbound.poll_event(Instant::now()).unwrap() {
                return Some(event);
            }
            if self.inbound.ingest(&mut self.buffer).unwrap() {
                continue;
            }
            let mut chunk = vec![0; 64 << 10];
            match self.socket.read(&mut chunk) {
                Ok(bytes @ 1..) => self.buffer.extend_from_slice(&chunk[..bytes]),
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// Waits for an item, of whatever stream.
    pub(crate) fn next_item(&mut self) {
        while !matches!(self.next().unwrap(), Event::Items { .. }) {}
    }

    /// How the next stream ends.
    pub(crate) fn next_end(&mut self) -> Option<Terminal> {
        loop {
            if let Event::Ended { terminal, .. } = self.next()? {
                return Some(terminal);
            }
        }
    }
}

/// An id that no other stream has: one that is used twice is refused.
fn another_stream() -> StreamId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    StreamId(NEXT.fetch_add(1, Ordering::Relaxed).into())
}

/// A line of `/proc/PID/status` in bytes: `VmRSS`, `VmHWM`.
pub(crate) fn memory(server: &Server, what: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Where the server listens.
pub(crate) fn address(server: &Server) -> SocketAddr {
    let line = server.said.last().unwrap();
    let rest = line.split_once("tcp://").unwrap().1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).unwrap();
    rest[..end].trim_end_matches(':').parse().unwrap()
}
