//! The traits of duplex transports, whose responses come back on the connection that carried the
//! request.

use std::{any::Any, sync::Arc, time::Duration};

use crate::{
    Address, BoxFuture, Code, Error, OutgoingRequest, ResponseStream, ResumeRequest,
    TransportCapabilities, TransportId, Way, Ways,
};

/// The calling side of a duplex transport.
pub trait DuplexTransport: Send + Sync {
    /// Its name, which is also the `transport` label of metrics.
    fn id(&self) -> &TransportId;

    /// What it can do.
    fn capabilities(&self) -> &TransportCapabilities;

    /// True if it can dial the address, by its scheme.
    fn dials(&self, address: &Address) -> bool;

    /// Sends a request and returns the stream of its response as soon as the request is sent. The
    /// stream obeys the limits of the request. Dropping the future before it is ready cancels the
    /// request if it was sent.
    ///
    /// # Errors
    /// No connection within the transport's limits, the peer refuses new streams, the deadline has
    /// passed, or the request is over a limit. In all these cases no handler ran.
    fn open<'a>(
        &'a self,
        address: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>>;

    /// Sends a request if it can do so without a wait, for example if a connection is up and has
    /// room. `None` if it would have to wait; nothing was sent then, and the caller uses
    /// [`connect`](Self::connect) and [`open`](Self::open). The default returns `None`.
    fn open_now(
        &self,
        address: &Address,
        request: &OutgoingRequest,
    ) -> Option<Result<ResponseStream, Error>> {
        let _ = (address, request);
        None
    }

    /// Makes the connection that [`open`](Self::open) needs, up to the answer of the peer. It sends
    /// no request, so several addresses may be tried in parallel. `None`, the default, if there is
    /// nothing to wait for.
    ///
    /// Dropping the future ends only the wait: a connection that is being made is completed or
    /// fails within the transport's limits, and later calls use it.
    ///
    /// The future fails if the connection cannot be made. No handler ran.
    fn connect<'a>(&'a self, address: &'a Address) -> Option<BoxFuture<'a, Result<(), Error>>> {
        let _ = address;
        None
    }

    /// Tells the transport where it finds the other ways to the instances that it calls. A registry
    /// calls it once, when the transport is registered. A transport whose streams survive their
    /// connection then attaches them over any of those ways. The default does nothing.
    fn find_ways(&self, ways: Arc<dyn Ways>) {
        let _ = ways;
    }

    /// The transport, as others that speak the same protocol know it: one that recognises the type
    /// can attach its streams over the connections of this one. A transport that wraps another
    /// returns what that returns. `None`, the default: no stream of another transport is attached
    /// here.
    fn carrier_of_streams(&self) -> Option<&(dyn Any + Send + Sync)> {
        None
    }

    /// Moves up to `most` running streams from the connection to `from` to a connection over `to`,
    /// which leads to the same process. They go on from the item that they need next, while the
    /// connection that they leave stays up. Returns how many were moved; a stream whose handler is
    /// not known to have begun stays. Dropping the future moves none, or all that it would have
    /// moved.
    ///
    /// The future fails if `to` cannot be connected, leads to another process, or is of a transport
    /// that does not speak the same protocol. All streams then stay where they are.
    fn move_streams<'a>(
        &'a self,
        from: &'a Address,
        to: &'a Way,
        most: usize,
    ) -> BoxFuture<'a, Result<usize, Error>> {
        let _ = (from, to, most);
        let message = format!("the streams of {} cannot be moved", self.id());
        Box::pin(std::future::ready(Err(Error::new(Code::NoTransport, message))))
    }

    /// Continues to read a stream that another process has opened. The worker sends the items from
    /// [`ResumeToken::next_item`] on, if it still has them: what that process has not acknowledged,
    /// and what the endpoint retains.
    ///
    /// The future fails if no connection can be made, or with
    /// [`Code::ResumeExpired`](crate::Code::ResumeExpired) if the transport keeps no streams, as the
    /// default does. That the worker does not have the stream any more is the end of the response.
    ///
    /// [`ResumeToken::next_item`]: crate::ResumeToken::next_item
    fn resume<'a>(
        &'a self,
        address: &'a Address,
        request: ResumeRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        let _ = (address, request);
        let message = format!("streams over {} cannot be resumed", self.id());
        Box::pin(std::future::ready(Err(Error::new(Code::ResumeExpired, message))))
    }

    /// Closes all connections. Streams in flight get `grace` to end; the rest are cut.
    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown>;
}

/// The serving side of a duplex transport.
pub trait DuplexServer: Send + Sync {
    /// The addresses at which it can be reached, best first, with the port that was bound.
    fn addresses(&self) -> Vec<Address>;

    /// Refuses new streams from now on, and announces that to the connected peers. Open streams
    /// continue.
    fn drain(&self);

    /// Drains, lets open streams finish within `grace`, cuts the rest, and joins every task.
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
