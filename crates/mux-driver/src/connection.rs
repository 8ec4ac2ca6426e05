//! One open connection, with the state of its driver.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sinew_mux::{Driver, Hello, Refusal, Role, Serving};
use sinew_net::{CONNECTION_COST_BYTES, Occupant, WriteHalf};
use sinew_plane::{
    Address, BoxFuture, BudgetUse, Code, Error, Fault, OutgoingRequest, PeerFacts, RequestHandler,
    ResumeReason, StreamId, TransportId, Way,
    budget::{Hold, Work},
    clock,
};
use sinew_telemetry::{ConnectionMetrics, StreamMetrics};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    CheckedDriverConfig,
    coming_back::{ComingBack, Losing},
    moving,
    write::Writer,
};

/// The streams of a connection, and what moves its bytes.
pub(crate) type MuxConnection = sinew_mux::Connection<Tasks>;

/// A request that was sent, with its response as it arrives.
pub type Call = sinew_mux::CallerStream<Tasks>;

/// The token of the ping that a side sends to hear which ends its peer has. Those of keep-alive count
/// from 1.
const LAST_PING: u64 = u64::MAX;

/// One open connection. Its tasks run until it is closed; a [`ConnectionSet`](crate::ConnectionSet)
/// starts and joins them. Clones are handles to the same connection.
#[derive(Debug, Clone)]
pub struct Connection(pub(crate) Arc<MuxConnection>);

/// The driver's part of a connection: its carrier, and the signals between its reader, its writer
/// and the tasks that wait for it.
pub struct Tasks {
    pub(crate) transport: TransportId,
    /// The other end, for the handler; set once it has said hello.
    pub(crate) peer: OnceLock<PeerFacts>,
    pub(crate) config: Arc<CheckedDriverConfig>,
    /// Takes the requests that the peer sends; a connection without one refuses them.
    pub(crate) handler: Option<Arc<dyn RequestHandler>>,
    pub(crate) sending: Sending,
    /// Its own cost.
    _cost: Option<Hold>,
    /// Streams were admitted, and the writer task is to see that their callers hear of it.
    pub(crate) watch: AtomicBool,
    /// Why a write failed, possibly in the middle of a frame.
    pub(crate) broken: OnceLock<Arc<io::Error>>,
    /// Wakes the writer task.
    pub(crate) writer: Notify,
    /// A batch was written.
    pub(crate) written: Notify,
    /// A stream ended or the peer granted more: who waits to open one may try again.
    pub(crate) room: Notify,
    /// The last stream has ended.
    idle: Notify,
    /// Wakes who looks after streams that have lost this connection.
    on_detached: Vec<Arc<Notify>>,
    /// Where streams go that lose this connection.
    losing: Option<Losing>,
    pub(crate) streams: StreamMetrics,
    /// How far the connection has come.
    stage: watch::Sender<Stage>,
    /// Ends both tasks.
    pub(crate) closed: CancellationToken,
    /// It has to end soon: its descriptor is for another.
    pub(crate) hurried: AtomicBool,
    /// The reader takes nothing in any more, and has said up to which stream it did.
    pub(crate) read_ended: CancellationToken,
}

/// Where a connection writes to, and what is counted of it.
pub(crate) struct Sending {
    pub(crate) carrier: Arc<dyn WriteHalf>,
    /// Writes that reached a socket, over all connections of a client or server.
    pub(crate) writes: Arc<AtomicU64>,
    /// Both directions of this end's connections over this transport.
    pub(crate) meter: ConnectionMetrics,
}

/// Where streams go that lose their connection, and who looks after them there.
pub(crate) struct Keeping {
    pub(crate) losing: Option<Losing>,
    pub(crate) wakes: Vec<Arc<Notify>>,
    pub(crate) metrics: StreamMetrics,
}

/// How far a connection has come.
#[derive(Debug, Clone)]
enum Stage {
    Handshake,
    Established,
    Closed(Error),
}

impl Tasks {
    /// The address that was dialled, where streams may leave it for another.
    pub(crate) fn address(&self) -> Option<&Address> {
        self.coming_back().map(|back| &back.address)
    }

    /// What this side goes on from, if it dialled and its streams may go on over another connection.
    pub(crate) fn coming_back(&self) -> Option<&ComingBack> {
        match &self.losing {
            Some(Losing::Dialled(back)) => Some(back),
            _ => None,
        }
    }

