//! What an endpoint does with a request.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;
use sinew_plane::{Context, EndpointName, Error, Headers, InstanceId, ResponseSink, TransportId};
use sinew_registry::LocalEndpoint;

use crate::{instance::Instance, permit::Permit};

/// Gets the requests of one endpoint that were admitted, still encoded.
///
/// [`PushHandler`](crate::PushHandler), [`PushFace`](crate::PushFace) and
/// [`RawHandler`](crate::RawHandler) are handlers; one of another kind implements this trait, and
/// so does what a [`HandlerLayer`] puts around one.
///
/// `handle` runs in a transport's reader, so it must return at once, and hands work to a task. The
/// request counts as in flight as long as the [`AdmittedRequest`] lives. A panic fails the request
/// as `HandlerGone`.
pub trait AdmittedHandler: Send + Sync {
    /// Takes one request. Every sink ends with one terminal; dropping it says `HandlerGone`.
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink);
}

/// A request that was let in. It has its place among those in flight until it is dropped.
pub struct AdmittedRequest<'a> {
    /// The payload as it came.
    pub body: Bytes,
    /// Cancel, deadline, headers, id. A layer that changes headers puts a
    /// [child](Context::child_with) here.
    pub context: Context,
    pub(crate) transport: &'a TransportId,
    pub(crate) attempt: u8,
    pub(crate) permit: Permit,
}

impl AdmittedRequest<'_> {
    /// What was called.
    pub fn endpoint(&self) -> &EndpointName {
        &self.permit.instance.name
    }

    /// Which instance takes it.
    pub fn instance(&self) -> InstanceId {
        self.permit.instance.id
    }

    /// The headers of its context.
    pub fn headers(&self) -> &Headers {
        self.context.headers()
    }

    /// How it came.
    pub fn transport(&self) -> &TransportId {
        self.transport
    }

    /// 0 for the first try.
    pub fn attempt(&self) -> u8 {
        self.attempt
    }

    /// Refuses the request with an error, as one that did not run, and counts it as that.
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
/// [`PushFace`](crate::PushFace) or a [`RawHandler`](crate::RawHandler) with `into()`, or from
/// another [`AdmittedHandler`] with [`new`](Self::new).
#[derive(Clone)]
pub struct Handler {
    pub(crate) serves: Arc<dyn AdmittedHandler>,
    /// What adds the typed engine, if there is one, to what callers in this process find.
    local: Option<Arc<dyn HasEngine>>,
}

/// A handler with an engine of values.
pub(crate) trait HasEngine: Send + Sync {
    fn localize(&self, instance: &Arc<Instance>, local: LocalEndpoint) -> LocalEndpoint;
}

impl Handler {
    /// A handler of the user's own kind.
    pub fn new(handler: impl AdmittedHandler + 'static) -> Self {
        Self::of(Arc::new(CatchPanic(Arc::new(handler))))
    }

    pub(crate) fn of(serves: Arc<dyn AdmittedHandler>) -> Self {
        Self { serves, local: None }
    }

    pub(crate) fn with_engine(handler: Arc<impl AdmittedHandler + HasEngine + 'static>) -> Self {
        Self { serves: Arc::clone(&handler) as _, local: Some(handler) }
    }

    /// The same handler with a layer around it, and around all layers that it has already.
    ///
    /// Callers in this process do not pass it by: they come over a transport like all others, as
    /// a layer that sees bytes cannot stand before an engine that is called with values. An
    /// [`EngineLayer`](sinew_plane::EngineLayer) can, and keeps the short cut.
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

/// Puts something around a handler: it sees the headers of each request and how it came, and its
/// bytes and those of the response. [`ResponseSink::new`] makes a sink around another one.
pub trait HandlerLayer: Send + Sync {
    /// `handler` with this around it.
    fn layer(&self, handler: Arc<dyn AdmittedHandler>) -> Arc<dyn AdmittedHandler>;
}

/// A layer from a function that gets each request and the handler inside. It passes the request on
/// with [`AdmittedHandler::handle`], or ends it with [`AdmittedRequest::refuse`].
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

/// Keeps a panic from the transport's reader, where it would take the other requests of the
/// connection along. The sink goes down with the call and says `HandlerGone`.
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
