//! The serving side: its listeners, their connections, and the shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use parking_lot::Mutex;
use sinew_mux_driver::{ConnectionSet, MuxProtocol};
use sinew_net::{
    Accept, Accepted, Admission, Admit, Peer, Port, Protocol, Socket, SocketFile,
    accept_connections, check_unix_peer, listen_tcp, watch_socket_file,
};
use sinew_plane::{
    Address, BoxFuture, Code, DuplexServer, Error, RequestHandler, RequestPlaneServer, Shutdown,
};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::CheckedTcpConfig;

/// Grace of [`RequestPlaneServer::stop`].
const STOP_GRACE: Duration = Duration::from_secs(30);

/// The serving side over TCP, and also over a Unix domain socket if the configuration names a
/// folder for one.
pub struct TcpServer {
    shared: Arc<Shared>,
    bound: Mutex<Option<Bound>>,
}

struct Bound {
    /// What was bound, and the address to advertise.
    tcp: Option<(SocketAddr, Address)>,
    unix: Option<Arc<SocketFile>>,
}

/// What the listeners and the server share.
struct Shared {
    config: CheckedTcpConfig,
    port: Arc<Port>,
    mux: Arc<MuxProtocol>,
    /// The server drains: a connection is accepted only where a stream may have lost its own.
    draining: CancellationToken,
    /// Ends the listeners.
    stop_accepting: CancellationToken,
    admission: Arc<Admission>,
}

impl TcpServer {
    /// Makes a server that passes its requests to `handler`. It listens once
    /// [started](RequestPlaneServer::start).
    pub fn new(config: CheckedTcpConfig, handler: Arc<dyn RequestHandler>) -> Self {
        let mux = Arc::new(MuxProtocol::new(config.driver.clone(), handler));
        let shared = Shared {
            admission: Arc::new(config.listen.admission(config.driver.budget.as_deref())),
            config,
            port: Arc::new(Port::new(vec![Arc::clone(&mux) as _])),
            mux,
            draining: CancellationToken::new(),
            stop_accepting: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared), bound: Mutex::new(None) }
    }

    /// Adds a protocol to the port, from the next connection on. If several protocols accept the
    /// same first bytes, the one added first gets the connection; the mux is the first of all.
    ///
    /// When the server shuts down, it ends the connections of all its protocols, within the grace
    /// period. A protocol whose connections carry the mux passes them to [`mux`](Self::mux). The
    /// address of a protocol with a scheme of its own is that scheme with the host and port of the
    /// server.
    #[must_use]
    pub fn with_protocol(self, protocol: Arc<dyn Protocol>) -> Self {
        self.shared.port.add(protocol);
        self
    }

    /// The mux of the server, for a protocol that unwraps connections. Connections that it passes
    /// to the mux are drained, counted and ended like all others.
    pub fn mux(&self) -> Arc<MuxProtocol> {
        Arc::clone(&self.shared.mux)
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

    /// Makes a server and starts it on a Unix domain socket in [`TcpConfig::unix_dir`] alone, where
    /// only processes of this user and of root reach it.
    ///
    /// [`TcpConfig::unix_dir`]: crate::TcpConfig::unix_dir
    ///
    /// # Errors
    /// No folder is configured, or the socket cannot be made.
    pub fn bind_unix(
        config: CheckedTcpConfig,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<Self, Error> {
        let server = Self::new(config, handler);
        let Some(unix) = server.listen_unix()? else {
            return Err(refused("no folder for a Unix socket is configured".to_owned()));
        };
        *server.bound.lock() = Some(Bound { tcp: None, unix: Some(server.accept_unix(unix)) });
        Ok(server)
    }

    fn listen(&self, address: SocketAddr) -> Result<(), Error> {
        let CheckedTcpConfig { listen, .. } = &self.shared.config;
        listen.bind_policy.check(address).map_err(|error| refused(error.to_string()))?;
        let mut bound = self.bound.lock();
        if bound.is_some() || self.shared.draining.is_cancelled() {
            return Err(refused("the server was started before".to_owned()));
        }
        let listening = listen_tcp(address, listen.backlog);
        let (listener, tcp) = listening.map_err(|cause| {
            refused(format!("cannot listen on {address}: {cause}")).with_source(cause)
        })?;
        let unix = self.listen_unix()?;
        self.spawn_acceptor(listener);
        let unix = unix.map(|unix| self.accept_unix(unix));
        let advertised = Address::new("tcp", &listen.advertised(tcp));
        let advertised = advertised.unwrap_or_else(|_| Address::tcp(tcp));
        *bound = Some(Bound { tcp: Some((tcp, advertised)), unix });
        Ok(())
    }

    /// Makes the Unix socket, if the configuration names a folder for one.
    fn listen_unix(&self) -> Result<Option<(UnixListener, SocketFile)>, Error> {
        let Some(dir) = &self.shared.config.unix_dir else { return Ok(None) };
        let made = SocketFile::bind(dir).map_err(|cause| {
            let place = dir.display();
            refused(format!("cannot listen on a socket in {place}: {cause}")).with_source(cause)
        });
        made.map(Some)
    }

    fn accept_unix(&self, (listener, file): (UnixListener, SocketFile)) -> Arc<SocketFile> {
        self.spawn_acceptor(listener);
        let file = Arc::new(file);
        let watching = watch_socket_file(Arc::downgrade(&file));
        let until = self.shared.stop_accepting.clone();
        self.shared.connections().spawn(until.run_until_cancelled_owned(watching));
        file
    }

    fn spawn_acceptor(&self, listener: impl Accept) {
        self.shared.connections().spawn(accept_connections(listener, Arc::clone(&self.shared)));
    }

    /// The TCP address that was bound, with its port.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.bound.lock().as_ref()?.tcp.as_ref().map(|(address, _)| *address)
    }

    /// The number of open connections, of all protocols.
    pub fn connections(&self) -> usize {
        self.shared.open()
    }

    /// The number of writes to sockets since the server was made.
    pub fn writes(&self) -> u64 {
        self.shared.connections().writes()
    }

    async fn finish(&self, grace: Duration) -> Shutdown {
        self.drain();
        let connections = self.shared.connections();
        connections.settle(grace).await;
        self.shared.stop_accepting.cancel();
        let cut_streams = connections.end(Duration::ZERO).await;
        self.bound.lock().take();
        Shutdown { cut_streams, cut_tasks: 0 }
    }
}

