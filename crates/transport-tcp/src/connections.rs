//! The connections of one client or server: starting them, finding them, ending them.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use sinew_mux::Role;
use sinew_net::{Carrier, Place};
use sinew_plane::{Budget, Code, Error, RequestHandler, TransportId};
use sinew_telemetry::{ActiveConnection, ConnectionMetrics, Side};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CheckedTcpConfig,
    connection::{Connection, Sending},
    keeper,
    read::Reader,
    stream_ids::Callers,
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
    by_number: FxHashMap<u64, Weak<Connection>>,
}

/// Every connection that was started and has not ended, and the tasks of them all.
pub(crate) struct Connections {
    pub(crate) tasks: TaskTracker,
    /// Ends what else runs in `tasks`.
    pub(crate) ending: CancellationToken,
    live: Mutex<Live>,
    open: AtomicUsize,
    /// The task that keeps the memory budget was started.
    keeping: OnceLock<()>,
    /// Who calls, where requests are served.
    callers: Arc<Callers>,
    /// Writes that reached a socket.
    pub(crate) writes: Arc<AtomicU64>,
    pub(crate) meters: Arc<Meters>,
}

/// What one end counts of its connections, by transport, looked up once.
pub(crate) struct Meters {
    side: Side,
    by_transport: Mutex<Vec<(TransportId, ConnectionMetrics)>>,
}

impl Meters {
    pub(crate) fn of(&self, transport: &TransportId) -> ConnectionMetrics {
        let mut known = self.by_transport.lock();
        if let Some((_, metrics)) = known.iter().find(|(it, _)| it == transport) {
            return metrics.clone();
        }
        let metrics = ConnectionMetrics::new(transport, self.side);
        known.push((transport.clone(), metrics.clone()));
        metrics
    }
}

impl Connections {
    /// None yet, of an end that calls or serves, whichever side dials.
    pub(crate) fn new(side: Side) -> Arc<Self> {
        Arc::new(Self {
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            live: Mutex::default(),
            open: AtomicUsize::new(0),
            keeping: OnceLock::new(),
            callers: Arc::default(),
            writes: Arc::default(),
            meters: Arc::new(Meters { side, by_transport: Mutex::default() }),
        })
    }

    /// Starts the two tasks of a connection over a carrier.
    pub(crate) fn start(
        self: &Arc<Self>,
        carrier: Box<dyn Carrier>,
        role: Role,
        config: Arc<CheckedTcpConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Arc<Connection> {
        self.start_with(None, carrier, role, config, handler)
    }

    /// The same over a carrier that a listener accepted.
    pub(crate) fn start_accepted(
        self: &Arc<Self>,
        arrival: Arrival,
        carrier: Box<dyn Carrier>,
        config: Arc<CheckedTcpConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Arc<Connection> {
        self.start_with(Some(arrival), carrier, Role::Acceptor, config, handler)
    }

    fn start_with(
        self: &Arc<Self>,
        arrival: Option<Arrival>,
        carrier: Box<dyn Carrier>,
        role: Role,
        config: Arc<CheckedTcpConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Arc<Connection> {
        let transport = carrier.transport();
        let meter = self.meters.of(&transport);
        let active = meter.opened();
        let (read, write) = carrier.split();
        let sending = Sending { carrier: write, writes: Arc::clone(&self.writes), meter };
        let connection = Arc::new(Connection::new(role, transport, config, handler, sending));
        if let Some(account) = &connection.account {
            let holder: Weak<Connection> = Arc::downgrade(&connection);
            account.held_by(holder);
            self.keep(account.budget());
        }
        let open = self.remember(&connection, active);
        let callers = Arc::clone(&self.callers);
        let reader = Box::new(Reader::new(Arc::clone(&connection), callers, read, arrival));
        self.tasks.spawn(async move {
            let _open = open;
            reader.run().await;
        });
        self.tasks.spawn(Arc::clone(&connection).run_writer());
        if self.tasks.is_closed() {
            // The end came first and has not seen this one.
            connection.close(&Error::draining("this side is shutting down"));
        }
        connection
    }

    /// Sees to it that a task keeps the budget for as long as there are connections to start.
    pub(crate) fn keep(&self, budget: &Arc<Budget>) {
        self.keeping.get_or_init(|| {
            self.tasks.spawn(keeper::keep(Arc::clone(budget), self.ending.clone()));
        });
    }

    fn remember(self: &Arc<Self>, connection: &Arc<Connection>, active: ActiveConnection) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut live = self.live.lock();
        let number = live.next;
        live.next += 1;
        live.by_number.insert(number, Arc::downgrade(connection));
        Open { connections: Arc::clone(self), number, _active: active }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Those that are open now.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        let live = self.live.lock();
        let open = |connection: &Arc<Connection>| !connection.closed.is_cancelled();
        live.by_number.values().filter_map(Weak::upgrade).filter(open).collect()
    }

    /// Closes all at once.
    pub(crate) fn close_all(&self, error: &Error) {
        for connection in self.all() {
            connection.close(error);
        }
    }

    /// Lets the streams on all connections end within `grace`, closes the connections, and joins
    /// their tasks. Returns how many streams were cut.
    pub(crate) async fn end(&self, grace: Duration) -> usize {
        // From here on a connection that is started is closed at once, and a client refuses.
        self.tasks.close();
        let connections = self.all();
        let drained = async {
            for connection in &connections {
                connection.drained().await;
            }
        };
        // Past the grace the rest is cut, which is what the count below reports.
        let _ = tokio::time::timeout(grace, drained).await;
        let left = |connection: &Arc<Connection>| connection.active.load(Ordering::Acquire);
        let cut = connections.iter().map(left).sum();
        drop(connections);
        self.ending.cancel();
        // From the list again: one may have been started as the tasks were closed.
        self.close_all(&Error::new(Code::ConnectionLost, "this side shut down"));
        self.tasks.wait().await;
        cut
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// Counts a connection as open until its reader ends, however it ends.
struct Open {
    connections: Arc<Connections>,
    number: u64,
    _active: ActiveConnection,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        let mut live = self.connections.live.lock();
        let Live { by_number, .. } = &mut *live;
        // Even a weak reference holds the memory of what is gone.
        by_number.remove(&self.number);
        if by_number.capacity() > 4 * by_number.len() + 64 {
            by_number.shrink_to(2 * by_number.len());
        }
    }
}
