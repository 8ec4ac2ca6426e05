//! One attempt at one instance, over whichever transport reaches it.

use std::{fmt, pin::pin, sync::Arc};

use sinew_plane::{
    Address, CancelReason, Code, Context, Error, Executed, OutgoingRequest, ResponseStream,
    StopKind, TransportId, TransportRequirements, unless_cancelled,
};
use sinew_registry::{Opened, Proximity, Route, TransportRegistry};
use sinew_telemetry::{ActiveStream, Stopwatch, TransportMetrics};

/// Which transports a router may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RequestTransport {
    /// Any transport that the instance offers, the nearest and most preferred first.
    #[default]
    Auto,
    /// This transport only.
    Only(TransportId),
}

/// The low-level router: sends one request to the given addresses of an instance, and waits until
/// the worker has accepted it. It chooses between transports and not between instances, and never
/// sends a request twice.
#[derive(Clone)]
pub struct AddressedPushRouter {
    registry: Arc<TransportRegistry>,
    mode: RequestTransport,
    required: TransportRequirements,
}

/// A request that a worker has accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// The response.
    pub stream: ResponseStream,
    /// The transport that carries it.
    pub transport: TransportId,
    /// Counts the stream as open until it is dropped.
    pub active: ActiveStream,
    /// The metrics in which an error of the stream is counted.
    pub metrics: TransportMetrics,
    /// When the request was sent.
    since: Stopwatch,
}

impl Started {
    /// A request that is on its way.
    pub(crate) fn sent(opened: Opened) -> Self {
        let Opened { stream, transport, metrics, since } = opened;
        Self { stream, transport, active: metrics.stream(), metrics, since }
    }

    /// Waits until the handler has taken the request.
    pub(crate) async fn accepted(&mut self, context: &Context) -> Result<(), Error> {
        let started = pin!(self.stream.started());
        let started = unless_cancelled(context, StopKind::Kill, started).await;
        let started = started.unwrap_or_else(|reason| Err(Error::cancelled(reason)));
        self.metrics.answered(self.since);
        if let Err(error) = &started {
            count(&self.metrics, error);
        }
        started
    }
}

impl AddressedPushRouter {
    /// Makes a router over the transports of `registry` that `mode` allows.
    pub fn from_mode(mode: RequestTransport, registry: Arc<TransportRegistry>) -> Self {
        Self { registry, mode, required: TransportRequirements::default() }
    }

    /// Returns a router over the transports that `mode` allows.
    #[must_use]
    pub fn with_mode(&self, mode: RequestTransport) -> Self {
        Self { mode, ..self.clone() }
    }

    /// Returns a router over only those transports that have what is `required`.
    #[must_use]
    pub fn with_requirements(&self, required: TransportRequirements) -> Self {
        Self { required, ..self.clone() }
    }

    /// The transports.
    pub fn registry(&self) -> &Arc<TransportRegistry> {
        &self.registry
    }

    /// Which of the transports may be used.
    pub fn mode(&self) -> &RequestTransport {
        &self.mode
    }

    /// The routes to an instance, in the order in which [`send`](Self::send) tries them.
    pub fn routes(&self, addresses: &[Address], proximity: Proximity) -> Vec<Route> {
        let mut routes = self.registry.resolve(addresses, proximity, &self.required);
        if let RequestTransport::Only(id) = &self.mode {
            routes.retain(|route| route.transport.id() == id);
        }
        routes
    }

    /// Sends a request and waits until the worker has accepted it. A stop of the request's context
    /// ends the wait for a connection; a kill also ends the wait for the acceptance. Dropping the
    /// future cancels the request.
    ///
    /// # Errors
    /// No connection, a refusal, a failure before the first item, or the cancel;
    /// [`Error::is_safe_to_resend`] says whether the request may go to another instance.
    pub async fn send(&self, routes: &[Route], request: OutgoingRequest) -> Result<Started, Error> {
        let context = request.context.clone();
        let opened = match self.registry.open_now(routes, &request) {
            Some(opened) => opened?,
            None => Box::pin(self.open(routes, request)).await?,
        };
        let mut started = Started::sent(opened);
        started.accepted(&context).await?;
        Ok(started)
    }

    /// Waits for a connection, and sends the request over it.
    pub(crate) async fn open(
        &self,
        routes: &[Route],
        request: OutgoingRequest,
    ) -> Result<Opened, Error> {
        let context = request.context.clone();
        let opening = self.registry.open(routes, request);
        // The deadline is watched by who sends, above all attempts.
        let opened = unless_cancelled(&context, StopKind::Stop, pin!(opening)).await;
        opened.unwrap_or_else(|reason| Err(Error::cancelled(reason)))
    }
}

/// Counts an error, unless it is the caller's own cancel.
pub(crate) fn count(metrics: &TransportMetrics, error: &Error) {
    if error.code() != Code::Cancelled {
        metrics.error(error.fault());
    }
}

/// The error of a request whose context was cancelled.
pub(crate) fn cancelled(context: &Context, executed: Executed) -> Error {
    let reason = context.reason().unwrap_or(CancelReason::Caller);
    Error::cancelled(reason).with_executed(executed)
}

impl fmt::Debug for AddressedPushRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AddressedPushRouter");
        debug.field("registry", &self.registry).field("mode", &self.mode).finish()
    }
}
