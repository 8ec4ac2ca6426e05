//! One address that a client keeps a connection to.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use sinew_mux::Role;
use sinew_plane::{
    Address, Backoff, CONNECT_ATTEMPT_DELAY, Code, Error, Executed, Failure, Jitter,
    RequestHandler, clock, staggered,
};
use tokio::{net::TcpStream, sync::watch};

use crate::{
    CheckedTcpConfig, connection::Connection, connections::Connections, socket::Socket, unix,
};

/// One address, the connection to it that all requests share, and how the last dials went.
pub(crate) struct Target {
    address: Address,
    config: Arc<CheckedTcpConfig>,
    connections: Arc<Connections>,
    current: ArcSwapOption<Connection>,
    /// The dial under way and what comes of it, for everybody who waits.
    dialling: Mutex<Option<Dial>>,
    /// How the last dial failed: until its hold-down is over, everyone gets its error at once.
    failure: Mutex<Option<Failure<Error>>>,
    /// Takes the streams that the other side opens, where this side serves some.
    handler: Option<Arc<dyn RequestHandler>>,
    /// Connections that were made.
    made: Arc<AtomicU64>,
}

/// What came of a dial; `None` while it is under way.
type Dial = watch::Receiver<Option<Result<Arc<Connection>, Error>>>;

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
            dialling: Mutex::new(None),
            failure: Mutex::new(None),
            handler: None,
            made: Arc::default(),
        }
    }

    /// The same target with a handler for the streams that the other side opens, and a count of
    /// the connections that were made.
    pub(crate) fn with_handler(
        mut self,
        handler: Arc<dyn RequestHandler>,
        made: Arc<AtomicU64>,
    ) -> Self {
        self.handler = Some(handler);
        self.made = made;
        self
    }

    /// The live connection, if there is one.
    pub(crate) fn current(&self) -> Option<Arc<Connection>> {
        self.current.load_full()
    }

    /// The live connection, or a new one. Cancel-safe: the dial goes on for the others who wait,
    /// and for the next who asks.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let mut dial = self.join_dial()?;
        // The task that dials always says how it went, unless its runtime ends.
        match dial.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(closed()),
        }
    }

    /// The dial under way, or a new one, in a task of its own: a request that is in a hurry must
    /// not take it along when it gives up.
    fn join_dial(self: &Arc<Self>) -> Result<Dial, Error> {
        let mut dialling = self.dialling.lock();
        if let Some(dial) = &*dialling {
            return Ok(dial.clone());
        }
        if let Some(error) = self.pausing() {
            return Err(error);
        }
        let (done, dial) = watch::channel(None);
        *dialling = Some(dial.clone());
        let this = Arc::clone(self);
        self.connections.tasks.spawn(async move {
            let outcome = match this.usable() {
                Some(connection) => Ok(connection),
                // The end of this side waits for no dial.
                None => {
                    let dialled = this.connections.ending.run_until_cancelled(this.dial()).await;
                    dialled.unwrap_or_else(|| Err(closed()))
                }
            };
            match &outcome {
                Ok(connection) => {
                    *this.failure.lock() = None;
                    this.current.store(Some(Arc::clone(connection)));
                }
                Err(error) => this.note(error.clone()),
            }
            *this.dialling.lock() = None;
            // Nobody may be waiting any more.
            let _ = done.send(Some(outcome));
        });
        Ok(dial)
    }

    /// The live connection, if it takes new streams.
    pub(crate) fn usable(&self) -> Option<Arc<Connection>> {
        self.current.load_full().filter(|connection| connection.is_usable())
    }

    fn pausing(&self) -> Option<Error> {
        let failure = self.failure.lock();
        let error = failure.as_ref()?.held_down(clock::now())?;
        Some(error.clone().remembered())
    }

    fn note(&self, error: Error) {
        let mut failure = self.failure.lock();
        let backoff = Backoff::exponential(self.config.backoff_base, self.config.backoff_max);
        // Callers that lost one server do not come back to it in step, and who waited in line for
        // a failed dial does not start the next.
        let backoff = backoff.with_jitter(Jitter::Half);
        *failure = Some(Failure::new(failure.as_ref(), error, &backoff, clock::now()));
    }

    /// Dials all that the address stands for, beside each other where one is slow, and keeps the
    /// first connection whose peer says hello.
    async fn dial(&self) -> Result<Arc<Connection>, Error> {
        self.dial_first(self.places().await?).await
    }

    async fn dial_first(&self, places: Vec<Place>) -> Result<Arc<Connection>, Error> {
        let mut places = places.into_iter();
        let mut last = None;
        let next = || places.next().map(|place| self.dial_one(place));
        let pause = || tokio::time::sleep(CONNECT_ATTEMPT_DELAY);
        let dialled = staggered(pause, next, |error| last = Some(error)).await;
        dialled.ok_or_else(|| last.unwrap_or_else(closed))
    }

    /// What the address stands for, in the order in which it is tried: a name may have several
    /// socket addresses.
    async fn places(&self) -> Result<Vec<Place>, Error> {
        if self.address.scheme() == "unix" {
            return Ok(vec![Place::Unix(PathBuf::from(self.address.rest()))]);
        }
        let limit = self.config.connect_timeout;
        let resolving = tokio::net::lookup_host(self.address.rest());
        let resolved = match tokio::time::timeout(limit, resolving).await {
            Ok(Ok(resolved)) => alternating(resolved.collect()),
            Ok(Err(cause)) => {
                let message = format!("{} does not resolve: {cause}", self.address);
                return Err(Error::new(Code::ConnectFailed, message).with_source(cause));
            }
            Err(_) => {
                let message = format!("{} did not resolve within {limit:?}", self.address);
                return Err(Error::new(Code::ConnectTimedOut, message));
            }
        };
        if resolved.is_empty() {
            let message = format!("{} resolves to no address", self.address);
            return Err(Error::new(Code::ConnectFailed, message));
        }
        Ok(resolved.into_iter().take(MAX_PLACES).map(Place::Tcp).collect())
    }

    async fn dial_one(&self, place: Place) -> Result<Arc<Connection>, Error> {
        let limit = self.config.connect_timeout;
        let socket = match tokio::time::timeout(limit, place.connect()).await {
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
        self.shake_hands(socket).await
    }

    /// Waits for the peer's hello.
    async fn shake_hands(&self, socket: Socket) -> Result<Arc<Connection>, Error> {
        let config = Arc::clone(&self.config);
        let connection =
            self.connections.start(socket, Role::Dialler, config, self.handler.clone());
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
            Ok(()) => {
                self.made.fetch_add(1, Ordering::Relaxed);
                unfinished.keep().ok_or_else(closed)
            }
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

/// One socket address.
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    async fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Unix(path) => unix::connect(path).await.map(Socket::Unix),
            Self::Tcp(place) => TcpStream::connect(place).await.map(Socket::Tcp),
        }
    }
}

