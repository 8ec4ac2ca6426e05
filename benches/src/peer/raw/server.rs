//! The serving side.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sinew_plane::burst;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    task::JoinSet,
};

use super::{
    frame::{self, Kind, READ_BYTES},
    link::{Link, Writes},
};
use crate::{Sent, Server, Service, Sink};

pub(in crate::peer) struct RawServer {
    address: SocketAddr,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
    /// The listener, which owns the connections; all end with the server.
    _tasks: JoinSet<()>,
}

impl RawServer {
    pub(super) async fn bind(service: Arc<Service<RawSink>>, writes: Writes) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let links = Arc::<Mutex<Vec<Arc<Link>>>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, service, writes, Arc::clone(&links)));
        Ok(Self { address, links, _tasks: tasks })
    }
}

impl Server for RawServer {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn writes(&self) -> Option<u64> {
        let writes = |link: &Arc<Link>| AtomicU64::load(&link.writes, Ordering::Relaxed);
        Some(self.links.lock().iter().map(writes).sum())
    }
}

async fn accept(
    listener: TcpListener,
    service: Arc<Service<RawSink>>,
    writes: Writes,
    links: Arc<Mutex<Vec<Arc<Link>>>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        if socket.set_nodelay(true).is_err() {
            continue;
        }
        let (read, write) = TcpStream::into_split(socket);
        let link = Arc::new(Link::new(write, writes));
        links.lock().push(Arc::clone(&link));
        connections.spawn(Arc::clone(&link).run_writer());
        connections.spawn(read_requests(link, read, Arc::clone(&service)));
    }
}

async fn read_requests(link: Arc<Link>, mut half: OwnedReadHalf, service: Arc<Service<RawSink>>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match half.read_buf(&mut buffer).await {
            Ok(bytes) if bytes > 0 => {}
            _ => break,
        }
        // What is answered at once leaves in one write for all requests of this read.
        let understood = burst(|| -> Result<()> {
            while let Some(frame) = frame::next(&mut buffer)? {
                link.streams.fetch_add(1, Ordering::Relaxed);
                let sink = RawSink { link: Arc::clone(&link), stream: frame.stream };
                service.call(frame.payload, sink);
            }
            Ok(())
        });
        if understood.is_err() {
            break;
        }
    }
    link.close();
}

/// The sending end of one stream: a connection and a number.
pub(in crate::peer) struct RawSink {
    link: Arc<Link>,
    stream: u32,
}

impl Sink for RawSink {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        if self.link.is_closed() {
            Sent::Closed
        } else if self.link.push_within_room(Kind::Item, self.stream, item) {
            Sent::Taken
        } else {
            Sent::Full
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.link.poll_room(cx)
    }

    fn flush(&self) {
        self.link.write_out();
    }

    fn end(self) {
        self.link.push(Kind::End, self.stream, &Bytes::new());
        self.link.write_out();
    }

    fn end_with(self, item: &Bytes) {
        // Without asking for room: each request brings one, and the callers wait for it.
        self.link.push(Kind::Last, self.stream, item);
        self.link.write_out();
    }
}

impl Drop for RawSink {
    fn drop(&mut self) {
        self.link.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
