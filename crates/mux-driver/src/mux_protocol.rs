//! The serving side: the mux as one of the protocols of a port.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sinew_mux::PREFACE;
use sinew_net::{Accepted, Detect, Protocol};
use sinew_plane::{BoxFuture, Code, Error, RequestHandler};
use sinew_telemetry::Side;

use crate::{CheckedDriverConfig, ConnectionSet};

/// Serves the connections of a port that use the mux protocol, see `docs/protocol.md` in the
/// repository.
#[derive(Clone)]
pub struct MuxProtocol {
    config: Arc<CheckedDriverConfig>,
    handler: Arc<dyn RequestHandler>,
    connections: Arc<ConnectionSet>,
    is_draining: Arc<AtomicBool>,
}

impl MuxProtocol {
    /// Makes a protocol that passes the requests of its connections to `handler`.
    pub fn new(config: CheckedDriverConfig, handler: Arc<dyn RequestHandler>) -> Self {
        let connections = ConnectionSet::new(Side::Serving);
        Self { config: Arc::new(config), handler, connections, is_draining: Arc::default() }
    }

    /// The connections that it serves. They stay open after the futures of
    /// [`serve`](Protocol::serve) end: the owner of the port ends them.
    pub fn connections(&self) -> &Arc<ConnectionSet> {
        &self.connections
    }

    /// Takes no new streams on any connection, also not on those that are accepted from now on, and
    /// sends the peers a goaway. Open streams continue.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        for connection in self.connections.all() {
            // Streams on their way are refused one by one, which is as safe to resend.
            connection.drain(u32::MAX);
        }
    }

    /// Starts the tasks of a connection, and waits for its hello.
    async fn take(&self, accepted: Accepted) {
        let Accepted { carrier, first, place, until, unclassified, draining, .. } = accepted;
        // It is counted among the mux connections from here on.
        drop(unclassified);
        let (config, handler) = (Arc::clone(&self.config), Arc::clone(&self.handler));
        let arrived = (first, Some(place));
        let connection = self.connections.start_accepted(carrier, arrived, config, Some(handler));
        if draining.is_cancelled() {
            // The drain has told the connections that it found, and this was not among them.
            connection.close(&Error::draining("the server is shutting down"));
            return;
        }
        if self.is_draining.load(Ordering::Acquire) {
            // It was accepted for the streams that wait for it.
            connection.refuse_new();
        }
        if tokio::time::timeout_at(until, connection.established()).await.is_err() {
            let error = Error::new(Code::ConnectTimedOut, "the peer did not say hello in time");
            connection.close(&error);
        }
    }
}

impl Protocol for MuxProtocol {
    fn detect(&self, first: &[u8]) -> Detect {
        if first[0] == PREFACE[0] { Detect::Yes } else { Detect::No }
    }

    fn serve(self: Arc<Self>, connection: Accepted) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.take(connection).await })
    }
}

impl std::fmt::Debug for MuxProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxProtocol")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