    /// Counts streams that have moved here, and tells of them.
    pub(crate) fn moved(&self, streams: usize, why: ResumeReason) {
        self.streams.resumed(why, streams);
        if let Some(address) = self.address() {
            self.config.events.attached(address, streams, why, Duration::ZERO);
        }
    }
}

impl Driver for Tasks {
    fn transmit(connection: &MuxConnection) {
        Writer(connection).write_out();
    }

    fn transmit_soon(connection: &MuxConnection) {
        Writer(connection).write_soon();
    }

    fn flush(connection: &MuxConnection) {
        if connection.begin_transmit() {
            Writer(connection).write_batches();
        }
    }

    fn on_idle(&self) {
        self.idle.notify_waiters();
    }

    fn on_refused(&self, fault: Fault) {
        self.sending.meter.refused(fault);
    }

    fn on_detached(&self) {
        self.on_detached.iter().for_each(|task| task.notify_one());
    }

    fn on_truncated(&self) {
        self.streams.truncated();
    }

    fn transport(&self) -> Option<&TransportId> {
        Some(&self.transport)
    }

    fn move_call(call: Arc<Call>, way: Way) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(moving::move_call(call, way))
    }
}

impl Connection {
    pub(crate) fn new(
        role: Role,
        transport: TransportId,
        config: Arc<CheckedDriverConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
        sending: Sending,
        keeping: Keeping,
    ) -> Self {
        let account = config.budget.as_ref().map(|budget| budget.open());
        let serving = match &handler {
            None => Serving::Nothing,
            Some(handler) if handler.decides_later() => Serving::DecidesLater,
            Some(_) => Serving::Admits,
        };
        // Over the limit too: how many there are is bounded by what the budget has for them.
        let cost = account.as_ref().and_then(|account| {
            account.hold(BudgetUse::Connections, CONNECTION_COST_BYTES, Work::Running)
        });
        let tasks = Tasks {
            transport,
            peer: OnceLock::new(),
            config: Arc::clone(&config),
            handler,
            sending,
            _cost: cost,
            watch: AtomicBool::new(false),
            broken: OnceLock::new(),
            writer: Notify::new(),
            written: Notify::new(),
            room: Notify::new(),
            idle: Notify::new(),
            on_detached: keeping.wakes,
            losing: keeping.losing,
            streams: keeping.metrics,
            stage: watch::Sender::new(Stage::Handshake),
            closed: CancellationToken::new(),
            hurried: AtomicBool::new(false),
            read_ended: CancellationToken::new(),
        };
        let detached = tasks.losing.as_ref().and_then(Losing::detached).map(Arc::clone);
        let connection = MuxConnection::new(role, &config.mux, serving, account, tasks);
        Self(Arc::new(match detached {
            Some(detached) => connection.with_detached(detached),
            None => connection,
        }))
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        self.0.driver()
    }

    /// The peer's hello, once it has arrived.
    pub fn peer(&self) -> Option<&Hello> {
        self.0.peer()
    }

    /// The number of open streams, of both sides.
    pub fn active_streams(&self) -> usize {
        self.0.active_streams()
    }

    /// True if both are the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sends the request if there is room at once. `endpoint` is the name that the open frame
    /// carries. If the request was stopped, the cancel follows in the same write.
    ///
    /// The inner error says why there is no room. Nothing was sent then.
    ///
    /// # Errors
    /// The request was killed, its deadline has passed, or the peer is not the process that the
    /// request names. Nothing was sent.
    pub fn try_open(
        &self,
        request: &OutgoingRequest,
        endpoint: &str,
        id: StreamId,
    ) -> Result<Result<Arc<Call>, Refusal>, Error> {
        self.0.try_open(request, endpoint, id)
    }

    /// Waits until it is closed, by either side. Cancel-safe.
    pub async fn closed(&self) {
        self.tasks().closed.cancelled().await;
    }

    /// True once it is closed.
    pub fn is_closed(&self) -> bool {
        self.tasks().closed.is_cancelled()
    }

    /// Waits until the peer's hello has arrived. Cancel-safe.
    ///
    /// # Errors
    /// The connection was closed before.
    pub async fn established(&self) -> Result<(), Error> {
        let mut stage = self.tasks().stage.subscribe();
        loop {
            match &*stage.borrow_and_update() {
                Stage::Established => return Ok(()),
                Stage::Closed(error) => return Err(error.clone()),
                Stage::Handshake => {}
            }
            if stage.changed().await.is_err() {
                return Err(Error::new(Code::ConnectFailed, "the connection was dropped"));
            }
        }
    }

    /// True while new streams can be opened.
    pub fn is_usable(&self) -> bool {
        !self.is_closed() && !self.0.is_retired()
    }

