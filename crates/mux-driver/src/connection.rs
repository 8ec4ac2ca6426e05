//! One live connection and the streams on it.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_mux::{Batch, Hello, Outbound, Role};
use sinew_net::{CONNECTION_COST_BYTES, Occupant, WriteHalf};
use sinew_plane::{
    BudgetUse, Code, Error, RequestHandler, SinkTarget, TransportId, Unanswered,
    budget::{Account, Hold, Tally, Work},
};
use sinew_telemetry::ConnectionMetrics;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{CheckedDriverConfig, call::Call, response::Response, stream_ids::StreamIds};

/// One live connection. The reader task owns what arrives; this is what the reader, the writer
/// and the streams share.
///
/// Locks are taken in the order `streams`, then a stream's own state, then `out`.
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) transport: TransportId,
    pub(crate) config: Arc<CheckedDriverConfig>,
    /// Takes the requests that the peer sends; a connection without one refuses them.
    pub(crate) handler: Option<Arc<dyn RequestHandler>>,
    pub(crate) sending: Sending,
    /// What this connection holds of the memory budget, if there is one.
    pub(crate) account: Option<Arc<Account>>,
    /// Its own cost.
    _cost: Option<Hold>,
    /// What comes out of the handler without an end is admitted.
    pub(crate) decides_at_once: bool,
    /// Streams were admitted, and the writer task is to see that their callers hear of it.
    pub(crate) watch: AtomicBool,
    /// The ids that the peer's streams have had, once it has said who it is. Only where requests
    /// are served.
    pub(crate) ids: OnceLock<Arc<Mutex<StreamIds>>>,
    pub(crate) out: Mutex<SendState>,
    pub(crate) streams: Mutex<Streams>,
    /// Streams in `streams`; read without the lock to decide how eagerly to write.
    pub(crate) active: AtomicUsize,
    /// Wakes the writer task.
    pub(crate) writer: Notify,
    /// A batch was written.
    pub(crate) written: Notify,
    /// A stream ended or the peer granted more: who waits to open one may try again.
    pub(crate) room: Notify,
    /// The last stream has ended.
    pub(crate) idle: Notify,
    /// What the peer said of itself, once it did.
    pub(crate) peer: OnceLock<Hello>,
    /// How far the connection has come.
    pub(crate) stage: watch::Sender<Stage>,
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

/// How far a connection has come.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Handshake,
    Established,
    Closed(Error),
}

/// The sending direction and who is writing it.
pub(crate) struct SendState {
    pub(crate) outbound: Outbound,
    /// A task has taken a batch and will look again before it lets go.
    pub(crate) writing: bool,
    /// A batch that the socket did not take; the writer task goes on with it.
    pub(crate) stalled: Option<Batch>,
    /// The writer task was asked to take over.
    pub(crate) handed_over: bool,
    /// Streams in the middle of an item that no call wants any more, for the reader. Each stream
    /// stands here at most once.
    pub(crate) forgotten: Vec<u32>,
    /// Why a write failed, possibly in the middle of a frame.
    pub(crate) broken: Option<Arc<io::Error>>,
}

/// The streams of a connection by their numbers.
#[derive(Default)]
pub(crate) struct Streams {
    /// Opened by this side.
    pub(crate) calls: FxHashMap<u32, Arc<Call>>,
    /// Opened by the peer.
    pub(crate) responses: FxHashMap<u32, Arc<Response>>,
    /// Bytes that the requests of those hold, and what is charged for them.
    requests_hold: usize,
    charged: Tally,
    /// Those among them whose callers may not have heard of their admission.
    pub(crate) unanswered: Unanswered<u32>,
    /// No new ones: drained or closed.
    pub(crate) draining: bool,
    pub(crate) closed: bool,
}

/// Bytes that a request costs besides its body: its entries in tables, its context, its task.
const REQUEST_COST_BYTES: usize = 1 << 10;

/// A table of streams with room for more than this many is given back when it is empty.
const KEPT_ENTRIES: usize = 64;

