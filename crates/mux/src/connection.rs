//! One connection: its streams by their numbers, and the order in which they write.

use std::{
    hash::RandomState,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sinew_plane::{
    BoxFuture, Code, Error, Fault, Flush, ProcessId, TransportId, Way, Window,
    budget::{Account, Holder, Stalled},
};

mod attach;
mod effects;
mod lifetime;
mod moving;
mod open;
mod receiver;
mod routing;
mod serve;
mod streams;
mod transmit;

pub use self::{
    effects::{Effects, ReceivedRequest},
    receiver::Receiver,
};
use self::{streams::Streams, transmit::SendState};
use crate::{
    CallerStream, CheckedMuxConfig, Detached, Hello, Outbound, Role, Sessions, session::Session,
    sync::Mutex,
};

/// The driver of connections, which reads, writes and wakes tasks. Each connection holds a value of
/// this type with the driver's own state.
///
/// The methods are called without a lock unless their documentation says otherwise, and must not
/// block.
pub trait Driver: Send + Sync + Sized + 'static {
    /// The connection has frames to write, and the code that added them wants them written now.
    fn transmit(connection: &Connection<Self>);

    /// There is something to write. It may wait a moment so that other streams can add to it.
    fn transmit_soon(connection: &Connection<Self>);

    /// Frames that gathered in a [`burst`](sinew_plane::burst) are to be written.
    fn flush(connection: &Connection<Self>);

    /// The last stream has ended. Called while the lock of the streams is held.
    fn on_idle(&self);

    /// A request was refused before any handler ran. Called while the lock of the streams is held.
    fn on_refused(&self, fault: Fault);

    /// Streams have lost this connection and wait in their [`Sessions`](crate::Sessions) or in
    /// [`Detached`], which have a timeout from now on; or one that waited there was attached.
    fn on_detached(&self);

    /// A stream of this side ends as truncated. Called while locks are held, so it only counts.
    fn on_truncated(&self) {}

    /// The transport whose connection this is. `None`, the default, for drivers that are of none; the
    /// streams then say nothing of their place.
    fn transport(&self) -> Option<&TransportId> {
        None
    }

    /// Moves a stream of this side to another way to its process. The future fails if the way
    /// cannot be used. The default is for drivers that make no connections.
    fn move_call(call: Arc<CallerStream<Self>>, way: Way) -> BoxFuture<'static, Result<(), Error>> {
        let _ = (call, way);
        let error = Error::new(Code::NoTransport, "this stream cannot be moved");
        Box::pin(std::future::ready(Err(error)))
    }
}

/// One open connection. It is what the reader, the writer and the streams share; the [`Receiver`]
/// owns the received bytes.
///
/// Locks are taken in the order `streams`, then a stream's own state, then `out`.
pub struct Connection<D: Driver> {
    role: Role,
    limits: Limits,
    /// What this connection holds of the memory budget, if there is one.
    pub(crate) account: Option<Arc<Account>>,
    /// Takes requests, and what comes out of its handler without an end is admitted.
    serving: Serving,
    /// The streams of the peer's process, once it has said who it is. Only where requests are
    /// served.
    session: OnceLock<Arc<Session<D>>>,
    /// What makes the secret of a stream out of its id: keyed by the system, so that no peer guesses
    /// one from others.
    secrets: RandomState,
    /// Where those go that lose this connection.
    sessions: OnceLock<Arc<Sessions<D>>>,
    /// Where the streams of this side go that lose this connection, if they may come back.
    detached: Option<Arc<Detached<D>>>,
    pub(crate) out: Mutex<SendState>,
    streams: Mutex<Streams<D>>,
    /// Streams in `streams`; read without the lock to decide how eagerly to write.
    active: AtomicUsize,
    /// The peer's hello, once it has arrived.
    peer: OnceLock<Hello>,
    driver: D,
}

/// How this side treats the requests of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// It refuses them.
    Nothing,
    /// It counts a request as admitted if the handler returns without an end.
    Admits,
    /// The handler says itself when it has accepted a request.
    DecidesLater,
}

/// What of the settings the streams need.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The process of this side.
    process: ProcessId,
    max_window: Window,
    max_streams: usize,
    /// Streams are kept after the loss of the connection, if the peer does the same, and for how
    /// long.
    resumes: bool,
    grace: Duration,
}

impl<D: Driver> Connection<D> {
    /// Makes a connection whose peer has not said hello yet. The memory that it holds is charged to
    /// `account`.
    pub fn new(
        role: Role,
        config: &CheckedMuxConfig,
        serving: Serving,
        account: Option<Arc<Account>>,
        driver: D,
    ) -> Self {
        let outbound = Outbound::new(role, config).with_account(account.clone());
        Self {
            role,
            limits: Limits {
                process: config.process,
                max_window: config.max_window,
                max_streams: usize::try_from(config.max_streams).unwrap_or(usize::MAX),
                resumes: config.resumes(),
                grace: config.resume_grace,
            },
            account,
            serving,
            session: OnceLock::new(),
            secrets: RandomState::new(),
            sessions: OnceLock::new(),
            detached: None,
            out: Mutex::new(SendState::new(outbound)),
            streams: Mutex::default(),
            active: AtomicUsize::new(0),
            peer: OnceLock::new(),
            driver,
        }
    }

    /// Sets where the streams that this side has opened go when the connection is lost.
    #[must_use]
    pub fn with_detached(self, detached: Arc<Detached<D>>) -> Self {
        Self { detached: Some(detached), ..self }
    }

    /// The driver's own state.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// Whether this side dialled or accepted the connection.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its account in the memory budget, if there is a budget.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// The peer's hello, once it has arrived.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.get()
    }

    /// The number of open streams, of both sides.
    pub fn active_streams(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// The largest window that a peer may have this side keep.
    pub(crate) fn max_window(&self) -> Window {
        self.limits.max_window
    }

    /// Largest item that the peer takes, in bytes.
    pub(crate) fn peer_message_limit(&self) -> usize {
        self.peer.get().map_or(0, |hello| hello.max_message_bytes as usize)
    }

    /// Keeps the count of streams and tells the driver when the last has gone.
    fn stream_gone(&self) {
        if self.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.driver.on_idle();
        }
    }

    /// Refuses a request that no handler has seen.
    fn reject(&self, stream: u32, error: &Error) {
        self.driver.on_refused(error.fault());
        self.out.lock().outbound.reject(stream, error);
    }
}

impl<D: Driver> Flush for Connection<D> {
    fn flush(&self) {
        D::flush(self);
    }
}

/// Lets the memory budget of the process end streams that wait for their readers.
impl<D: Driver> Holder for Connection<D> {
    fn stalled(&self, before: std::time::Instant, to: &mut Vec<Stalled>) {
        let finished = {
            let mut streams = self.streams.lock();
            to.extend(streams.responses.values().filter_map(|response| response.stalled(before)));
            streams.take_all_finished()
        };
        // What has ended is kept for the case of a loss alone, and goes first.
        finished.iter().for_each(|response| self.drop_id(response));
    }

    fn end(&self, stream: u32, error: &Error) {
        let response = self.streams.lock().responses.get(&stream).cloned();
        if let Some(response) = response {
            response.evict(error);
        }
    }
}

impl<D: Driver> std::fmt::Debug for Connection<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role)
            .field("active_streams", &self.active_streams())
            .finish_non_exhaustive()
    }
}