    /// True once the peer has said that it drains.
    pub fn peer_leaves(&self) -> bool {
        self.0.peer_leaves()
    }

    /// True while a stream is on it, or the end of one that the peer may not have.
    pub(crate) fn has_streams(&self) -> bool {
        self.active_streams() > 0 || self.0.unacknowledged() > 0
    }

    /// Waits until no stream is left, their ends are written, and the peer has said that it has
    /// them: what is written may lie in a connection that is dead already.
    pub(crate) async fn drained(&self) {
        let Tasks { idle, written, closed, .. } = self.tasks();
        let mut is_asked = false;
        loop {
            let (idle, written) = (idle.notified(), written.notified());
            if closed.is_cancelled() {
                return;
            }
            if self.active_streams() == 0 && self.0.is_written() {
                if self.0.unacknowledged() == 0 {
                    return;
                }
                if !std::mem::replace(&mut is_asked, true) {
                    // The peer says it with its next write, which is the answer to this.
                    self.0.ping(LAST_PING);
                    Tasks::transmit(&self.0);
                }
            }
            tokio::select! {
                biased;
                () = closed.cancelled() => return,
                () = idle => {}
                () = written => {}
            }
        }
    }

    /// Takes no new streams above `last_stream` from the peer, and sends it a goaway. Open streams
    /// continue.
    pub fn drain(&self, last_stream: u32) {
        self.0.drain(last_stream);
    }

    /// Refuses each new stream of the peer, without a goaway: it may attach those that it has lost.
    pub(crate) fn refuse_new(&self) {
        self.0.refuse_new();
    }

    /// The peer has said hello; `carrier` is what is known of it besides, where it may send requests.
    pub(crate) fn establish(&self, carrier: Option<PeerFacts>) {
        if let Some((carrier, hello)) = carrier.zip(self.peer()) {
            // It says hello once.
            let _ = self.tasks().peer.set(carrier.with_process(hello.process));
        }
        self.tasks().stage.send_if_modified(|stage| {
            let handshake = matches!(stage, Stage::Handshake);
            if handshake {
                *stage = Stage::Established;
            }
            handshake
        });
    }

    /// Ends the connection and every stream on it. The first reason counts.
    pub fn close(&self, error: &Error) {
        self.close_with(error, |connection| connection.end(error));
    }

    /// The carrier is gone: ends the connection. Its streams wait for another one to the same peer,
    /// where both ends keep them.
    pub(crate) fn lost(&self, error: &Error, why: ResumeReason) {
        self.telling(error, |connection| connection.lost(error, why, clock::now()));
    }

    /// The peer is at fault: ends the connection and every stream on it.
    pub(crate) fn fail(&self, error: &Error) {
        self.telling(error, |connection| connection.end(error));
    }

    /// Closes the connection and tells those who hear of it, if it was up.
    fn telling(&self, error: &Error, end_streams: impl FnOnce(&MuxConnection)) {
        let streams = self.active_streams();
        let tasks = self.tasks();
        self.close_with(error, |connection| {
            // Before its streams are attached elsewhere, of which is told as well.
            if let Some(address) = tasks.address().filter(|_| connection.peer().is_some()) {
                tasks.config.events.lost(address, streams, error);
            }
            end_streams(connection);
        });
    }

    fn close_with(&self, error: &Error, end_streams: impl FnOnce(&MuxConnection)) {
        let Tasks { stage, transport, closed, room, .. } = self.tasks();
        let first = stage.send_if_modified(|stage| {
            let first = !matches!(stage, Stage::Closed(_));
            if first {
                *stage = Stage::Closed(error.clone());
            }
            first
        });
        if !first {
            return;
        }
        tracing::debug!(%transport, code = %error.code(), reason = %error, "connection closed");
        end_streams(&self.0);
        closed.cancel();
        room.notify_waiters();
    }

    /// Closes the connection unless a stream has come in the meantime.
    pub(crate) fn close_if_idle(&self) {
        if self.0.retire_if_idle() {
            self.close(&Error::new(Code::ConnectionLost, "the connection was idle"));
        }
    }
}

/// A connection as its listener sees it.
pub(crate) struct ConnectionOccupant(pub(crate) Connection);

impl Occupant for ConnectionOccupant {
    fn is_idle(&self) -> bool {
        self.0.active_streams() == 0
    }

    fn make_room(&self) {
        self.0.tasks().hurried.store(true, Ordering::Relaxed);
        self.0.close_if_idle();
    }
}
