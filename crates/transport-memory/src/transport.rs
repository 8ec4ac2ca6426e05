//! The calling side.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use sinew_plane::{
    Address, BoxFuture, CancelReason, Closed, Code, Context, DuplexTransport, Error, Executed,
    InFlightEntry, IncomingRequest, LatencyClass, OutgoingRequest, PeerFacts, ResponseSink,
    ResponseSource, ResponseStream, Shutdown, SinkTarget, TransportCapabilities, TransportId,
};

use crate::{
    exchange::{self, Exchange, Streams, too_large},
    hub::{MEMORY, MemoryHub, Service},
};

type Entry = InFlightEntry<Weak<Exchange>>;

/// Calls the servers of one hub. The transports of a hub share only the hub: closing one does not
/// affect the streams of the others.
pub struct MemoryTransport {
    hub: MemoryHub,
    capabilities: TransportCapabilities,
    streams: Arc<Streams>,
}

impl MemoryTransport {
    /// Makes a calling side on a hub.
    pub fn new(hub: MemoryHub) -> Self {
        let mut capabilities = TransportCapabilities::streaming(hub.config().max_message_bytes);
        capabilities.latency = LatencyClass::Process;
        // The servers bound the streams: a bound here would only refuse earlier what they may
        // still have room for.
        Self { hub, capabilities, streams: Arc::new(Streams::new(usize::MAX)) }
    }

    fn exchange(
        &self,
        address: &Address,
        request: OutgoingRequest,
    ) -> Result<ResponseStream, Error> {
        self.check(&request)?;
        let service = self.find(address)?;
        let context = Context::builder().id(request.context.id()).headers(request.headers);
        let context = match request.context.deadline() {
            Some(deadline) => context.deadline(deadline).build(),
            None => context.build(),
        };
        let (client, server) = self.admit(&service, address)?;
        let exchange = Exchange::new(
            context.clone(),
            self.hub.config(),
            request.window.unwrap_or(self.hub.config().window),
            client,
            server,
        );
        request.context.on_cancel(Arc::downgrade(&exchange));
        context.on_cancel(Arc::downgrade(&exchange));
        // Made before the handler runs: should that panic, the stream is abandoned, not leaked.
        let source = Arc::clone(&exchange) as Arc<dyn ResponseSource>;
        let response = ResponseStream::limited(source, request.context, request.limits);
        let incoming = IncomingRequest {
            endpoint: request.endpoint.as_str(),
            instance: request.instance,
            body: request.body,
            context: context.clone(),
            transport: &MEMORY,
            peer: &PeerFacts::SAME_PROCESS,
            attempt: request.attempt,
            secret: 0,
        };
        let sink = ResponseSink::new(exchange as Arc<dyn SinkTarget>, context);
        service.handler.handle(incoming, sink);
        Ok(response)
    }

    /// What can be refused without a server.
    fn check(&self, request: &OutgoingRequest) -> Result<(), Error> {
        let limit = self.hub.config().max_message_bytes;
        if let Some(reason) = request.context.reason() {
            return Err(Error::cancelled(reason).with_executed(Executed::No));
        }
        if request.context.remaining().is_some_and(|left| left.is_zero()) {
            let message = "the deadline had passed before the request was sent";
            let error = Error::new(Code::DeadlineExceeded, message);
            return Err(error.with_executed(Executed::No));
        }
        if request.body.len() > limit {
            return Err(too_large("a body", request.body.len(), limit));
        }
        Ok(())
    }

    fn find(&self, address: &Address) -> Result<Arc<Service>, Error> {
        let fault = |message| Error::new(Code::ConnectFailed, message);
        if !self.dials(address) {
            return Err(fault(format!("{address} is not an address of the memory transport")));
        }
        self.hub
            .find(address.rest())
            .ok_or_else(|| fault(format!("nobody in this process serves {address}")))
    }

    /// Enters the stream at both ends or at none.
    fn admit(&self, service: &Service, address: &Address) -> Result<(Entry, Entry), Error> {
        let client = self
            .streams
            .enter(Weak::new())
            .map_err(|_| Error::new(Code::ConnectFailed, "this transport is closed"))?;
        let server = service.streams.enter(Weak::new()).map_err(|closed| match closed {
            Closed::Draining => Error::draining(format!("{address} takes nothing new")),
            Closed::Full { max } => {
                Error::new(Code::Overloaded, format!("{address} has {max} streams running"))
            }
        })?;
        Ok((client, server))
    }
}

impl DuplexTransport for MemoryTransport {
    fn id(&self) -> &TransportId {
        &MEMORY
    }

    fn capabilities(&self) -> &TransportCapabilities {
        &self.capabilities
    }

    fn dials(&self, address: &Address) -> bool {
        address.scheme() == MEMORY.as_str()
    }

    /// See the trait. Calls the handler before it is ready, and never waits.
    fn open<'a>(
        &'a self,
        address: &'a Address,
        request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        Box::pin(async move { self.exchange(address, request) })
    }

    /// See the trait. For good: later requests fail with
    /// [`ConnectFailed`](sinew_plane::Code::ConnectFailed). Dropped midway, it refuses new
    /// streams and has cut nothing. Needs a tokio runtime with its clock enabled.
    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(exchange::close(&self.streams, grace, CancelReason::Disconnected))
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport").field("hub", &self.hub).finish_non_exhaustive()
    }
}
