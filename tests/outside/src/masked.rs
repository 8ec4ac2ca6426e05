//! A transport: the mux over masked bytes, on the port of an ordinary `TcpServer`.
//!
//! Each byte after a caller's preface is inverted. That hides nothing: it stands where TLS would.

use std::{io, pin::Pin, sync::Arc, task::Context, task::Poll, task::ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use sinew_mux_driver::{CheckedDriverConfig, MuxProtocol, MuxTransport};
use sinew_net::{Accepted, Attempt, Carrier, Connector, Detect, Protocol, ReadHalf};
use sinew_net::{SocketConnector, WriteHalf};
use sinew_plane::{Address, BoxFuture, Error, PeerFacts, TransportCapabilities, TransportId};
use tokio::io::{AsyncRead, ReadBuf};

/// Its name, and the scheme of its addresses: `masked://HOST:PORT`.
pub const MASKED: TransportId = TransportId::from_static("masked");
const PREFACE: &[u8] = b"masked 1\n";
/// Most bytes that a write takes and keeps until the socket has room for them.
const KEPT_BYTES: usize = 16 << 10;

/// The calling side. It does not say that it encrypts, as one over TLS would.
pub fn masked_transport(config: CheckedDriverConfig) -> MuxTransport {
    let connector = Arc::new(MaskedConnector(config.socket_connector()));
    let offers = TransportCapabilities::streaming(config.mux.max_message_bytes);
    MuxTransport::new(MASKED, offers, connector, config)
}

struct MaskedConnector(SocketConnector);

impl Connector for MaskedConnector {
    fn attempts<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Vec<Attempt>, Error>> {
        let mask = |socket: Attempt| -> Attempt {
            Box::pin(async { Ok(Box::new(Masked(socket.await?, PREFACE)) as _) })
        };
        Box::pin(async move { Ok(self.0.attempts(address).await?.into_iter().map(mask).collect()) })
    }
}

/// The serving side, for `TcpServer::with_protocol`: takes the mask off for the mux of the server.
pub struct MaskedProtocol(pub Arc<MuxProtocol>);

impl Protocol for MaskedProtocol {
    fn detect(&self, first: &[u8]) -> Detect {
        Detect::by_preface(first, PREFACE)
    }

    fn serve(self: Arc<Self>, mut connection: Accepted) -> BoxFuture<'static, ()> {
        connection.first.advance(PREFACE.len());
        mask(&mut connection.first);
        connection.carrier = Box::new(Masked(connection.carrier, b""));
        Arc::clone(&self.0).serve(connection)
    }
}

fn mask(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
}

type Polled = Poll<io::Result<()>>;

/// A connection, and what is written first on it; or the direction from the peer.
struct Masked<R>(R, &'static [u8]);

impl<R: AsyncRead + Unpin> AsyncRead for Masked<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Polled {
        let before = to.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, to))?;
        mask(&mut to.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl Carrier for Masked<Box<dyn Carrier>> {
    fn transport(&self) -> TransportId {
        MASKED
    }

    fn peer(&self) -> PeerFacts {
        self.0.peer()
    }

    fn split(self: Box<Self>) -> (ReadHalf, Arc<dyn WriteHalf>) {
        let (read, write) = self.0.split();
        let writer = Writer(write, Mutex::new(self.1.into()));
        (Box::new(Masked(read, b"")), Arc::new(writer))
    }
}

/// The direction to the peer, and what the socket has not taken: each write sends that first.
struct Writer(Arc<dyn WriteHalf>, Mutex<BytesMut>);

impl WriteHalf for Writer {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_flush()?;
        let mut kept = self.1.lock();
        kept.extend_from_slice(&bytes[..bytes.len().min(KEPT_BYTES)]);
        mask(&mut kept);
        Ok(kept.len())
    }

    fn try_flush(&self) -> io::Result<()> {
        let mut kept = self.1.lock();
        while !kept.is_empty() {
            match self.0.try_write(&kept)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => kept.advance(written),
            }
        }
        self.0.try_flush()
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Polled {
        self.0.poll_writable(cx)
    }

    fn shutdown(&self) {
        self.0.shutdown();
    }
}
