//! What is compared: a way to carry a request there and items back.

mod memory;
mod raw;
mod routed;
mod sinew;
mod split;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Result;
use bytes::Bytes;
use futures_core::Stream;

use crate::{Contestant, PoolCount, Service, Shape};

/// One of the things that are compared.
///
/// The same value is made in the server's process and in the client's; nothing but the address
/// passes between them.
pub trait Peer: Send + Sync + 'static {
    /// The sending end of a response.
    type Sink: Sink;
    /// A running server.
    type Server: Server;
    /// A connected client.
    type Caller: Caller;

    /// Its name in tables and on the command line.
    fn name(&self) -> &'static str;

    /// What it is, in a sentence for the report.
    fn about(&self) -> &'static str;

    /// False for what it cannot carry out within its limits, which the report leaves out.
    fn runs(&self, _shape: &Shape) -> bool {
        true
    }

    /// Serves on a free address of this host, inside a tokio runtime.
    fn serve(
        &self,
        service: Arc<Service<Self::Sink>>,
    ) -> impl Future<Output = Result<Self::Server>> + Send;

    /// Connects anew: what one caller returns shares no connection with another's.
    fn connect(&self, address: &str) -> impl Future<Output = Result<Self::Caller>> + Send;
}

/// A server that listens until it is dropped.
pub trait Server: Send + Sync + 'static {
    /// Where, as [`Peer::connect`] understands it.
    fn address(&self) -> String;

    /// Writes to its sockets so far, if it counts them.
    fn writes(&self) -> Option<u64>;

    /// CPU time so far of other processes that it needs to serve, such as a broker.
    fn helpers_cpu_ns(&self) -> u64 {
        0
    }

    /// How it shares connections back to its callers, if it does.
    fn pool(&self) -> Option<PoolCount> {
        None
    }
}

/// A client with one connection, shared by its clones.
pub trait Caller: Clone + Send + Sync + 'static {
    /// The items of one response. Ends with `None` when all have come.
    type Items: Stream<Item = Result<Bytes>> + Unpin + Send + 'static;

    /// Sends a request.
    fn open(&self, request: Bytes) -> impl Future<Output = Result<Self::Items>> + Send;

    /// Writes to its socket so far, if it counts them.
    fn writes(&self) -> Option<u64>;

    /// Connections that are open now for responses alone, if there are such.
    fn response_connections(&self) -> Option<usize> {
        None
    }
}

/// What became of an item that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It leaves with the next flush.
    Taken,
    /// There is no room now.
    Full,
    /// Nobody is there any more.
    Closed,
}

/// The sending end of one response.
pub trait Sink: Send + 'static {
    /// Sends an item if there is room, not necessarily out yet.
    fn try_send(&mut self, item: &Bytes) -> Sent;

    /// Ready when there may be room; `false` when nobody is there any more.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool>;

    /// Tells the caller that its request was taken, if the peer has a way to say so.
    fn accept(&mut self) {}

    /// Lets out what was sent, or leaves it to the [burst](sinew_plane::burst()) around it.
    fn flush(&self);

    /// All items were sent.
    fn end(self);

    /// Sends the only item, for which there is room, and ends.
    fn end_with(mut self, item: &Bytes)
    where
        Self: Sized,
    {
        if self.try_send(item) == Sent::Taken {
            self.end();
        }
    }
}

/// The peers of this workspace, in the order of the report.
pub fn builtin() -> Vec<Box<dyn Contestant>> {
    vec![
        Box::new(routed::Routed::tcp()),
        Box::new(routed::Routed::unix()),
        Box::new(routed::Routed::local()),
        Box::new(raw::RawMux::with_writer_task()),
        Box::new(raw::RawMux::with_eager_writes()),
        Box::new(sinew::SinewTcp::new()),
        Box::new(sinew::SinewTcp::checked()),
        Box::new(sinew::SinewUnix),
        Box::new(memory::SinewMemory),
        Box::new(split::Split::pooled()),
        Box::new(split::Split::single()),
    ]
}
