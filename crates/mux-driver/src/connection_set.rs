//! The connections of one client or server: starts, lists and ends them.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_mux::{Role, Sessions};
use sinew_net::{Carrier, Place};
use sinew_plane::{Budget, Code, Error, ProcessId, RequestHandler, TransportId, clock};
use sinew_telemetry::{ActiveConnection, ConnectionMeters, ConnectionMetrics, Side, StreamMetrics};
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CheckedDriverConfig, budget_keeper,
    coming_back::Losing,
    connection::{Connection, Keeping, MuxConnection, Sending, Tasks},
    lost_streams::LostStreams,
    read::Reader,
    write::run_writer,
};

/// What a listener knows of a connection that it accepted.
pub(crate) struct Arrival {
    /// What was read of it.
    pub(crate) first: BytesMut,
    /// Its place, for as long as it lives.
    pub(crate) place: Option<Place>,
}

/// The connections that are open, by numbers of their own.
#[derive(Default)]
struct Live {
    next: u64,
    by_number: FxHashMap<u64, Weak<MuxConnection>>,
}

/// The open connections of one client or server, and all their tasks. Dropping it ends its other
/// tasks; end the connections with [`close_all`](Self::close_all) or [`end`](Self::end).
pub struct ConnectionSet {
    tasks: TaskTracker,
    /// Ends what else runs in `tasks`.
    ending: CancellationToken,
    live: Mutex<Live>,
    open: AtomicUsize,
    /// The task that keeps the memory budget was started.
    keeping: OnceLock<()>,
    /// Who calls, where requests are served, and the streams that have lost their connection.
    sessions: Arc<Sessions<Tasks>>,
    /// Wakes the task that looks after those.
    session_timer: Arc<Notify>,
    /// That task was started.
    timing: OnceLock<()>,
    /// Told after each change of what waits there.
    looked: Arc<Notify>,
    /// Writes that reached a socket.
    writes: Arc<AtomicU64>,
    meters: ConnectionMeters,
    streams: StreamMetrics,
}

impl ConnectionSet {
    /// Makes an empty set, for the calling or the serving end, whichever of them dials.
    pub fn new(side: Side) -> Arc<Self> {
        Arc::new(Self {
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            live: Mutex::default(),
            open: AtomicUsize::new(0),
            keeping: OnceLock::new(),
            sessions: Arc::default(),
            session_timer: Arc::default(),
            timing: OnceLock::new(),
            looked: Arc::default(),
            writes: Arc::default(),
            meters: ConnectionMeters::new(side),
            streams: StreamMetrics::new(side),
        })
    }

