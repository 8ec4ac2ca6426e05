//! Ports with several protocols, which are told apart by the first bytes of a connection.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use bytes::BytesMut;
use parking_lot::RwLock;
use sinew_plane::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Carrier, Place, read_without_buffer};

/// Most first bytes that the protocols of a port get for their decision. No protocol may need more.
pub const MAX_FIRST_BYTES: usize = 64;

/// The answer of a protocol to the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detect {
    /// The connection uses this protocol, whatever follows.
    Yes,
    /// The connection does not use this protocol, whatever follows.
    No,
    /// More bytes are needed, at most [`MAX_FIRST_BYTES`].
    More,
}

impl Detect {
    /// The answer of a protocol whose connections begin with `preface`, which has at most
    /// [`MAX_FIRST_BYTES`].
    pub fn by_preface(first: &[u8], preface: &[u8]) -> Self {
        if first.starts_with(preface) {
            return Self::Yes;
        }
        if preface.starts_with(first) { Self::More } else { Self::No }
    }
}

/// A protocol of a port.
pub trait Protocol: Send + Sync {
    /// Decides whether a connection that begins with `first`, at least one byte, uses this
    /// protocol. Except for [`Detect::More`], the answer must not change with more bytes.
    fn detect(&self, first: &[u8]) -> Detect;

    /// Takes a connection over and serves it, until its end or until other tasks of the protocol
    /// serve it.
    ///
    /// A protocol that only unwraps bytes replaces [`first`](Accepted::first) and
    /// [`carrier`](Accepted::carrier), and passes the connection to another protocol.
    fn serve(self: Arc<Self>, connection: Accepted) -> BoxFuture<'static, ()>;
}

/// A connection that was accepted.
pub struct Accepted {
    /// The carrier of its bytes.
    pub carrier: Box<dyn Carrier>,
    /// The bytes that were read so far. The carrier does not return them again.
    pub first: BytesMut,
    /// Its place at the listener. Dropping it frees the place.
    pub place: Place,
    /// When the peer's hello has to have arrived, in a protocol that has one.
    pub until: Instant,
    /// Counts it among the connections of the port, until the protocol counts it.
    pub unclassified: UnclassifiedGuard,
    /// Cancelled when the server drains.
    pub draining: CancellationToken,
    /// Cancelled when the grace period of the server's shutdown is over: the connection then has to
    /// end.
    pub ending: CancellationToken,
}

impl fmt::Debug for Accepted {
    /// Without what was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted")
            .field("transport", &self.carrier.transport())
            .field("first_bytes", &self.first.len())
            .finish_non_exhaustive()
    }
}

/// The protocols of one port, and the connections that have not been taken over yet.
#[derive(Default)]
pub struct Port {
    protocols: RwLock<Vec<Arc<dyn Protocol>>>,
    open: Arc<AtomicUsize>,
    rejected: RejectedProtocols,
}

impl Port {
    /// Makes a port with these protocols. The first one that answers yes gets the connection.
    pub fn new(protocols: Vec<Arc<dyn Protocol>>) -> Self {
        Self { protocols: RwLock::new(protocols), ..Self::default() }
    }

    /// Adds a protocol, from the next connection on. It gets connections that all others have
    /// declined.
    pub fn add(&self, protocol: Arc<dyn Protocol>) {
        self.protocols.write().push(protocol);
    }

    /// The number of connections that count here.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection that was just accepted.
    pub fn count(&self) -> UnclassifiedGuard {
        self.open.fetch_add(1, Ordering::Relaxed);
        UnclassifiedGuard(Arc::clone(&self.open))
    }

    /// Detects the protocol of the peer and passes the connection to it. A connection is closed
    /// without an answer if the peer sends nothing in time, or uses none of these protocols. The
    /// same happens if the server drains or the place is needed, because the peer has made no
    /// request yet.
    pub async fn detect_and_serve(&self, mut connection: Accepted) {
        let protocol = {
            let Accepted { carrier, first, place, until, draining, .. } = &mut connection;
            tokio::select! {
                biased;
                () = draining.cancelled() => return,
                () = place.leave().cancelled() => return,
                () = tokio::time::sleep_until(*until) => return,
                protocol = self.detect(&mut **carrier, first) => protocol,
            }
        };
        match protocol {
            Ok(Some(protocol)) => protocol.serve(connection).await,
            Ok(None) => self.rejected.note(&connection.first),
            Err(_) => {}
        }
    }