impl Streams {
    /// Makes room in the memory budget for a request with so many bytes that are not charged yet.
    ///
    /// # Errors
    /// There is none: nothing has run for it.
    pub(crate) fn admit(
        &mut self,
        bytes: usize,
        account: Option<&Arc<Account>>,
    ) -> Result<(), Error> {
        let Some(account) = account else { return Ok(()) };
        account.budget().admit()?;
        let hold = self.requests_hold + bytes + REQUEST_COST_BYTES;
        if !self.charged.cover(hold, BudgetUse::Bodies, account, Work::New) {
            return Err(account.budget().refusal());
        }
        self.requests_hold = hold;
        Ok(())
    }

    /// Takes a response out that has ended.
    pub(crate) fn take_response(
        &mut self,
        stream: u32,
        account: Option<&Arc<Account>>,
    ) -> Option<Arc<Response>> {
        let response = self.responses.remove(&stream)?;
        if let Some(account) = account {
            let held = response.request_bytes() + REQUEST_COST_BYTES;
            self.requests_hold = self.requests_hold.saturating_sub(held);
            self.charged.settle(self.requests_hold, BudgetUse::Bodies, account);
        }
        if self.responses.is_empty() && self.responses.capacity() > KEPT_ENTRIES {
            self.responses = FxHashMap::default();
        }
        Some(response)
    }

    /// Takes all responses out.
    fn take_responses(&mut self, account: Option<&Arc<Account>>) -> FxHashMap<u32, Arc<Response>> {
        self.requests_hold = 0;
        if let Some(account) = account {
            self.charged.clear(BudgetUse::Bodies, account);
        }
        std::mem::take(&mut self.responses)
    }
}

impl Connection {
    pub(crate) fn new(
        role: Role,
        transport: TransportId,
        config: Arc<CheckedDriverConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
        sending: Sending,
    ) -> Self {
        let account = config.budget.as_ref().map(|budget| budget.open());
        let outbound = Outbound::new(role, &config.mux).with_account(account.clone());
        let decides_at_once = handler.as_ref().is_some_and(|handler| !handler.decides_later());
        // Over the limit too: how many there are is bounded by what the budget has for them.
        let cost = account.as_ref().and_then(|account| {
            account.hold(BudgetUse::Connections, CONNECTION_COST_BYTES, Work::Running)
        });
        Self {
            account,
            _cost: cost,
            role,
            transport,
            config,
            handler,
            sending,
            decides_at_once,
            watch: AtomicBool::new(false),
            ids: OnceLock::new(),
            out: Mutex::new(SendState {
                outbound,
                writing: false,
                stalled: None,
                handed_over: false,
                forgotten: Vec::new(),
                broken: None,
            }),
            streams: Mutex::default(),
            active: AtomicUsize::new(0),
            writer: Notify::new(),
            written: Notify::new(),
            room: Notify::new(),
            idle: Notify::new(),
            peer: OnceLock::new(),
            stage: watch::Sender::new(Stage::Handshake),
            closed: CancellationToken::new(),
            hurried: AtomicBool::new(false),
            read_ended: CancellationToken::new(),
        }
    }

    /// What the peer said of itself, once it did.
    pub fn peer(&self) -> Option<&Hello> {
        self.peer.get()
    }

