//! A carrier in memory, and a place where callers and servers meet.
//!
//! As TLS does, it says that it encrypts, and takes bytes that its own carrier has no room for, and keeps them until they are
//! flushed: what the driver forgets to flush never arrives.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use sinew_mux_driver::{CheckedDriverConfig, MuxProtocol, MuxTransport};
use sinew_net::{
    Accepted, Admission, Attempt, Carrier, Connector, Peer, Port, ReadHalf, WriteHalf,
};
use sinew_plane::{
    Address, BoxFuture, DuplexServer, Error, LatencyClass, PeerFacts, RequestHandler, Shutdown,
    TransportCapabilities, TransportId,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// The transport's name and the scheme of its addresses.
pub(crate) const PIPE: TransportId = TransportId::from_static("pipe");

/// Bytes that are on their way in one direction at the most, and that a carrier keeps.
const ROOM_BYTES: usize = 16 << 10;

/// One end of a connection.
pub(crate) struct Pipe(DuplexStream);

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, room)
    }
}

impl Carrier for Pipe {
    fn transport(&self) -> TransportId {
        PIPE
    }

    fn peer(&self) -> PeerFacts {
        PeerFacts::same_host(None).with_encryption(true)
    }

    fn split(self: Box<Self>) -> (ReadHalf, Arc<dyn WriteHalf>) {
        let (read, write) = tokio::io::split(self.0);
        let state = Sending { pipe: write, kept: BytesMut::new() };
        (Box::new(read), Arc::new(PipeWriter(Mutex::new(state))))
    }
}

struct PipeWriter(Mutex<Sending>);

struct Sending {
    pipe: tokio::io::WriteHalf<DuplexStream>,
    kept: BytesMut,
}

impl Sending {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, &self.kept))?;
            self.kept.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl WriteHalf for PipeWriter {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sending = self.0.lock();
        let room = ROOM_BYTES - sending.kept.len();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = room.min(bytes.len());
        sending.kept.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn try_flush(&self) -> io::Result<()> {
        let flushed = self.0.lock().poll_flush(&mut Context::from_waker(Waker::noop()));
        match flushed {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_flush(cx)
    }

    fn shutdown(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        // It is in memory, so it never waits.
        let _ = Pin::new(&mut self.0.lock().pipe).poll_shutdown(&mut cx);
    }
}

/// The servers of a test by their names.
#[derive(Default)]
pub(crate) struct Hub(Mutex<HashMap<String, Arc<Listening>>>);

struct Listening {
    port: Port,
    mux: MuxProtocol,
    admission: Arc<Admission>,
    draining: CancellationToken,
}

impl Listening {
    /// Takes a connection; its other end.
    fn accept(self: &Arc<Self>) -> io::Result<Pipe> {
        let (near, far) = tokio::io::duplex(ROOM_BYTES);
        let ending = self.mux.connections().ending();
        let full = |_| io::Error::other("no place is free");
        let connection = Accepted {
            carrier: Box::new(Pipe(far)),
            first: BytesMut::new(),
            place: self.admission.enter(Peer::Unix, ending).map_err(full)?,
            until: Instant::now() + Duration::from_secs(5),
            unclassified: self.port.count(),
            draining: self.draining.clone(),
            ending: ending.clone(),
        };
        let this = Arc::clone(self);
        self.mux.connections().spawn(async move { this.port.detect_and_serve(connection).await });
        Ok(Pipe(near))
    }
}

impl Connector for Hub {
    fn attempts<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Vec<Attempt>, Error>> {
        let listening = self.0.lock().get(address.rest()).map(Arc::clone);
        let attempt = async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let listening = listening.ok_or_else(refused)?;
            if listening.draining.is_cancelled() {
                return Err(refused());
            }
            Ok(Box::new(listening.accept()?) as Box<dyn Carrier>)
        };
        Box::pin(async move { Ok(vec![Box::pin(attempt) as Attempt]) })
    }
}

/// A server of the mux that callers reach through a [`Hub`].
pub(crate) struct PipeServer {
    address: Address,
    listening: Arc<Listening>,
}

impl PipeServer {
    pub(crate) fn new(
        hub: &Hub,
        config: CheckedDriverConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> Self {
        let mux = MuxProtocol::new(config, handler);
        let listening = Arc::new(Listening {
            port: Port::new(vec![Arc::new(mux.clone())]),
            mux,
            admission: Arc::new(Admission::new(1_000, Some(1_000))),
            draining: CancellationToken::new(),
        });
        let mut servers = hub.0.lock();
        let name = servers.len().to_string();
        let address = Address::new("pipe", &name).unwrap();
        servers.insert(name, Arc::clone(&listening));
        Self { address, listening }
    }
}

impl DuplexServer for PipeServer {
    fn addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }

    fn drain(&self) {
        self.listening.draining.cancel();
        self.listening.mux.drain();
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            self.drain();
            let cut_streams = self.listening.mux.connections().end(grace).await;
            Shutdown { cut_streams, cut_tasks: 0 }
        })
    }
}

/// The calling side over such carriers.
pub(crate) fn client(hub: &Arc<Hub>, config: CheckedDriverConfig) -> MuxTransport {
    let offers = TransportCapabilities::streaming(config.mux.max_message_bytes)
        .with_latency(LatencyClass::Host)
        .with_encryption(true);
    MuxTransport::new(PIPE, offers, Arc::clone(hub) as _, config)
}
