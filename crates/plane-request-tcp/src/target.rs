//! The connections to one `HOST:PORT`, and the requests that wait for room on one.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sinew_codec::EncodedParts;
use sinew_net::Socket;
use sinew_plane::{Code, Error, Executed};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CheckedTcpRequestConfig,
    connection::{Connection, Pending},
};

/// The kernel gives a peer up after this long without a sign of life. Requests are given up
/// sooner; this is for connections that are idle.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Dials to one host at once when it is known to answer; the first goes alone. Enough to get from
/// one connection to a hundred within 25 round trips.
const GROWTH: usize = 4;

/// What all hosts of a client share.
pub(crate) struct Common {
    pub(crate) config: CheckedTcpRequestConfig,
    /// Connections that are being made.
    pub(crate) dials: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) closed: CancellationToken,
    pub(crate) writes: Arc<AtomicU64>,
}

/// One `HOST:PORT`.
pub(crate) struct Target {
    address: String,
    common: Arc<Common>,
    pool: Mutex<Pool>,
}

/// While anybody waits, a dial is under way or every connection is full: so the wait ends with a
/// dial, an acknowledgement or the loss of a connection.
struct Pool {
    connections: Vec<Arc<Connection>>,
    waiting: VecDeque<oneshot::Sender<Result<RequestSlot, Error>>>,
    /// Dials under way.
    dialling: usize,
    used: Instant,
    /// Forgotten by the client: nothing may begin here any more.
    retired: bool,
}

/// A place for one request on a connection. Dropping it gives the place to the next who waits.
pub(crate) struct RequestSlot {
    connection: Arc<Connection>,
    /// `None` once the place is the request's, until it is acknowledged.
    host: Option<Arc<Target>>,
}

/// Why there is no place.
pub(crate) enum PoolFull {
    /// The host was forgotten: look it up again.
    Retired,
    Failed(Error),
}

impl Target {
    pub(crate) fn new(address: &str, common: Arc<Common>) -> Self {
        let pool = Pool {
            connections: Vec::new(),
            waiting: VecDeque::new(),
            dialling: 0,
            used: Instant::now(),
            retired: false,
        };
        Self { address: address.to_owned(), common, pool: Mutex::new(pool) }
    }

    /// A place on the connection with the fewest requests; waits for one when all are full.
    /// Cancel-safe: a dial goes on for the others who wait.
    pub(crate) async fn place(self: &Arc<Self>) -> Result<RequestSlot, PoolFull> {
        let config = &self.common.config;
        let handed = {
            let mut pool = self.pool.lock();
            if pool.retired {
                return Err(PoolFull::Retired);
            }
            pool.used = Instant::now();
            if let Some(connection) = pool.reserve(config.max_pipelined) {
                return Ok(RequestSlot { connection, host: Some(Arc::clone(self)) });
            }
            if pool.waiting.len() >= config.max_waiting {
                pool.waiting.retain(|waiting| !waiting.is_closed());
                if pool.waiting.len() >= config.max_waiting {
                    let message = format!("too many requests wait for {}", self.address);
                    return Err(PoolFull::Failed(Error::new(Code::Overloaded, message)));
                }
            }
            let (hand, handed) = oneshot::channel();
            pool.waiting.push_back(hand);
            self.grow(&mut pool);
            handed
        };
        let limit = config.connect_timeout.max(config.request_timeout);
        match tokio::time::timeout(limit, handed).await {
            Ok(Ok(outcome)) => outcome.map_err(PoolFull::Failed),
            Ok(Err(_)) => Err(PoolFull::Failed(closed())),
            Err(_) => Err(PoolFull::Failed(self.waited_in_vain(limit))),
        }
    }

    fn waited_in_vain(&self, limit: Duration) -> Error {
        let address = &self.address;
        if self.pool.lock().connections.is_empty() {
            let message = format!("no connection to {address} within {limit:?}");
            return Error::new(Code::ConnectTimedOut, message);
        }
        let message = format!("{address} acknowledges too slowly: no room within {limit:?}");
        Error::new(Code::Overloaded, message)
    }

    /// Starts as many dials as those who wait need and the limits allow.
    fn grow(self: &Arc<Self>, pool: &mut Pool) {
        let config = &self.common.config;
        let needed = pool.waiting.len().div_ceil(config.max_pipelined);
        let at_once = if pool.connections.is_empty() { 1 } else { GROWTH };
        let allowed = config.pool_size.saturating_sub(pool.connections.len());
        while pool.dialling < needed.min(at_once).min(allowed) {
            pool.dialling += 1;
            // In a task of its own: a caller that gives up must not take the dial of others along.
            self.common.tasks.spawn(Arc::clone(self).dial());
        }
    }

