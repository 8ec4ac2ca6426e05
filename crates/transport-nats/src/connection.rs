//! The connection to NATS that callers and endpoints of a process share.

use std::{sync::Arc, time::Duration};

use sinew_plane::{Error, Shutdown};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    CheckedNatsConfig,
    connection_state::{ConnectionState, StopTokens},
    driver,
    metrics::Counters,
    pending::Pending,
};

/// Longest wait for the last acknowledgements to leave when the grace of a close is over: a write
/// to a live server takes well under a millisecond.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// Denied subscriptions that those who register have not looked at yet: an endpoint of ours makes
/// ten, and few are registered at once.
const DENIALS: usize = 128;

/// A connection to NATS. Clones share it. When the last clone and everything made from it is
/// dropped, it is closed without a grace period.
///
/// It reconnects without a limit, and then serves its endpoints again. If the server announces its
/// shutdown (lame duck mode), it first connects to another server.
#[derive(Clone)]
pub struct NatsConnection {
    state: Arc<ConnectionState>,
    _end: Arc<DropGuard>,
}

/// The state of a connection, and what it has counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct NatsStats {
    /// How often the connection broke.
    pub disconnects: u64,
    /// How often it was connected again after it broke.
    pub reconnects: u64,
    /// How often the client was replaced because its server announced its shutdown, or because the
    /// client had ended.
    pub replaced: u64,
    /// Requests that wait for their acknowledgement now, and requests to a queue that wait for an
    /// answer.
    pub in_flight: usize,
    /// Messages to endpoints that were dropped because they could not be answered: without a
    /// reply subject, or with one outside [`NatsConfig::inbox_prefix`](crate::NatsConfig).
    pub dropped: u64,
    /// Replies that arrived after their request had ended, or twice.
    pub late_replies: u64,
    /// How often messages were lost because they arrived faster than they were read.
    pub slow_consumer: u64,
}

impl NatsConnection {
    /// Connects, trying again with pauses until `startup_timeout`.
    ///
    /// Dropping the future closes what was opened.
    ///
    /// # Errors
    /// [`Code::ConnectTimedOut`](sinew_plane::Code::ConnectTimedOut) with the last reason when the
    /// time is over; [`Code::ConnectFailed`](sinew_plane::Code::ConnectFailed) at once if another
    /// attempt would fail too, for example because the server refuses the credentials.
    pub async fn connect(config: CheckedNatsConfig) -> Result<Self, Error> {
        let session_events = driver::first_session(&config).await?;
        let root = CancellationToken::new();
        let state = Arc::new(ConnectionState {
            pending: Pending::new(config.max_in_flight),
            account: config.budget.as_ref().map(|budget| budget.open()),
            config,
            sessions: watch::Sender::new(Some(session_events.session.clone())),
            counters: Counters::new(),
            denied_subscriptions: broadcast::Sender::new(DENIALS),
            stop: StopTokens {
                closing: root.child_token(),
                cut: root.child_token(),
                done: root.child_token(),
            },
            endpoints: TaskTracker::new(),
            drivers: TaskTracker::new(),
        });
        state.drivers.spawn(driver::drive(Arc::clone(&state), session_events));
        Ok(Self { state, _end: Arc::new(root.drop_guard()) })
    }

    /// True while a server is connected.
    pub fn is_connected(&self) -> bool {
        self.state.connected().is_ok()
    }

    /// Largest request that the connected server takes, in bytes, headers included; `None` while
    /// there is no connection.
    pub fn max_payload(&self) -> Option<usize> {
        self.state.connected().ok().map(|session| session.client.max_payload())
    }

    /// The port that the connected server announces; `None` while there is no connection.
    pub fn server_port(&self) -> Option<u16> {
        self.state.connected().ok().map(|session| session.client.server_info().port)
    }

    /// The counts of the connection. Most of them are also in the [metrics](crate::metrics).
    pub fn stats(&self) -> NatsStats {
        let counters = &self.state.counters;
        NatsStats {
            disconnects: counters.disconnects.get(),
            reconnects: counters.reconnects.get(),
            replaced: counters.replaced.get(),
            in_flight: self.state.pending.len(),
            dropped: counters.dropped.get(),
            late_replies: counters.late_replies.get(),
            slow_consumer: counters.slow_consumer.get(),
        }
    }

    /// Refuses new requests, drains the endpoints, waits for the acknowledgements of requests in
    /// flight for at most `grace`, cuts the rest, joins every task and closes the connection.
    ///
    /// In the result, `cut_streams` counts requests without an acknowledgement, and `cut_tasks`
    /// endpoints that were still draining.
    pub async fn close(&self, grace: Duration) -> Shutdown {
        let state = &self.state;
        let deadline = Instant::now() + grace;
        state.stop.closing.cancel();
        state.endpoints.close();
        state.drivers.close();
        let finished = async { tokio::join!(state.endpoints.wait(), state.pending.settled()) };
        let _ = timeout_at(deadline, finished).await;
        let cut = Shutdown { cut_streams: state.pending.len(), cut_tasks: state.endpoints.len() };
        state.stop.cut.cancel();
        state.endpoints.wait().await;
        let session = state.sessions.borrow().clone();
        if let Some(session) = session.filter(|session| session.is_connected()) {
            let _ = timeout(LAST_WRITE, session.client.flush()).await;
        }
        state.stop.done.cancel();
        state.drivers.wait().await;
        cut
    }

    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }
}

impl std::fmt::Debug for NatsConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsConnection")
            .field("servers", &self.state.config.servers_text())
            .field("is_connected", &self.is_connected())
            .finish()
    }
}
