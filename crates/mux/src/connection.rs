//! One connection: the streams on it by their numbers, and whose turn it is to write.

use std::{
    hash::RandomState,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sinew_plane::{
    Error, Fault, Flush, Window,
    budget::{Account, Holder, Stalled},
};

mod attach;
mod effects;
mod lifetime;
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
    CheckedMuxConfig, Detached, Hello, Outbound, Role, Sessions, session::Session, sync::Mutex,
};

/// What drives connections: reads, writes and wakes tasks. Each connection holds a value of it, the
/// driver's own part of the connection.
///
/// These are called without a lock unless it says otherwise, and must not block.
pub trait Driver: Send + Sync + Sized + 'static {
    /// The connection has frames to write, and the code that added them wants them written now.
    fn transmit(connection: &Connection<Self>);

    /// There is something to write, and it may wait a moment for others to add to it.
    fn transmit_soon(connection: &Connection<Self>);

    /// What gathered in a [`burst`](sinew_plane::burst) is to be written.
    fn flush(connection: &Connection<Self>);

    /// The last stream has ended. Called with the lock of the streams.
    fn on_idle(&self);

    /// A request was refused before any handler saw it. Called with the lock of the streams.
    fn on_refused(&self, fault: Fault);

    /// Streams have lost this connection and wait in their [`Sessions`](crate::Sessions) or in
    /// [`Detached`]: these have a timeout now.
    fn on_detached(&self);
}

/// One live connection. The [`Receiver`] owns what arrives; this is what the reader, the writer and
/// the streams share.
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
    /// What the peer said of itself, once it did.
    peer: OnceLock<Hello>,
    driver: D,
}

/// How the requests of a peer are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// They are refused.
    Nothing,
    /// A request that leaves its handler without an end counts as admitted.
    Admits,
    /// The handler says by itself when it has accepted.
    DecidesLater,
}

/// What of the settings the streams need.
#[derive(Debug, Clone, Copy)]
struct Limits {
    max_window: Window,
    max_streams: usize,
    /// Streams are kept after the loss of the connection, if the peer does the same, and for how
    /// long.
    resumes: bool,
    grace: Duration,
}

impl<D: Driver> Connection<D> {
    /// A connection without a peer yet. What it holds is charged to `account`.
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

    /// The same, whose own streams go to `detached` when it is lost.
    #[must_use]
    pub fn with_detached(self, detached: Arc<Detached<D>>) -> Self {
        Self { detached: Some(detached), ..self }
    }

    /// The driver's own part.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// Which side made the connection.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What it holds of the memory budget, if there is one.
    pub fn account(&self) -> Option<&Arc<Account>> {
        self.account.as_ref()
    }

    /// What the peer said of itself, once it did.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.get()
    }

    /// Streams that run on it now, whoever opened them.
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

/// The memory budget of the process ends the streams that hold it up.
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
