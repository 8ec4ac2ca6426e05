//! One attempt at one instance, over whichever transport reaches it.

use std::{fmt, pin::pin, sync::Arc};

use sinew_plane::{
    Address, CancelReason, Code, Context, Error, Executed, OutgoingRequest, ResponseStream,
    StopKind, TransportId, TransportRequirements, unless_cancelled,
};
use sinew_registry::{Opened, Proximity, Route, TransportRegistry};
use sinew_telemetry::{ActiveStream, TransportMetrics};

/// Which transports a router may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RequestTransport {
    /// Any that the instance offers, nearest and most preferred first.
    #[default]
    Auto,
    /// This one and no other.
    Only(TransportId),
}

/// The low-level router: given where an instance is, it sends one request there and waits until
/// the handler has it. It chooses between transports, not between instances, and never sends a
/// request twice.
#[derive(Clone)]
pub struct AddressedPushRouter {
    registry: Arc<TransportRegistry>,
    mode: RequestTransport,
    required: TransportRequirements,
}

/// A request that its handler has taken.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// The response.
    pub stream: ResponseStream,
    /// What carries it.
    pub transport: TransportId,
    /// Counts the stream as open while it lives.
    pub active: ActiveStream,
    /// Where an error of the stream is counted.
    pub metrics: TransportMetrics,
}

impl AddressedPushRouter {
    /// A router over the transports of `registry` that `mode` allows.
    pub fn from_mode(mode: RequestTransport, registry: Arc<TransportRegistry>) -> Self {
        Self { registry, mode, required: TransportRequirements::default() }
    }

    /// The same router over the transports that `mode` allows.
    #[must_use]
    pub fn with_mode(&self, mode: RequestTransport) -> Self {
        Self { mode, ..self.clone() }
    }

    /// The same router over those transports alone that have what is `required`.
    #[must_use]
    pub fn with_requirements(&self, required: TransportRequirements) -> Self {
        Self { required, ..self.clone() }
    }

    /// The transports.
    pub fn registry(&self) -> &Arc<TransportRegistry> {
        &self.registry
    }

    /// Which of them may be used.
    pub fn mode(&self) -> &RequestTransport {
        &self.mode
    }

    /// The ways to reach an instance, in the order in which [`send`](Self::send) tries them.
    pub fn routes(&self, addresses: &[Address], proximity: Proximity) -> Vec<Route> {
        let mut routes = self.registry.resolve(addresses, proximity, &self.required);
        if let RequestTransport::Only(id) = &self.mode {
            routes.retain(|route| route.transport.id() == id);
        }
        routes
    }

    /// Sends a request and waits until its handler has taken it. A stop of the request's context
    /// ends the connecting, a kill ends the waiting too. Dropping the future cancels what was
    /// sent.
    ///
    /// # Errors
    /// No connection, a refusal, a failure before the first item, or the cancel;
    /// [`Error::is_safe_to_resend`] says whether another instance may be asked.
    pub async fn send(&self, routes: &[Route], request: OutgoingRequest) -> Result<Started, Error> {
        let context = request.context.clone();
        let opened = match self.registry.open_now(routes, &request) {
            Some(opened) => opened?,
            None => Box::pin(self.open(routes, request)).await?,
        };
        self.started(opened, &context).await
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

    /// Waits until the handler has taken a request that is on its way.
    pub(crate) async fn started(
        &self,
        opened: Opened,
        context: &Context,
    ) -> Result<Started, Error> {
        let Opened { mut stream, transport, metrics, since } = opened;
        let active = metrics.stream();
        let started = unless_cancelled(context, StopKind::Kill, pin!(stream.started())).await;
        let started = started.unwrap_or_else(|reason| Err(Error::cancelled(reason)));
        metrics.answered(since);
        match started {
            Ok(()) => Ok(Started { stream, transport, active, metrics }),
            Err(error) => {
                count(&metrics, &error);
                Err(error)
            }
        }
    }
}

/// Counts an error, unless it is the caller's change of mind.
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
