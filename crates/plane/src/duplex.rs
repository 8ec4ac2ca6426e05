//! Exchanges whose response comes back on the connection that carried the request.

use std::time::Duration;

use crate::{
    Address, BoxFuture, Error, OutgoingRequest, ResponseStream, TransportCapabilities, TransportId,
};

/// The calling side of a duplex transport.
pub trait DuplexTransport: Send + Sync {
    /// Its name, also the `transport` label of metrics.
    fn id(&self) -> &TransportId;

    /// What it can do.
    fn capabilities(&self) -> &TransportCapabilities;

    /// True when it understands the address, by its scheme.
    fn dials(&self, address: &Address) -> bool;

    /// Sends a request and returns the stream of its response, as soon as the request is on its
    /// way. The stream obeys the limits of the request. Dropping the future before it is ready sends nothing or cancels what was sent.
    ///
    /// # Errors
    /// No connection within the transport's limits, the peer refuses new streams, the deadline
    /// has passed, or the request is over a limit. None of them has run a handler.
    fn open<'a>(
        &'a self,
        address: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>>;

    /// Sends a request if nothing has to be waited for, as when a connection is up and has room.
    /// `None` says that there is something, and that nothing was sent: [`connect`](Self::connect)
    /// and [`open`](Self::open) are the way then. The default has no such short way.
    fn open_now(
        &self,
        address: &Address,
        request: &OutgoingRequest,
    ) -> Option<Result<ResponseStream, Error>> {
        let _ = (address, request);
        None
    }

    /// Sets up what [`open`](Self::open) needs before it can send: a connection whose peer has
    /// answered. No request is sent, so several addresses may be tried beside each other. `None`,
    /// the default, when there is nothing to wait for.
    ///
    /// Dropping the future gives no more than the waiting up: a set-up that has begun ends within
    /// the transport's limits, and serves who asks next.
    ///
    /// The future's errors are those of a connection that cannot be made; nothing has run.
    fn connect<'a>(&'a self, address: &'a Address) -> Option<BoxFuture<'a, Result<(), Error>>> {
        let _ = address;
        None
    }

    /// Closes all connections: streams in flight have `grace` to end, the rest are cut.
    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown>;
}

/// The serving side of a duplex transport.
pub trait DuplexServer: Send + Sync {
    /// Where it can be reached, best address first. The port is the real one.
    fn addresses(&self) -> Vec<Address>;

    /// Refuses new streams from now on and tells the connected peers so. What runs goes on.
    fn drain(&self);

    /// Drains, lets what runs finish within `grace`, cuts the rest, joins every task.
    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, Shutdown>;
}

/// What a shutdown had to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shutdown {
    /// Streams that had not ended when the grace was over.
    pub cut_streams: usize,
    /// Tasks that had to be aborted.
    pub cut_tasks: usize,
}

impl std::ops::Add for Shutdown {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cut_streams: self.cut_streams + other.cut_streams,
            cut_tasks: self.cut_tasks + other.cut_tasks,
        }
    }
}
