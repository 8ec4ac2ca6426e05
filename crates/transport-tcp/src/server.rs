//! The serving side: listeners, the connections they accepted, and their end.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use sinew_plane::{
    Address, BoxFuture, Code, DuplexServer, Error, RequestHandler, RequestPlaneHandler,
    RequestPlaneServer, Shutdown,
};
use sinew_telemetry::Side;
use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::{
    CheckedTcpConfig,
    accept::{self, Accept, Admit},
    admission::{Admission, Peer, Place},
    connections::{Arrival, Connections},
    first_bytes::{self, PeerProtocol, TurnedAway},
    request_plane::RequestPlane,
    socket::Socket,
    unix::{self, SocketFile},
};

/// Grace of [`RequestPlaneServer::stop`].
const STOP_GRACE: Duration = Duration::from_secs(30);

/// The serving side over TCP, and beside it over a Unix domain socket when the configuration
/// names a folder for one.
pub struct TcpServer {
    shared: Arc<Shared>,
    bound: Mutex<Option<Bound>>,
}

struct Bound {
    tcp: SocketAddr,
    /// What others are told for it.
    told: Address,
    unix: Option<Arc<SocketFile>>,
}

/// What the listeners and the server share.
pub(crate) struct Shared {
    pub(crate) config: Arc<CheckedTcpConfig>,
    handler: Arc<dyn RequestHandler>,
    /// Takes the requests of callers that speak Dynamo's frames; without it they are closed.
    request_plane: OnceLock<RequestPlane>,
    turned_away: TurnedAway,
    /// Ends the listeners.
    pub(crate) stop_accepting: CancellationToken,
    connections: Arc<Connections>,
    admission: Arc<Admission>,
    /// Connections that are not among `connections`: not yet told apart, or with frames.
    others: AtomicUsize,
}

impl TcpServer {
    /// A server that hands its requests to `handler`. It listens once
    /// [started](RequestPlaneServer::start).
    pub fn new(config: CheckedTcpConfig, handler: Arc<dyn RequestHandler>) -> Self {
        let shared = Shared {
            admission: Arc::new(config.admission()),
            config: Arc::new(config),
            handler,
            request_plane: OnceLock::new(),
            turned_away: TurnedAway::default(),
            stop_accepting: CancellationToken::new(),
            connections: Connections::new(Side::Serving),
            others: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), bound: Mutex::new(None) }
    }

    /// Serves callers that speak Dynamo's request frames too, on the same port. They are told
    /// apart by their first bytes. To be called before the server listens; the first handler
    /// counts.
    ///
    /// While the server drains, requests are refused with `Server unavailable:`; so they are until
    /// the wait of its shutdown ends. What was acknowledged before is the handler's to finish.
    #[must_use]
    pub fn with_request_plane(self, handler: Arc<dyn RequestPlaneHandler>) -> Self {
        let Shared { config, stop_accepting, connections, .. } = &*self.shared;
        let (draining, ending) = (stop_accepting.clone(), connections.ending.clone());
        let plane = RequestPlane::new(handler, Arc::clone(config), draining, ending);
        // Given twice: the first is in use already.
        let _ = self.shared.request_plane.set(plane);
        self
    }

    /// Makes a server and starts it on `address`; port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot be bound, or may not be without `insecure`.
    pub fn bind(
        config: CheckedTcpConfig,
        address: SocketAddr,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<Self, Error> {
        let server = Self::new(config, handler);
        server.listen(address)?;
        Ok(server)
    }

    fn listen(&self, address: SocketAddr) -> Result<(), Error> {
        let config = &self.shared.config;
        let refused = |message: String| Error::new(Code::Exhausted, message);
        config.bind_policy.check(address).map_err(|error| refused(error.to_string()))?;
        let mut bound = self.bound.lock();
        if bound.is_some() || self.shared.stop_accepting.is_cancelled() {
            return Err(refused("the server was started before".to_owned()));
        }
        let listening = listen_tcp(address, config.listen_backlog);
        let (listener, tcp) = listening.map_err(|cause| {
            refused(format!("cannot listen on {address}: {cause}")).with_source(cause)
        })?;
        let unix = match &config.unix_dir {
            Some(dir) => Some(SocketFile::bind(dir).map_err(|cause| {
                let place = dir.display();
                refused(format!("cannot listen on a socket in {place}: {cause}")).with_source(cause)
            })?),
            None => None,
        };
        self.spawn_acceptor(listener);
        let unix = unix.map(|(listener, file)| {
            self.spawn_acceptor(listener);
            let file = Arc::new(file);
            let watching = unix::watch(Arc::downgrade(&file));
            let until = self.shared.stop_accepting.clone();
            self.shared.connections.tasks.spawn(until.run_until_cancelled_owned(watching));
            file
        });
        let told = Address::new("tcp", &config.told(tcp)).unwrap_or_else(|_| Address::tcp(tcp));
        *bound = Some(Bound { tcp, told, unix });
        Ok(())
    }

    fn spawn_acceptor(&self, listener: impl Accept) {
        self.shared.connections.tasks.spawn(accept::run(listener, Arc::clone(&self.shared)));
    }

    /// The TCP address that is bound, with the real port.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.bound.lock().as_ref().map(|bound| bound.tcp)
    }

    /// Connections that are open now, whatever they speak.
    pub fn connections(&self) -> usize {
        self.shared.open()
    }

    /// Writes that reached a socket since the server was made.
    pub fn writes(&self) -> u64 {
        self.shared.connections.writes.load(Ordering::Relaxed)
    }

    async fn finish(&self, grace: Duration) -> Shutdown {
        self.drain();
        let cut_streams = self.shared.connections.end(grace).await;
        self.bound.lock().take();
        Shutdown { cut_streams, cut_tasks: 0 }
    }
}