fn refused(message: String) -> Error {
    Error::new(Code::Exhausted, message)
}

impl Admit for Shared {
    fn stop_accepting(&self) -> &CancellationToken {
        &self.stop_accepting
    }

    /// Serves an accepted socket, or closes it when there are too many.
    fn admit(self: &Arc<Self>, socket: Socket, peer: Peer) {
        let is_draining = self.draining.is_cancelled();
        if is_draining && !self.connections().has_streams() {
            // Closed at once, which sends the caller elsewhere.
            return;
        }
        if let Socket::Unix(stream) = &socket
            && let Err(error) = check_unix_peer(stream)
        {
            tracing::debug!(%error, "connection refused");
            return;
        }
        let place = match self.admission.enter(peer, self.connections().ending()) {
            Ok(place) => place,
            Err(full) => {
                tracing::debug!(?peer, ?full, "connection refused: no place is free");
                return;
            }
        };
        if let Err(error) = socket.tune(self.config.driver.mux.keepalive_timeout) {
            tracing::debug!(%error, "a connection was gone before it was set up");
            return;
        }
        let connection = Accepted {
            carrier: Box::new(socket),
            first: BytesMut::new(),
            place,
            until: tokio::time::Instant::now() + self.config.driver.handshake_timeout,
            unclassified: self.port.count(),
            draining: if is_draining { &self.stop_accepting } else { &self.draining }.clone(),
            ending: self.connections().ending().clone(),
        };
        let port = Arc::clone(&self.port);
        self.connections().spawn(async move { port.detect_and_serve(connection).await });
    }

    fn make_room(&self) {
        self.admission.make_room();
    }
}

impl Shared {
    /// The connections that speak the mux, and the tasks of all.
    fn connections(&self) -> &Arc<ConnectionSet> {
        self.mux.connections()
    }

    fn open(&self) -> usize {
        self.connections().count() + self.port.connections()
    }
}

impl DuplexServer for TcpServer {
    fn addresses(&self) -> Vec<Address> {
        let bound = self.bound.lock();
        let Some(bound) = bound.as_ref() else { return Vec::new() };
        let unix = bound.unix.as_ref().and_then(|file| file.address());
        let tcp = bound.tcp.as_ref().map(|(_, advertised)| advertised.clone());
        unix.into_iter().chain(tcp).collect()
    }

    fn drain(&self) {
        self.shared.draining.cancel();
        self.shared.mux.drain();
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
        self.bound.lock().as_ref()?.tcp.as_ref().map(|(_, advertised)| advertised.clone())
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.shared.draining.cancel();
        self.shared.stop_accepting.cancel();
        self.shared.connections().ending().cancel();
        let error = Error::new(Code::ConnectionLost, "the server was dropped");
        self.shared.connections().close_all(&error);
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
