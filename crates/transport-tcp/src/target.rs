//! One address that a client keeps a connection to.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use sinew_mux::Role;
use sinew_plane::{Address, Code, Error, Executed};
use tokio::net::{TcpStream, UnixStream};

use crate::{CheckedTcpConfig, connection::Connection, connections::Connections, socket::Socket};

/// One address, the connection to it that all requests share, and how the last dials went.
pub(crate) struct Target {
    address: Address,
    config: Arc<CheckedTcpConfig>,
    connections: Arc<Connections>,
    current: ArcSwapOption<Connection>,
    /// Held by the one who dials; all others wait for what comes of it.
    dialling: tokio::sync::Mutex<()>,
    failure: Mutex<Option<Failure>>,
}

/// A failed dial: until the pause is over, everyone gets its error at once.
struct Failure {
    error: Error,
    pause: Duration,
    retry_at: Instant,
}

impl Target {
    pub(crate) fn new(
        address: Address,
        config: Arc<CheckedTcpConfig>,
        connections: Arc<Connections>,
    ) -> Self {
        Self {
            address,
            config,
            connections,
            current: ArcSwapOption::empty(),
            dialling: tokio::sync::Mutex::new(()),
            failure: Mutex::new(None),
        }
    }

    /// The live connection, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Connection>> {
        self.current.load_full()
    }

    /// The live connection, or a new one. Cancel-safe: a dial that is dropped midway leaves
    /// nothing behind.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let _dialling = self.dialling.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        if let Some(error) = self.pausing() {
            return Err(error);
        }
        match self.dial().await {
            Ok(connection) => {
                *self.failure.lock() = None;
                self.current.store(Some(Arc::clone(&connection)));
                Ok(connection)
            }
            Err(error) => {
                self.note(error.clone());
                Err(error)
            }
        }
    }

    fn usable(&self) -> Option<Arc<Connection>> {
        self.current.load_full().filter(|connection| connection.is_usable())
    }

    fn pausing(&self) -> Option<Error> {
        let failure = self.failure.lock();
        failure
            .as_ref()
            .filter(|failure| Instant::now() < failure.retry_at)
            .map(|failure| failure.error.clone())
    }

    fn note(&self, error: Error) {
        let mut failure = self.failure.lock();
        let base = self.config.backoff_base;
        let now = Instant::now();
        // A failure long ago says nothing about this one.
        let recent =
            failure.as_ref().filter(|before| now < before.retry_at + self.config.backoff_max);
        let pause = recent.map_or(base, |before| before.pause.saturating_mul(2));
        let pause = pause.min(self.config.backoff_max);
        // Jitter, so that callers that lost one server do not come back to it in step; at least
        // half, so that who waited in line for a failed dial does not start the next.
        let retry_at = now + pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        *failure = Some(Failure { error, pause, retry_at });
    }

    async fn dial(&self) -> Result<Arc<Connection>, Error> {
        let limit = self.config.connect_timeout;
        let socket = match tokio::time::timeout(limit, connect(&self.address)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(cause)) => {
                let message = format!("no connection to {}: {cause}", self.address);
                return Err(Error::new(Code::ConnectFailed, message).with_source(cause));
            }
            Err(_) => {
                let message = format!("no connection to {} within {limit:?}", self.address);
                return Err(Error::new(Code::ConnectTimedOut, message));
            }
        };
        let broken = |cause: io::Error| {
            Error::new(Code::ConnectFailed, format!("{}: {cause}", self.address)).with_source(cause)
        };
        socket.tune(self.config.mux.keepalive_timeout).map_err(broken)?;
        let config = Arc::clone(&self.config);
        let connection = self.connections.start(socket, Role::Dialler, config, None);
        // Closed again unless the handshake ends well, also when this future is dropped midway.
        let unfinished = CloseOnDrop(Some(connection));
        let Some(connection) = &unfinished.0 else { return Err(closed()) };
        connection.write_out();
        let limit = self.config.handshake_timeout;
        let outcome = match tokio::time::timeout(limit, connection.established()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = format!("{} did not answer within {limit:?}", self.address);
                Err(Error::new(Code::ConnectTimedOut, message))
            }
        };
        match outcome {
            Ok(()) => unfinished.keep().ok_or_else(closed),
            // Nothing was sent before the handshake, so any end of it is a failed dial.
            Err(error) if error.code() == Code::ConnectionLost => {
                let message = format!("{}: {}", self.address, error.message());
                Err(Error::new(Code::ConnectFailed, message))
            }
            Err(error) => Err(error.with_executed(Executed::No)),
        }
    }
}

/// A connection whose handshake is under way.
struct CloseOnDrop(Option<Arc<Connection>>);

impl CloseOnDrop {
    fn keep(mut self) -> Option<Arc<Connection>> {
        self.0.take()
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.close(&closed());
        }
    }
}

fn closed() -> Error {
    Error::new(Code::ConnectFailed, "the dial was given up")
}

async fn connect(address: &Address) -> io::Result<Socket> {
    match address.scheme() {
        "unix" => UnixStream::connect(Path::new(address.rest())).await.map(Socket::Unix),
        _ => TcpStream::connect(address.rest()).await.map(Socket::Tcp),
    }
}
