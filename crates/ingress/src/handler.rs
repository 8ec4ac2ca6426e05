//! The trait for handlers of admitted requests, and the layers around them.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use sinew_plane::{
    Context, EndpointName, Error, Headers, InstanceId, PeerFacts, ResponseSink, TransportId,
};
use sinew_registry::LocalEndpoint;

use crate::{instance::Instance, request_guard::RequestGuard};

/// Handles the admitted requests of one endpoint, whose bodies are still encoded.
///
/// [`PushHandler`](crate::PushHandler), [`PushEngineHandler`](crate::PushEngineHandler) and
/// [`RawHandler`](crate::RawHandler) implement it. Implement it yourself for a handler of another
/// kind, and for what a [`HandlerLayer`] puts around a handler.
///
/// The reader task of a transport calls `handle`, so it must return at once and give its work to a
/// task. The request counts as in flight as long as the [`AdmittedRequest`] lives. A panic fails
/// the request as `HandlerGone`.
pub trait AdmittedHandler: Send + Sync {
    /// Handles one request. Every sink ends with one terminal; a sink that is dropped without one
    /// fails the response as `HandlerGone`.
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink);
}

/// An admitted request. It counts as in flight until it is dropped.
pub struct AdmittedRequest<'a> {
    /// The payload as it was received.
    pub body: Bytes,
    /// Cancel, deadline, headers, id. A layer that changes headers puts a
    /// [child](Context::child_with) here.
    pub context: Context,
    pub(crate) transport: &'a TransportId,
    pub(crate) peer: &'a PeerFacts,
    pub(crate) attempt: u8,
    pub(crate) permit: RequestGuard,
}

impl AdmittedRequest<'_> {
    /// The endpoint that was called.
    pub fn endpoint(&self) -> &EndpointName {
        &self.permit.instance.name
    }

    /// The instance that serves the request.
    pub fn instance(&self) -> InstanceId {
        self.permit.instance.id
    }

    /// The headers of its context.
    pub fn headers(&self) -> &Headers {
        self.context.headers()
    }

    /// The transport that the request arrived on.
    pub fn transport(&self) -> &TransportId {
        self.transport
    }

    /// What the transport knows of the other end: its address, whether the connection is encrypted,
    /// and who it has proven to be.
    pub fn peer(&self) -> &PeerFacts {
        self.peer
    }

    /// The number of the attempt, 0 for the first.
    pub fn attempt(&self) -> u8 {
        self.attempt
    }

    /// Refuses the request with an error that says that it did not run, and counts it as refused.
    pub fn refuse(self, sink: ResponseSink, error: Error) {
        self.permit.end(Some(error.fault()));
        sink.reject(error);
    }
}

impl fmt::Debug for AdmittedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmittedRequest")
            .field("endpoint", self.endpoint())
            .field("instance", &self.instance())
            .field("transport", self.transport)
            .finish_non_exhaustive()
    }
}

/// A handler of any kind: made from a [`PushHandler`](crate::PushHandler), a
/// [`PushEngineHandler`](crate::PushEngineHandler) or a [`RawHandler`](crate::RawHandler) with `into()`, or from
/// another [`AdmittedHandler`] with [`new`](Self::new).
#[derive(Clone)]
pub struct Handler {
    pub(crate) serves: Arc<dyn AdmittedHandler>,
    /// Adds the typed engine, if there is one, to the entry that callers in this process use.
    local: Option<Arc<dyn HasEngine>>,
}

/// A handler with a typed engine.
pub(crate) trait HasEngine: Send + Sync {
    fn localize(&self, instance: &Arc<Instance>, local: LocalEndpoint) -> LocalEndpoint;
}

impl Handler {
    /// Makes a handler from your own [`AdmittedHandler`].
    pub fn new(handler: impl AdmittedHandler + 'static) -> Self {
        Self::of(Arc::new(CatchPanic(Arc::new(handler))))
    }

