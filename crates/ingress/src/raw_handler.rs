//! A handler of bytes that owns its sink.

use std::sync::Arc;

use bytes::Bytes;
use sinew_plane::{Context, EndpointName, InstanceId, PeerFacts, ResponseSink, TransportId};
use tracing::Instrument;

use crate::{
    Handler,
    handler::{AdmittedHandler, AdmittedRequest},
    metered::MeteredSink,
};

/// A request with all that was received with it.
#[derive(Debug, Clone)]
pub struct IncomingOwned {
    /// The endpoint that was called.
    pub endpoint: EndpointName,
    /// The instance that serves the request.
    pub instance: InstanceId,
    /// The payload as it was received.
    pub body: Bytes,
    /// Cancel, deadline, headers, id.
    pub context: Context,
    /// The transport that the request arrived on.
    pub transport: TransportId,
    /// What the transport knows of the other end.
    pub peer: PeerFacts,
    /// The number of the attempt, 0 for the first.
    pub attempt: u8,
}

/// Serves an async function that gets the request as bytes and sends its response by itself.
///
/// Each request runs in a task of its own. A kill and a passed deadline drop the future and end the
/// response; a panic ends it as `HandlerGone`. The function ends the response through its sink,
/// which it may also pass to other code.
pub struct RawHandler<F> {
    answer: Arc<F>,
}

impl<F, Fut> RawHandler<F>
where
    F: Fn(IncomingOwned, ResponseSink) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    /// Serves `answer`.
    pub fn new(answer: F) -> Self {
        Self { answer: Arc::new(answer) }
    }
}

impl<F, Fut> From<RawHandler<F>> for Handler
where
    F: Fn(IncomingOwned, ResponseSink) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn from(handler: RawHandler<F>) -> Self {
        Self::of(Arc::new(handler))
    }
}

impl<F, Fut> AdmittedHandler for RawHandler<F>
where
    F: Fn(IncomingOwned, ResponseSink) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn handle(&self, request: AdmittedRequest<'_>, sink: ResponseSink) {
        let AdmittedRequest { body, context, transport, peer, attempt, permit } = request;
        let instance = Arc::clone(&permit.instance);
        let span = instance.span(&context);
        let sink = MeteredSink::wrap(sink, permit, &context);
        let request = IncomingOwned {
            endpoint: instance.name.clone(),
            instance: instance.id,
            body,
            context: context.clone(),
            transport: transport.clone(),
            peer: peer.clone(),
            attempt,
        };
        let answer = Arc::clone(&self.answer);
        // The function is called inside the task, so that a panic of it stays there.
        let answer = async move {
            tokio::select! {
                biased;
                () = context.killed() => {}
                () = async { answer(request, sink).await } => {}
            }
        };
        instance.process.tasks.spawn(answer.instrument(span));
    }
}

impl<F> std::fmt::Debug for RawHandler<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawHandler")
    }
}