    /// Reads until a protocol says yes; `None` when all say no, or the peer closes before.
    /// Cancel-safe: what was read is in `first`.
    async fn detect(
        &self,
        carrier: &mut dyn Carrier,
        first: &mut BytesMut,
    ) -> io::Result<Option<Arc<dyn Protocol>>> {
        loop {
            if !first.is_empty() {
                let shown = &first[..first.len().min(MAX_FIRST_BYTES)];
                let mut may_be = false;
                for protocol in self.protocols.read().iter() {
                    match protocol.detect(shown) {
                        Detect::Yes => return Ok(Some(Arc::clone(protocol))),
                        Detect::No => {}
                        Detect::More => may_be = true,
                    }
                }
                if !may_be || shown.len() == MAX_FIRST_BYTES {
                    return Ok(None);
                }
            }
            match read_without_buffer(carrier, first).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// Counts a connection at its [`Port`] until it is dropped.
#[derive(Debug)]
pub struct UnclassifiedGuard(Arc<AtomicUsize>);

impl Drop for UnclassifiedGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What peers began to speak that is not served. Each kind is logged once, so that a scanner does
/// not fill a log.
#[derive(Debug, Default)]
struct RejectedProtocols(AtomicU8);

impl RejectedProtocols {
    fn note(&self, first: &[u8]) {
        let (bit, protocol) = match *first {
            [] => return,
            [0x16, 3, ..] => (1, "TLS"),
            [b'A'..=b'Z', ..] => (2, "HTTP"),
            _ => (4, "something else"),
        };
        if self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tracing::debug!(protocol, "a peer speaks what is not served on this port: closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, net::UnixStream, sync::mpsc};

    use super::*;
    use crate::{Admission, Peer, Socket};

    /// Speaks what begins with its two bytes, and tells what it got.
    struct Two([u8; 2], mpsc::UnboundedSender<Vec<u8>>);

    impl Protocol for Two {
        fn detect(&self, first: &[u8]) -> Detect {
            match first {
                [one] if *one == self.0[0] => Detect::More,
                [one, two, ..] if [*one, *two] == self.0 => Detect::Yes,
                _ => Detect::No,
            }
        }

        fn serve(self: Arc<Self>, connection: Accepted) -> BoxFuture<'static, ()> {
            Box::pin(async move {
                let _ = self.1.send(connection.first.to_vec());
            })
        }
    }

    struct World {
        port: Arc<Port>,
        served: [mpsc::UnboundedReceiver<Vec<u8>>; 2],
        stop: CancellationToken,
    }

    impl World {
        fn new() -> Self {
            let (ab, of_ab) = mpsc::unbounded_channel();
            let (ac, of_ac) = mpsc::unbounded_channel();
            let port = Port::new(vec![Arc::new(Two(*b"ab", ab)), Arc::new(Two(*b"ac", ac))]);
            let (served, stop) = ([of_ab, of_ac], CancellationToken::new());
            Self { port: Arc::new(port), served, stop }
        }

        /// The far end of a connection, and the task that serves the near one.
        fn connect(&self, limit: std::time::Duration) -> (UnixStream, tokio::task::JoinHandle<()>) {
            let (near, far) = UnixStream::pair().unwrap();
            let admission = Arc::new(Admission::new(1, None));
            let connection = Accepted {
                carrier: Box::new(Socket::Unix(near)),
                first: BytesMut::new(),
                place: admission.enter(Peer::Unix, &self.stop).unwrap(),
                until: Instant::now() + limit,
                unclassified: self.port.count(),
                draining: self.stop.clone(),
                ending: self.stop.clone(),
            };
            let port = Arc::clone(&self.port);
            (far, tokio::spawn(async move { port.detect_and_serve(connection).await }))
        }
    }

    const LONG: std::time::Duration = std::time::Duration::from_secs(60);

    #[test]
    fn a_preface_is_known_once_it_is_whole() {
        let detect = |first: &[u8]| Detect::by_preface(first, b"abc");
        for (first, expected) in [
            (&b"a"[..], Detect::More),
            (b"ab", Detect::More),
            (b"abc", Detect::Yes),
            (b"abcd", Detect::Yes),
            (b"b", Detect::No),
            (b"abd", Detect::No),
        ] {
            assert_eq!(detect(first), expected, "{first:?}");
        }
    }

    #[tokio::test]
    async fn each_protocol_gets_its_connections_with_what_was_read() {
        let mut world = World::new();
        for (at, text) in [(0, "ab and more"), (1, "ac"), (0, "ab")] {
            let (far, serving) = world.connect(LONG);
            // In two pieces, the first of which decides nothing.
            for piece in [&text.as_bytes()[..1], &text.as_bytes()[1..]] {
                far.writable().await.unwrap();
                assert_eq!(far.try_write(piece).unwrap(), piece.len());
                tokio::task::yield_now().await;
            }
            let first = world.served[at].recv().await.unwrap();
            assert_eq!(first, text.as_bytes());
            serving.await.unwrap();
        }
        assert_eq!(world.port.connections(), 0);
    }

    #[tokio::test]
    async fn what_nobody_speaks_is_closed_without_a_word() {
        for text in ["x", "ax", "GET / HTTP/1.1"] {
            let world = World::new();
            let (mut far, serving) = world.connect(LONG);
            assert_eq!(world.port.connections(), 1);
            assert_eq!(far.try_write(text.as_bytes()).unwrap(), text.len());
            serving.await.unwrap();
            // With unread input a socket that closes may say so.
            assert_eq!(far.read(&mut [0; 8]).await.unwrap_or(0), 0, "{text}");
            assert_eq!(world.port.connections(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_too_little_is_closed_when_its_time_is_up_or_the_port_ends() {
        let world = World::new();
        let (far, serving) = world.connect(LONG);
        assert_eq!(far.try_write(b"a").unwrap(), 1);
        let began = Instant::now();
        serving.await.unwrap();
        assert_eq!(began.elapsed(), LONG);

        let (_far, serving) = world.connect(LONG);
        world.stop.cancel();
        serving.await.unwrap();
        assert_eq!(began.elapsed(), LONG, "at once");
    }
}
