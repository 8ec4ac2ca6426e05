//! One address to which a client keeps a connection, dialled when it is first needed, and again
//! after it was lost.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use sinew_mux::Role;
use sinew_net::{Attempt, Carrier, Connector};
use sinew_plane::{
    Address, Backoff, CONNECT_ATTEMPT_DELAY, Code, ConnectionEvents, Error, Executed, Failure,
    Jitter, ProcessId, RequestHandler, clock, staggered,
};
use sinew_telemetry::DetachedStreams;
use tokio::sync::{Notify, watch};

use crate::{
    CheckedDriverConfig, ConnectionSet,
    coming_back::{ComingBack, Losing},
    connection::{Connection, MuxConnection},
    reach::Reach,
    resume,
    write::Writer,
};

/// One address, with the connection that all requests to it share, and the results of the last
/// dials.
pub struct Dialer {
    address: Address,
    connector: Arc<dyn Connector>,
    config: Arc<CheckedDriverConfig>,
    connections: Arc<ConnectionSet>,
    current: ArcSwapOption<MuxConnection>,
    /// The dial under way and what comes of it, for everybody who waits.
    dialling: Mutex<Option<Dial>>,
    /// How the last dial failed: until its hold-down is over, everyone gets its error at once.
    failure: Mutex<Option<Failure<Error>>>,
    /// Takes the streams that the other side opens, where this side serves some.
    handler: Option<Arc<dyn RequestHandler>>,
    /// Connections that were made.
    made: Arc<AtomicU64>,
    /// The streams of this side that have lost their connection. None where the other side opens
    /// streams.
    back: Arc<ComingBack>,
    /// How many, for people.
    shown: DetachedStreams,
    /// The task that has them come back was started.
    resuming: OnceLock<()>,
    /// Who is woken for streams of the other side that have lost their connection.
    wake: Option<Arc<Notify>>,
    /// The other addresses of the instance.
    reach: Option<Arc<Reach>>,
}

/// What came of a dial; `None` while it is under way.
type Dial = watch::Receiver<Option<Result<Connection, Error>>>;

impl Dialer {
    /// Makes a dialler for this address, without a connection. Its connections are added to
    /// `connections`.
    pub fn new(
        address: Address,
        connector: Arc<dyn Connector>,
        config: Arc<CheckedDriverConfig>,
        connections: Arc<ConnectionSet>,
    ) -> Self {
        Self {
            back: Arc::new(ComingBack::new(address.clone())),
            shown: connections.stream_metrics().detached(),
            address,
            connector,
            config,
            connections,
            current: ArcSwapOption::empty(),
            dialling: Mutex::new(None),
            failure: Mutex::new(None),
            handler: None,
            made: Arc::default(),
            resuming: OnceLock::new(),
            wake: None,
            reach: None,
        }
    }

    /// Sets a handler for the streams that the other side opens, and a counter of the connections
    /// that were made.
    #[must_use]
    pub fn with_handler(mut self, handler: Arc<dyn RequestHandler>, made: Arc<AtomicU64>) -> Self {
        self.handler = Some(handler);
        self.made = made;
        self
    }

    /// Sets who is woken when a connection is lost with streams that the other side has opened: it
    /// comes back for them if there is another connection.
    #[must_use]
    pub fn with_wake(mut self, wake: Arc<Notify>) -> Self {
        self.wake = Some(wake);
        self
    }

    /// Sets where it finds the other addresses of its instance, over which streams go on that have
    /// lost their connection.
    #[must_use]
    pub(crate) fn with_reach(mut self, reach: Arc<Reach>) -> Self {
        self.reach = Some(reach);
        self
    }

    /// The last connection, open or not.
    pub fn current(&self) -> Option<Connection> {
        self.current.load_full().map(Connection)
    }