impl Admit for Shared {
    fn stop_accepting(&self) -> &CancellationToken {
        &self.stop_accepting
    }

    /// Serves an accepted socket, or closes it when there are too many.
    fn admit(self: &Arc<Self>, socket: Socket, peer: Peer) {
        if let Socket::Unix(stream) = &socket
            && let Err(error) = unix::check_peer(stream)
        {
            tracing::debug!(%error, "connection refused");
            return;
        }
        let place = match self.admission.enter(peer, &self.connections.ending) {
            Ok(place) => place,
            Err(full) => {
                tracing::debug!(?peer, ?full, "connection refused: no place is free");
                return;
            }
        };
        if let Err(error) = socket.tune(self.config.mux.keepalive_timeout) {
            tracing::debug!(%error, "a connection was gone before it was set up");
            return;
        }
        let other = Other::new(Arc::clone(self));
        self.connections.tasks.spawn(Arc::clone(self).welcome(socket, other, place));
    }

    fn make_room(&self) {
        self.admission.make_room();
    }
}

impl Shared {
    fn open(&self) -> usize {
        self.connections.count() + self.others.load(Ordering::Relaxed)
    }

    /// Finds out what the peer speaks, and serves it accordingly. A peer that says nothing, or
    /// nothing that is served here, is closed without a word.
    async fn welcome(self: Arc<Self>, socket: Socket, other: Other, place: Place) {
        let hello_until = tokio::time::Instant::now() + self.config.handshake_timeout;
        let mut first = BytesMut::new();
        let protocol = tokio::select! {
            biased;
            // It has asked for nothing yet, so it loses nothing.
            () = self.stop_accepting.cancelled() => return,
            () = place.leave().cancelled() => return,
            () = tokio::time::sleep_until(hello_until) => return,
            protocol = first_bytes::read_protocol(&socket, &mut first) => protocol,
        };
        match protocol {
            Ok(Some(PeerProtocol::Mux)) => {
                drop(other);
                self.serve_mux(socket, first, hello_until, place).await;
            }
            Ok(Some(protocol)) => match self.request_plane.get() {
                Some(plane) if protocol == PeerProtocol::RequestFrames => {
                    let meter = self.connections.meters.of(&socket.transport());
                    let _active = meter.opened();
                    plane.serve(socket, first, place, meter).await;
                }
                _ => self.turned_away.note(protocol),
            },
            Ok(None) | Err(_) => {}
        }
    }

    async fn serve_mux(
        &self,
        socket: Socket,
        first: BytesMut,
        until: tokio::time::Instant,
        place: Place,
    ) {
        let (config, handler) = (Arc::clone(&self.config), Arc::clone(&self.handler));
        let arrival = Arrival { first, place: Some(place) };
        let connection = self.connections.start_accepted(arrival, socket, config, Some(handler));
        if self.stop_accepting.is_cancelled() {
            // The drain has told the connections that it found, and this was not among them.
            connection.close(&Error::draining("the server is shutting down"));
            return;
        }
        if tokio::time::timeout_at(until, connection.established()).await.is_err() {
            let error = Error::new(Code::ConnectTimedOut, "the peer did not say hello in time");
            connection.close(&error);
        }
    }
}

/// Counts a connection that is not among the mux's.
struct Other(Arc<Shared>);

impl Other {
    fn new(shared: Arc<Shared>) -> Self {
        shared.others.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.others.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) fn listen_tcp(
    address: SocketAddr,
    backlog: u32,
) -> io::Result<(TcpListener, SocketAddr)> {
    let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All addresses of the machine, those of IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

impl Accept for TcpListener {
    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (stream, address) = Self::accept(self).await?;
        Ok((Socket::Tcp(stream), Peer::at(address.ip())))
    }
}

impl Accept for UnixListener {
    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((Socket::Unix(stream), Peer::Unix))
    }
}

impl DuplexServer for TcpServer {
    fn addresses(&self) -> Vec<Address> {
        let bound = self.bound.lock();
        let Some(bound) = bound.as_ref() else { return Vec::new() };
        let unix = bound.unix.as_ref().and_then(|file| file.address());
        unix.into_iter().chain([bound.told.clone()]).collect()
    }

    fn drain(&self) {
        self.shared.stop_accepting.cancel();
        for connection in self.shared.connections.all() {
            // Streams on their way are refused one by one, which is as safe to resend.
            connection.drain(u32::MAX);
        }
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(self.finish(grace))
    }
}

impl RequestPlaneServer for TcpServer {
    fn start(&self, bind_address: SocketAddr) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.listen(bind_address) })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.finish(STOP_GRACE).await;
            Ok(())
        })
    }

    fn public_address(&self) -> Option<Address> {
        let bound = self.bound.lock();
        bound.as_ref().map(|bound| bound.told.clone())
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.shared.stop_accepting.cancel();
        self.shared.connections.ending.cancel();
        let error = Error::new(Code::ConnectionLost, "the server was dropped");
        self.shared.connections.close_all(&error);
    }
}

impl std::fmt::Debug for TcpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpServer")
            .field("addresses", &self.addresses())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}