/// Most socket addresses of one name that are tried for a connection. With as many the last is
/// begun after two seconds, within the time that one attempt has.
const MAX_PLACES: usize = 8;

/// The resolver's order, with the families in turn: one that has no way out of here is then
/// passed over by the second attempt, however many addresses it has.
fn alternating(resolved: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = resolved.first().map(SocketAddr::is_ipv6) else { return resolved };
    let (mut same, mut other) =
        resolved.into_iter().partition::<VecDeque<_>, _>(|place| place.is_ipv6() == first);
    let mut ordered = Vec::with_capacity(same.len() + other.len());
    while !same.is_empty() || !other.is_empty() {
        ordered.extend(same.pop_front());
        ordered.extend(other.pop_front());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sinew_plane::{DuplexServer, IncomingRequest, ResponseSink};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{TcpConfig, TcpServer};

    /// A name may stand for a machine that is gone or a process that is stopped, and for others.
    #[tokio::test]
    async fn a_socket_address_that_is_silent_does_not_hold_up_the_others() {
        let silent = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let config = TcpConfig::default().checked().unwrap();
        let never = |_: IncomingRequest<'_>, _: ResponseSink| panic!("no request is sent");
        let any = "127.0.0.1:0".parse().unwrap();
        let server = TcpServer::bind(config.clone(), any, Arc::new(never)).unwrap();
        let connections = Connections::new(sinew_telemetry::Side::Calling);
        let address = Address::new("tcp", "several:1").unwrap();
        let target = Target::new(address, Arc::new(config), Arc::clone(&connections));

        let mut places: Vec<_> = silent.iter().map(|one| one.local_addr().unwrap()).collect();
        places.push(server.local_address().unwrap());
        let begun = Instant::now();
        let places = places.into_iter().map(Place::Tcp).collect();
        let connection = target.dial_first(places).await.unwrap();
        assert!(connection.is_usable());
        // Twice 250 ms, and far from the five seconds that a handshake has.
        assert!(begun.elapsed() >= 2 * CONNECT_ATTEMPT_DELAY);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert_eq!(connections.all().len(), 1, "the others are closed");
        server.shutdown(Duration::ZERO).await;
    }

    #[test]
    fn the_families_of_a_name_are_tried_in_turn() {
        let places = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|place| place.parse().unwrap()).collect()
        };
        let resolved = places(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]);
        let tried = ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"];
        assert_eq!(alternating(resolved), places(&tried));
        assert_eq!(alternating(Vec::new()), []);
    }
}