    async fn dial(self: Arc<Self>) {
        let outcome = tokio::select! {
            biased;
            () = self.common.closed.cancelled() => Err(closed()),
            outcome = self.connect() => outcome,
        };
        let mut pool = self.pool.lock();
        pool.dialling -= 1;
        match outcome {
            Ok(socket) => {
                let Common { config, tasks, closed, writes, .. } = &*self.common;
                let writes = Arc::clone(writes);
                let (limit, closed) = (config.request_timeout, closed.child_token());
                let connection =
                    Connection::start(Box::new(socket), &self, limit, writes, tasks, closed);
                pool.connections.push(connection);
                self.hand_out(&mut pool);
                self.grow(&mut pool);
            }
            Err(error) => {
                tracing::debug!(address = %self.address, reason = %error, "cannot connect");
                // With a connection or a dial left there is still something to wait for.
                if pool.connections.is_empty() && pool.dialling == 0 {
                    for waiting in pool.waiting.drain(..) {
                        // No place is in an error, so nothing is dropped under the lock.
                        let _ = waiting.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Socket, Error> {
        let (address, limit) = (&self.address, self.common.config.connect_timeout);
        let connect = async {
            // Never closed, so this waits for its turn.
            let _turn = self.common.dials.acquire().await;
            TcpStream::connect(address).await
        };
        let failed = |cause: std::io::Error| {
            let message = format!("no connection to {address}: {cause}");
            Error::new(Code::ConnectFailed, message).with_source(cause)
        };
        let stream = match tokio::time::timeout(limit, connect).await {
            Ok(connected) => connected.map_err(failed)?,
            Err(_) => {
                let message = format!("no connection to {address} within {limit:?}");
                return Err(Error::new(Code::ConnectTimedOut, message));
            }
        };
        let socket = Socket::Tcp(stream);
        socket.tune(DEAD_AFTER).map_err(failed)?;
        Ok(socket)
    }

    /// Gives places to those who wait, in their order.
    fn hand_out(self: &Arc<Self>, pool: &mut Pool) {
        while !pool.waiting.is_empty() {
            let Some(connection) = pool.reserve(self.common.config.max_pipelined) else { return };
            let mut place = RequestSlot { connection, host: Some(Arc::clone(self)) };
            loop {
                let Some(waiting) = pool.waiting.pop_front() else {
                    // Dropped under the lock, so it must not take it.
                    place.host = None;
                    place.connection.places.fetch_sub(1, Ordering::Relaxed);
                    return;
                };
                match waiting.send(Ok(place)) {
                    Ok(()) => break,
                    // That one has gone: the next, please.
                    Err(Ok(back)) => place = back,
                    Err(Err(_)) => return,
                }
            }
        }
    }

    /// Requests were acknowledged, or given up before they were written.
    pub(crate) fn release(self: &Arc<Self>, connection: &Connection, places: usize) {
        let mut pool = self.pool.lock();
        connection.places.fetch_sub(places, Ordering::Relaxed);
        pool.used = Instant::now();
        self.hand_out(&mut pool);
    }

    /// A connection has ended.
    pub(crate) fn remove(self: &Arc<Self>, connection: &Connection) {
        let mut pool = self.pool.lock();
        pool.connections.retain(|it| !std::ptr::eq(&**it, connection));
        self.grow(&mut pool);
    }

    /// Connections that are up.
    pub(crate) fn connections(&self) -> usize {
        self.pool.lock().connections.len()
    }

    /// When it was last used; `None` while it is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let pool = self.pool.lock();
        pool.is_idle().then_some(pool.used)
    }

    /// Closes the connections for good if none is in use and none was since `before`.
    pub(crate) fn retire(&self, before: Instant) -> bool {
        let connections = {
            let mut pool = self.pool.lock();
            if !pool.is_idle() || pool.used > before {
                return false;
            }
            pool.retired = true;
            std::mem::take(&mut pool.connections)
        };
        let error = Error::new(Code::ConnectionLost, "the connection was idle");
        for connection in connections {
            connection.close(&error);
        }
        true
    }
}

impl Pool {
    fn reserve(&self, max_pipelined: usize) -> Option<Arc<Connection>> {
        let places = |it: &&Arc<Connection>| it.places.load(Ordering::Relaxed);
        let connection = self.connections.iter().min_by_key(places)?;
        if places(&connection) >= max_pipelined {
            return None;
        }
        connection.places.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(connection))
    }

    fn is_idle(&self) -> bool {
        let free = |it: &Arc<Connection>| it.places.load(Ordering::Relaxed) == 0;
        self.dialling == 0 && self.waiting.is_empty() && self.connections.iter().all(free)
    }
}

impl RequestSlot {
    /// Sends a request. Hands it back when the connection has ended meanwhile, and nothing was
    /// sent.
    pub(crate) fn submit(mut self, frame: EncodedParts) -> Result<Pending, EncodedParts> {
        let pending = self.connection.submit(frame)?;
        // The acknowledgement gives the place back.
        self.host = None;
        Ok(pending)
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            host.release(&self.connection, 1);
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::new(Code::ConnectFailed, "the client was closed").with_executed(Executed::No)
}