    pub(crate) fn of(serves: Arc<dyn AdmittedHandler>) -> Self {
        Self { serves, local: None }
    }

    pub(crate) fn with_engine(handler: Arc<impl AdmittedHandler + HasEngine + 'static>) -> Self {
        Self { serves: Arc::clone(&handler) as _, local: Some(handler) }
    }

    /// Puts a layer around this handler and around all layers that it already has.
    ///
    /// Calls from this process pass through it as well. They then go over a transport like all
    /// others, because a layer for bytes cannot be put around an engine that takes values. An
    /// [`EngineLayer`](sinew_plane::EngineLayer) can, and leaves calls within the process direct.
    #[must_use]
    pub fn with_layer(self, layer: &(impl HandlerLayer + ?Sized)) -> Self {
        Self::of(Arc::new(CatchPanic(layer.layer(self.serves))))
    }

    pub(crate) fn localize(&self, instance: &Arc<Instance>, local: LocalEndpoint) -> LocalEndpoint {
        match &self.local {
            Some(handler) => handler.localize(instance, local),
            None => local,
        }
    }
}

/// Wraps a handler. The wrapper gets the headers, the transport, the [peer](AdmittedRequest::peer)
/// and the body of each request, and can wrap the sink to get the items of the response: [`ResponseSink::new`] makes a sink around
/// another one.
pub trait HandlerLayer: Send + Sync {
    /// Returns `handler` with this layer around it.
    fn layer(&self, handler: Arc<dyn AdmittedHandler>) -> Arc<dyn AdmittedHandler>;
}

/// Makes a layer from a function that gets each request and the wrapped handler. It passes the
/// request on with [`AdmittedHandler::handle`], or ends it with [`AdmittedRequest::refuse`].
///
/// ```
/// use sinew_ingress::{Handler, RawHandler, handler_layer_fn};
/// use sinew_plane::{AppCode, Error};
///
/// let authenticated = handler_layer_fn(|request, sink, inside| {
///     match request.headers().get("authorization") {
///         Some("token") => inside.handle(request, sink),
///         _ => request.refuse(sink, Error::application(AppCode::UNAUTHENTICATED, "who is there?")),
///     }
/// });
/// let handler: Handler = RawHandler::new(|_, sink| async { sink.complete() }).into();
/// let handler = handler.with_layer(&authenticated);
/// # let _ = handler;
/// ```
pub fn handler_layer_fn<F>(around: F) -> impl HandlerLayer
where
    F: Fn(AdmittedRequest<'_>, ResponseSink, &dyn AdmittedHandler) + Send + Sync + 'static,
{
    LayerFn(Arc::new(around))
}

struct LayerFn<F>(Arc<F>);

impl<F> HandlerLayer for LayerFn<F>
where
    F: Fn(AdmittedRequest<'_>, ResponseSink, &dyn AdmittedHandler) + Send + Sync + 'static,
{
    fn layer(&self, inside: Arc<dyn AdmittedHandler>) -> Arc<dyn AdmittedHandler> {
        Arc::new(Around { around: Arc::clone(&self.0), inside })
    }
}

struct Around<F> {
    around: Arc<F>,
    inside: Arc<dyn AdmittedHandler>,
}

impl<F> AdmittedHandler for Around<F>
where
    F: Fn(AdmittedRequest<'_>, ResponseSink, &dyn AdmittedHandler) + Send + Sync,
{
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink) {
        (self.around)(request, sink, &*self.inside);
    }
}

/// Catches a panic of the handler, which would otherwise end the reader task of the transport and
/// so the other requests of the connection. The drop of the sink fails the response as
/// `HandlerGone`.
struct CatchPanic(Arc<dyn AdmittedHandler>);

impl AdmittedHandler for CatchPanic {
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink) {
        if catch_unwind(AssertUnwindSafe(|| self.0.handle(request, sink))).is_err() {
            tracing::debug!("a handler or a layer panicked while it took a request");
        }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}
