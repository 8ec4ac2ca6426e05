//! Serves push engines, which keep the sinks and push items into them from a loop of their own.

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
/// The engine gets the body as it was received and a sink that it keeps. No task is started for the
/// request. The request is in flight until the sink has its end. A kill and a passed deadline end
/// the response at once, and the engine's sink is closed from then on. After a stop the engine
/// should finish the current item and then end the stream.
pub struct PushEngineHandler<P: ?Sized> {
    engine: Arc<P>,
}

impl<P: PushEngine> PushEngineHandler<P> {
    /// Serves `engine`.
    pub fn new(engine: P) -> Self {
        Self::shared(Arc::new(engine))
    }
}

impl<P: PushEngine + ?Sized> PushEngineHandler<P> {
    /// Serves an engine that other code holds as well.
    pub fn shared(engine: Arc<P>) -> Self {
        Self { engine }
    }
}

impl<P: PushEngine + ?Sized + 'static> From<PushEngineHandler<P>> for Handler {
    fn from(handler: PushEngineHandler<P>) -> Self {
        Self::of(Arc::new(handler))
    }
}

impl<P: PushEngine + ?Sized> AdmittedHandler for PushEngineHandler<P> {
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

impl<P: ?Sized> std::fmt::Debug for PushEngineHandler<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushEngineHandler")
    }
}