    /// Streams that run on it now, whoever opened them.
    pub fn active_streams(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Waits until it is closed, by either side. Cancel-safe.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// True once it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the peer's hello is there. Cancel-safe.
    ///
    /// # Errors
    /// The connection was closed before.
    pub async fn established(&self) -> Result<(), Error> {
        let mut stage = self.stage.subscribe();
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
        !self.closed.is_cancelled() && !self.out.lock().outbound.is_retired()
    }

    /// Keeps the count of streams and tells who waits for the last one.
    pub(crate) fn stream_gone(&self) {
        if self.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until no stream is left and their ends are written.
    pub(crate) async fn drained(&self) {
        loop {
            let (idle, written) = (self.idle.notified(), self.written.notified());
            if self.closed.is_cancelled() {
                return;
            }
            if self.active.load(Ordering::Acquire) == 0 {
                let out = self.out.lock();
                if !out.writing && !out.outbound.has_output() {
                    return;
                }
            }
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                () = idle => {}
                () = written => {}
            }
        }
    }

    /// Takes no new streams from the peer from `last_stream` on, and tells it so. What runs goes on.
    pub fn drain(self: &Arc<Self>, last_stream: u32) {
        {
            let mut streams = self.streams.lock();
            if std::mem::replace(&mut streams.draining, true) {
                return;
            }
        }
        let error = Error::draining("the server is draining");
        self.out.lock().outbound.go_away(last_stream, &error);
        self.write_out();
    }

    /// Ends the connection and every stream on it. The first reason counts.
    pub fn close(&self, error: &Error) {
        let first = self.stage.send_if_modified(|stage| {
            let first = !matches!(stage, Stage::Closed(_));
            if first {
                *stage = Stage::Closed(error.clone());
            }
            first
        });
        if !first {
            return;
        }
        tracing::debug!(transport = %self.transport, code = %error.code(), reason = %error, "connection closed");
        let (calls, responses) = {
            let mut streams = self.streams.lock();
            streams.closed = true;
            // No longer usable from here on: who wants a stream dials anew.
            self.out.lock().outbound.on_go_away();
            let responses = streams.take_responses(self.account.as_ref());
            (std::mem::take(&mut streams.calls), responses)
        };
        for (_, call) in calls {
            if let Some(waker) = call.on_connection_lost(error) {
                waker.wake();
            }
            self.stream_gone();
        }
        for (_, response) in responses {
            self.forget_id(&response);
            response.on_connection_lost(error);
            self.stream_gone();
        }
        self.closed.cancel();
        self.room.notify_waiters();
    }

    /// Closes the connection unless a stream has come in the meantime.
    pub(crate) fn close_if_idle(&self) {
        {
            let mut streams = self.streams.lock();
            if !streams.calls.is_empty() || !streams.responses.is_empty() {
                return;
            }
            // From here on a stream cannot be opened, so none can be lost.
            streams.closed = true;
            self.out.lock().outbound.on_go_away();
        }
        self.close(&Error::new(Code::ConnectionLost, "the connection was idle"));
    }

    /// Lets go of buffers and tables that nothing is in.
    pub(crate) fn shrink(&self) {
        let mut streams = self.streams.lock();
        if streams.calls.is_empty() && streams.calls.capacity() > 0 {
            streams.calls = FxHashMap::default();
        }
        if streams.responses.is_empty() && streams.responses.capacity() > 0 {
            streams.responses = FxHashMap::default();
        }
        let mut out = self.out.lock();
        out.outbound.shrink();
        if out.forgotten.is_empty() {
            out.forgotten = Vec::new();
        }
    }

    /// Largest item that the peer takes, in bytes.
    pub(crate) fn peer_message_limit(&self) -> usize {
        self.peer.get().map_or(0, |hello| hello.max_message_bytes as usize)
    }

    /// A response has ended and was handed to the outbox.
    pub(crate) fn remove_response(&self, stream: u32) {
        let removed = self.streams.lock().take_response(stream, self.account.as_ref());
        if let Some(response) = removed {
            self.forget_id(&response);
            self.stream_gone();
        }
    }

    /// The id of a stream that has ended is kept for a while only.
    fn forget_id(&self, response: &Response) {
        if let Some(ids) = self.ids.get() {
            ids.lock().end(response.id());
        }
    }

    /// Has the callers hear that have waited for a while for the admission of their requests.
    /// False when no task waits.
    pub(crate) fn accept_admitted(&self) -> bool {
        let mut waiting = Vec::new();
        let more = {
            let Streams { responses, unanswered, .. } = &mut *self.streams.lock();
            unanswered.look(|stream| waiting.extend(responses.get(&stream).map(Arc::clone)))
        };
        for response in waiting {
            response.accept();
        }
        more
    }
}

impl Occupant for Connection {
    fn is_idle(&self) -> bool {
        self.active.load(Ordering::Acquire) == 0
    }

    fn make_room(&self) {
        self.hurried.store(true, Ordering::Relaxed);
        self.close_if_idle();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("transport", &self.transport)
            .field("role", &self.role)
            .field("active_streams", &self.active_streams())
            .finish_non_exhaustive()
    }
}