    /// Returns the open connection, or dials a new one. Cancel-safe: the dial continues for other
    /// waiting callers, and for the next call. After a failed dial, calls fail at once with its
    /// error until the hold-down is over (at most
    /// [`DriverConfig::backoff_max`](crate::DriverConfig::backoff_max)).
    ///
    /// # Errors
    /// No carrier can connect to the address, or the peer sends no hello in time. No request was
    /// sent, so a retry is safe.
    pub async fn connection(self: &Arc<Self>) -> Result<Connection, Error> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        self.joined(self.join_dial(true)?).await
    }

    /// As [`connection`](Self::connection), also while the hold-down of a failed dial lasts: for
    /// streams that wait, which have a backoff of their own. Cancel-safe.
    ///
    /// # Errors
    /// As those of [`connection`](Self::connection).
    pub async fn connection_at_once(self: &Arc<Self>) -> Result<Connection, Error> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        self.joined(self.join_dial(false)?).await
    }

    async fn joined(&self, mut dial: Dial) -> Result<Connection, Error> {
        // The task that dials always says how it went, unless its runtime ends.
        match dial.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(closed()),
        }
    }

    /// The dial under way, or a new one, in a task of its own: a request that is in a hurry must
    /// not take it along when it gives up.
    fn join_dial(self: &Arc<Self>, heeds_pause: bool) -> Result<Dial, Error> {
        let mut dialling = self.dialling.lock();
        if let Some(dial) = &*dialling {
            return Ok(dial.clone());
        }
        if let Some(error) = self.pausing().filter(|_| heeds_pause) {
            return Err(error);
        }
        let (done, dial) = watch::channel(None);
        *dialling = Some(dial.clone());
        let this = Arc::clone(self);
        self.connections.spawn(async move {
            let outcome = match this.usable() {
                Some(connection) => Ok(connection),
                // The end of this side waits for no dial.
                None => {
                    let dialled = this.connections.ending().run_until_cancelled(this.dial()).await;
                    dialled.unwrap_or_else(|| Err(closed()))
                }
            };
            match &outcome {
                Ok(connection) => {
                    *this.failure.lock() = None;
                    this.current.store(Some(Arc::clone(&connection.0)));
                }
                Err(error) => this.note(error.clone()),
            }
            *this.dialling.lock() = None;
            // Nobody may be waiting any more.
            let _ = done.send(Some(outcome));
        });
        Ok(dial)
    }

    /// The open connection, if it takes new streams.
    pub fn usable(&self) -> Option<Connection> {
        self.current().filter(Connection::is_usable)
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

    /// Where its streams wait that are to come back.
    pub(crate) fn coming_back(&self) -> &ComingBack {
        &self.back
    }

    /// Shows how many those are.
    pub(crate) fn show_detached(&self) {
        self.shown.set(self.back.detached.len());
    }

    /// True while somebody needs it: its connection takes streams, or streams wait for one.
    pub(crate) fn is_in_use(&self) -> bool {
        self.usable().is_some() || !self.back.detached.is_empty()
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn config(&self) -> &CheckedDriverConfig {
        &self.config
    }

    pub(crate) fn connections(&self) -> &Arc<ConnectionSet> {
        &self.connections
    }

    pub(crate) fn events(&self) -> &ConnectionEvents {
        &self.config.events
    }

    /// The process for which it dials.
    pub(crate) fn own_process(&self) -> ProcessId {
        self.config.mux.process
    }

    /// The diallers of the other addresses of the instance.
    pub(crate) fn others(&self) -> Vec<Arc<Self>> {
        self.reach.as_ref().map(|reach| reach.others(self)).unwrap_or_default()
    }

    fn start(self: &Arc<Self>, carrier: Box<dyn Carrier>) -> Connection {
        let (config, handler) = (Arc::clone(&self.config), self.handler.clone());
        if !config.mux.resumes() {
            return self.connections.start(carrier, Role::Dialler, config, handler);
        }
        if handler.is_some() {
            let wake = self.wake.as_ref().unwrap_or(&self.back.wake);
            let losing = Losing::Served(Arc::clone(wake));
            return self.connections.start_resuming(carrier, config, handler, losing);
        }
        self.resuming.get_or_init(|| {
            let back = Arc::clone(&self.back);
            let task = resume::run(Arc::downgrade(self), Arc::clone(&back));
            let ending = self.connections.ending().clone();
            self.connections.spawn(async move {
                let _ = ending.run_until_cancelled(task).await;
                back.detached.close();
            });
        });
        let losing = Losing::Dialled(Arc::clone(&self.back));
        self.connections.start_resuming(carrier, config, handler, losing)
    }

    /// Dials all that the address stands for, beside each other where one is slow, and keeps the
    /// first connection whose peer says hello.
    async fn dial(self: &Arc<Self>) -> Result<Connection, Error> {
        let begun = clock::now();
        let attempts = self.connector.attempts(&self.address).await?;
        let connection = self.dial_first(attempts).await?;
        // Where the other side opens the streams, it is not for calls of this one.
        if let Some(peer) = connection.peer().filter(|_| self.handler.is_none()) {
            self.events().connected(&self.address, peer.process, clock::since(begun));
        }
        Ok(connection)
    }

    async fn dial_first(self: &Arc<Self>, attempts: Vec<Attempt>) -> Result<Connection, Error> {
        let mut attempts = attempts.into_iter();
        let mut last = None;
        let next = || attempts.next().map(|attempt| self.dial_one(attempt));
        let pause = || tokio::time::sleep(CONNECT_ATTEMPT_DELAY);
        let dialled = staggered(pause, next, |error| last = Some(error)).await;
        dialled.ok_or_else(|| last.unwrap_or_else(closed))
    }

    async fn dial_one(self: &Arc<Self>, attempt: Attempt) -> Result<Connection, Error> {
        let limit = self.config.connect_timeout;
        let carrier = match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(carrier)) => carrier,
            Ok(Err(cause)) => {
                let message = format!("no connection to {}: {cause}", self.address);
                return Err(Error::new(Code::ConnectFailed, message).with_source(cause));
            }
            Err(_) => {
                let message = format!("no connection to {} within {limit:?}", self.address);
                return Err(Error::new(Code::ConnectTimedOut, message));
            }
        };
        self.shake_hands(carrier).await
    }

    /// Waits for the peer's hello.
    async fn shake_hands(self: &Arc<Self>, carrier: Box<dyn Carrier>) -> Result<Connection, Error> {
        let connection = self.start(carrier);
        // Closed again unless the handshake ends well, also when this future is dropped midway.
        let unfinished = CloseOnDrop(Some(connection));
        let Some(connection) = &unfinished.0 else { return Err(closed()) };
        Writer(&connection.0).write_out();
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
struct CloseOnDrop(Option<Connection>);

impl CloseOnDrop {
    fn keep(mut self) -> Option<Connection> {
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

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Ends the streams that wait for another connection, because no dial will follow.
impl Drop for Dialer {
    fn drop(&mut self) {
        self.back.detached.close();
        self.back.wake.notify_one();
    }
}