    /// Starts the two tasks of a connection over a carrier. Requests of the peer go to `handler`;
    /// without a handler they are refused.
    pub fn start(
        self: &Arc<Self>,
        carrier: Box<dyn Carrier>,
        role: Role,
        config: Arc<CheckedDriverConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Connection {
        self.start_with(None, carrier, role, config, (handler, None))
    }

    /// The same, whose streams come back over another connection when this one is lost: `losing` says
    /// where they wait, and who has them come back.
    pub(crate) fn start_resuming(
        self: &Arc<Self>,
        carrier: Box<dyn Carrier>,
        config: Arc<CheckedDriverConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
        losing: Losing,
    ) -> Connection {
        self.start_with(None, carrier, Role::Dialler, config, (handler, Some(losing)))
    }

    /// As [`start`](Self::start), over a carrier that a listener accepted. `first` has the bytes
    /// that were read already, `place` is its place at the listener.
    pub fn start_accepted(
        self: &Arc<Self>,
        carrier: Box<dyn Carrier>,
        (first, place): (BytesMut, Option<Place>),
        config: Arc<CheckedDriverConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Connection {
        let arrival = Arrival { first, place };
        self.start_with(Some(arrival), carrier, Role::Acceptor, config, (handler, None))
    }

    /// As [`start_accepted`](Self::start_accepted), for a connection on which this side opens the
    /// streams: those that lose it wait in `lost`.
    pub fn start_accepted_resuming(
        self: &Arc<Self>,
        carrier: Box<dyn Carrier>,
        (first, place): (BytesMut, Option<Place>),
        config: Arc<CheckedDriverConfig>,
        lost: &LostStreams,
    ) -> Connection {
        let arrival = Arrival { first, place };
        let losing = config.mux.resumes().then(|| lost.losing());
        self.start_with(Some(arrival), carrier, Role::Acceptor, config, (None, losing))
    }

    fn start_with(
        self: &Arc<Self>,
        arrival: Option<Arrival>,
        carrier: Box<dyn Carrier>,
        role: Role,
        config: Arc<CheckedDriverConfig>,
        (handler, losing): (Option<Arc<dyn RequestHandler>>, Option<Losing>),
    ) -> Connection {
        let transport = carrier.transport();
        let meter = self.meters.of(&transport);
        let active = meter.opened();
        // Asked for only where somebody may want it, since it costs a system call.
        let peer = handler.is_some().then(|| carrier.peer());
        let (read, write) = carrier.split();
        let sending = Sending { carrier: write, writes: Arc::clone(&self.writes), meter };
        if config.mux.resumes() && handler.is_some() {
            self.look_after_sessions();
        }
        let wakes = vec![Arc::clone(&self.session_timer)];
        let mut keeping = Keeping { losing: None, wakes, metrics: self.streams.clone() };
        if let Some(losing) = losing {
            keeping.wakes.push(Arc::clone(losing.wake()));
            keeping.losing = Some(losing);
        }
        let connection = Connection::new(role, transport, config, handler, sending, keeping);
        if let Some(account) = connection.0.account() {
            let holder: Weak<MuxConnection> = Arc::downgrade(&connection.0);
            account.held_by(holder);
            self.keep_budget(account.budget());
        }
        let open = self.remember(&connection, active);
        let sessions = Arc::clone(&self.sessions);
        let reader = Box::new(Reader::new(connection.clone(), sessions, read, peer, arrival));
        self.tasks.spawn(async move {
            let _open = open;
            reader.run().await;
        });
        self.tasks.spawn(run_writer(connection.clone()));
        if self.tasks.is_closed() {
            // The end came first and has not seen this one.
            connection.close(&Error::draining("this side is shutting down"));
        }
        connection
    }

    /// Starts a task that relieves the budget: it wakes streams that wait for room, and ends
    /// streams that hold memory for slow readers. A connection with a budget starts it itself.
    pub fn keep_budget(&self, budget: &Arc<Budget>) {
        self.keeping.get_or_init(|| {
            self.tasks.spawn(budget_keeper::keep(Arc::clone(budget), self.ending.clone()));
        });
    }

    /// Gives up streams that nobody comes back for, in a task.
    fn look_after_sessions(&self) {
        self.timing.get_or_init(|| {
            let (sessions, timer) = (Arc::clone(&self.sessions), Arc::clone(&self.session_timer));
            let (ending, shown) = (self.ending.clone(), self.streams.detached());
            let looked = Arc::clone(&self.looked);
            self.tasks.spawn(async move {
                loop {
                    shown.set(sessions.waiting());
                    looked.notify_waiters();
                    let until = sessions.poll_timeout();
                    tokio::select! {
                        biased;
                        () = ending.cancelled() => return,
                        () = timer.notified() => {}
                        () = async {
                            match until {
                                Some(until) => tokio::time::sleep_until(until.into()).await,
                                None => std::future::pending().await,
                            }
                        } => sessions.handle_timeout(clock::now()),
                    }
                }
            });
        });
    }

    fn remember(self: &Arc<Self>, connection: &Connection, active: ActiveConnection) -> OpenGuard {
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut live = self.live.lock();
        let number = live.next;
        live.next += 1;
        live.by_number.insert(number, Arc::downgrade(&connection.0));
        OpenGuard { connections: Arc::clone(self), number, _active: active }
    }

    /// Spawns a task that [`end`](Self::end) waits for. The task has to end by itself, or when
    /// [`ending`](Self::ending) is cancelled.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// As [`spawn`](Self::spawn), for a call from outside a tokio runtime.
    pub fn spawn_on(&self, task: impl Future<Output = ()> + Send + 'static, runtime: &Handle) {
        self.tasks.spawn_on(task, runtime);
    }

    /// The token that is cancelled when the grace period of [`end`](Self::end) is over.
    pub fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    /// True once [`end`](Self::end) was called. A connection that is started then is closed at
    /// once.
    pub fn is_ending(&self) -> bool {
        self.tasks.is_closed()
    }

    /// The number of writes to carriers so far, over all connections.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// The metrics of the connections over a transport.
    pub fn metrics(&self, transport: &TransportId) -> ConnectionMetrics {
        self.meters.of(transport)
    }

    /// Until when the last of the streams that this side serves to a process, and that have lost
    /// their connection, waits for its consumer; `None` while none waits.
    pub fn kept_until(&self, process: ProcessId) -> Option<Instant> {
        self.sessions.kept_until(process)
    }

    /// The metrics of streams that lose their connections.
    pub(crate) fn stream_metrics(&self) -> &StreamMetrics {
        &self.streams
    }

    /// How many connections are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The connections that are open now.
    pub fn all(&self) -> Vec<Connection> {
        let mut connections = self.present();
        connections.retain(|connection| !connection.is_closed());
        connections
    }

    /// Those that are open, and those that are closed and keep their streams until their readers have
    /// ended.
    fn present(&self) -> Vec<Connection> {
        self.live.lock().by_number.values().filter_map(Weak::upgrade).map(Connection).collect()
    }

    /// True while a connection is closed whose streams may not wait for the next one yet.
    fn is_closing_any(&self) -> bool {
        self.present().iter().any(Connection::is_closed)
    }

    /// Closes all connections, and ends the streams that wait for another connection.
    pub fn close_all(&self, error: &Error) {
        self.sessions.close(error);
        for connection in self.all() {
            connection.close(error);
        }
    }

    /// True while there are streams on the connections, or streams that this side serves wait for
    /// their consumers: one may come back over another connection, perhaps before this side has seen
    /// that the first one is lost.
    pub fn has_streams(&self) -> bool {
        let on_any = || self.present().iter().any(|it| it.is_closed() || it.has_streams());
        // Twice, because a stream that waits may pass to a connection between the two looks.
        on_any() || self.sessions.waiting() > 0 || on_any()
    }

    /// Waits for at most `grace` until no stream is left: none on a connection, also not on one that
    /// is started meanwhile, and none that waits for its consumer. Call it when this side drains.
    pub async fn settle(&self, grace: Duration) {
        let settled = async {
            loop {
                let looked = self.looked.notified();
                for connection in self.all() {
                    connection.drained().await;
                }
                if !self.has_streams() {
                    return;
                }
                if self.is_closing_any() || self.sessions.waiting() > 0 {
                    looked.await;
                }
            }
        };
        // Past the grace the rest is cut, and counted then.
        let _ = tokio::time::timeout(grace, settled).await;
    }

    /// Lets the streams on all connections end within `grace`, closes the connections, and joins
    /// their tasks. Returns how many streams were cut.
    pub async fn end(&self, grace: Duration) -> usize {
        // From here on a connection that is started is closed at once, and a client refuses.
        self.tasks.close();
        self.settle(grace).await;
        let cut: usize = self.all().iter().map(Connection::active_streams).sum();
        self.ending.cancel();
        let error = Error::new(Code::ConnectionLost, "this side shut down");
        let cut = cut + self.sessions.close(&error);
        // From the list again: one may have been started as the tasks were closed.
        self.close_all(&error);
        self.tasks.wait().await;
        cut
    }
}

impl Drop for ConnectionSet {
    fn drop(&mut self) {
        self.ending.cancel();
        self.sessions.close(&Error::new(Code::ConnectionLost, "this side has gone"));
    }
}

/// Counts a connection as open until its reader ends, however it ends.
struct OpenGuard {
    connections: Arc<ConnectionSet>,
    number: u64,
    _active: ActiveConnection,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        let mut live = self.connections.live.lock();
        let Live { by_number, .. } = &mut *live;
        // Even a weak reference holds the memory of what is gone.
        by_number.remove(&self.number);
        if by_number.capacity() > 4 * by_number.len() + 64 {
            by_number.shrink_to(2 * by_number.len());
        }
        drop(live);
        self.connections.looked.notify_waiters();
    }
}

impl std::fmt::Debug for ConnectionSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionSet").field("open", &self.count()).finish_non_exhaustive()
    }
}
