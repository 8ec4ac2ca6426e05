//! The push face: an engine that keeps the sinks and feeds them from its own loop.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use sinew_plane::{PushEngine, ResponseSink, SingleIn};

use crate::{
    Handler,
    handler::{AdmittedHandler, AdmittedRequest},
    metered::MeteredSink,
};

/// Serves a [`PushEngine`].
///
/// The engine gets the body as it came and a sink that it keeps; it takes no task. The request is
/// in flight until the sink has its end. A kill, and a deadline that passes, end the response
/// without the engine, which then finds its sink closed. After a stop the engine should end the
/// stream behind the item in hand.
pub struct PushFace<P: ?Sized> {
    engine: Arc<P>,
}

impl<P: PushEngine> PushFace<P> {
    /// Serves `engine`.
    pub fn new(engine: P) -> Self {
        Self::shared(Arc::new(engine))
    }
}

impl<P: PushEngine + ?Sized> PushFace<P> {
    /// Serves an engine that others hold too.
    pub fn shared(engine: Arc<P>) -> Self {
        Self { engine }
    }
}

impl<P: PushEngine + ?Sized + 'static> From<PushFace<P>> for Handler {
    fn from(face: PushFace<P>) -> Self {
        Self::of(Arc::new(face))
    }
}

impl<P: PushEngine + ?Sized> AdmittedHandler for PushFace<P> {
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink) {
        let AdmittedRequest { body, context, permit, .. } = request;
        let _inside = permit.instance.span(&context).entered();
        let sink = MeteredSink::wrap(sink, permit, &context);
        let request = SingleIn::with_context(body, context);
        // Caught here, as this is the transport's reader: a panic must not take the other
        // requests of the connection along. The sink goes down with the call and says
        // HandlerGone; what else the engine keeps is its own to keep valid.
        match catch_unwind(AssertUnwindSafe(|| self.engine.accept(request, sink))) {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => {
                let (error, sink) = *refused;
                sink.reject(error);
            }
            Err(_) => tracing::debug!("the engine panicked while it took a request"),
        }
    }
}

impl<P: ?Sized> std::fmt::Debug for PushFace<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushFace")
    }
}
