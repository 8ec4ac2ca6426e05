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
use sinew_mux::Role;
use sinew_plane::{Code, Error, RequestHandler, TransportId};
use sinew_telemetry::{ActiveConnection, ConnectionMetrics, Side};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CheckedTcpConfig,
    connection::{Connection, Sending},
    read::Reader,
    socket::{Socket, TCP},
};

/// Every connection that was started and has not ended, and the tasks of them all.
pub(crate) struct Connections {
    pub(crate) tasks: TaskTracker,
    /// Ends what else runs in `tasks`.
    pub(crate) ending: CancellationToken,
    live: Mutex<Vec<Weak<Connection>>>,
    open: AtomicUsize,
    /// Writes that reached a socket.
    pub(crate) writes: Arc<AtomicU64>,
    pub(crate) meters: Meters,
}

/// What one end counts of its connections, by transport, looked up once.
pub(crate) struct Meters {
    side: Side,
    tcp: OnceLock<ConnectionMetrics>,
    unix: OnceLock<ConnectionMetrics>,
}

impl Meters {
    pub(crate) fn of(&self, transport: &TransportId) -> &ConnectionMetrics {
        let place = if *transport == TCP { &self.tcp } else { &self.unix };
        place.get_or_init(|| ConnectionMetrics::new(transport, self.side))
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
            writes: Arc::default(),
            meters: Meters { side, tcp: OnceLock::new(), unix: OnceLock::new() },
        })
    }

    /// Starts the two tasks of a connection over a socket.
    pub(crate) fn start(
        self: &Arc<Self>,
        socket: Socket,
        role: Role,
        config: Arc<CheckedTcpConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Arc<Connection> {
        self.start_after(BytesMut::new(), socket, role, config, handler)
    }

    /// The same over a socket of which `first` was read already.
    pub(crate) fn start_after(
        self: &Arc<Self>,
        first: BytesMut,
        socket: Socket,
        role: Role,
        config: Arc<CheckedTcpConfig>,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Arc<Connection> {
        let transport = socket.transport();
        let meter = self.meters.of(&transport).clone();
        let open = Open { connections: Arc::clone(self), _active: meter.opened() };
        let (read, write) = socket.split();
        let sending = Sending { socket: write, writes: Arc::clone(&self.writes), meter };
        let connection = Arc::new(Connection::new(role, transport, config, handler, sending));
        self.remember(&connection);
        let reader = Reader::new(Arc::clone(&connection), read, first);
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

    fn remember(&self, connection: &Arc<Connection>) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let mut live = self.live.lock();
        // Swept when half of the list is dead, so that starting one stays cheap.
        if live.len() > 2 * open + 16 {
            live.retain(|connection| connection.strong_count() > 0);
        }
        live.push(Arc::downgrade(connection));
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Those that are open now.
    pub(crate) fn all(&self) -> Vec<Arc<Connection>> {
        let live = self.live.lock();
        let open = |connection: &Arc<Connection>| !connection.closed.is_cancelled();
        live.iter().filter_map(Weak::upgrade).filter(open).collect()
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

/// Counts a connection as open until its reader ends, however it ends.
struct Open {
    connections: Arc<Connections>,
    _active: ActiveConnection,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}
