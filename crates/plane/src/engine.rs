//! Business logic behind an endpoint.

use std::sync::Arc;

use futures_core::Stream;

use crate::{
    BoxFuture, Context, EngineLayer, Error, LayeredEngine, ManyOut, ResponseSink, SingleIn,
    same_type,
};

/// Answers one typed request with a stream of typed values: the pull face of an endpoint.
///
/// Poll the request's [`Context`] where work can be cut short: after a stop the
/// stream should end behind the item in hand; after a kill it is dropped.
///
/// A router is an engine too, so that a service can pass requests on to another one.
pub trait AsyncEngine<Req, Resp>: Send + Sync {
    /// Begins to answer. An `Err` fails the request before its first item.
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>>;

    /// This engine with a layer around it.
    fn with_layer(self, layer: impl EngineLayer<Req, Resp>) -> LayeredEngine<Req, Resp>
    where
        Self: Sized + 'static,
    {
        LayeredEngine::new(self).with_layer(layer)
    }
}

impl<E, Req, Resp> AsyncEngine<Req, Resp> for Arc<E>
where
    E: AsyncEngine<Req, Resp> + ?Sized,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        (**self).generate(request)
    }
}

/// Takes requests into an engine of its own, which pushes items when it has them: the push face
/// of an endpoint, for one batch loop that feeds many sinks.
pub trait PushEngine: Send + Sync {
    /// Takes one request, whose body is still encoded. Must return at once; the sink outlives
    /// the call. An `Err` refuses the request before anything ran.
    ///
    /// # Errors
    /// Why the request is refused.
    fn accept(&self, request: SingleIn<bytes::Bytes>, sink: ResponseSink) -> Result<(), Refused>;
}

/// A request that a [`PushEngine`] does not take, with the sink it came with.
pub type Refused = Box<(Error, ResponseSink)>;

struct EngineFn<F>(F);

impl<F, Fut, S, Req, Resp> AsyncEngine<Req, Resp> for EngineFn<F>
where
    F: Fn(SingleIn<Req>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<S, Error>> + Send + 'static,
    S: Stream<Item = Result<Resp, Error>> + Send + 'static,
    Resp: 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let context = request.context().clone();
        let answer = (self.0)(request);
        Box::pin(async move { Ok(response(answer.await?, context)) })
    }
}

/// The response of `values`: themselves where they are one, as when the function has passed the
/// request on to a router.
fn response<S, Resp>(values: S, context: Context) -> ManyOut<Resp>
where
    S: Stream<Item = Result<Resp, Error>> + Send + 'static,
    Resp: 'static,
{
    same_type(values).unwrap_or_else(|values| ManyOut::new(values, context))
}

/// An engine from an async function that returns a stream. A function that returns the
/// [`ManyOut`] of another engine hands it on as it is.
pub fn engine_fn<F, Fut, S, Req, Resp>(answer: F) -> impl AsyncEngine<Req, Resp>
where
    F: Fn(SingleIn<Req>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<S, Error>> + Send + 'static,
    S: Stream<Item = Result<Resp, Error>> + Send + 'static,
    Resp: 'static,
{
    EngineFn(answer)
}

struct PushEngineFn<F>(F);

impl<F> PushEngine for PushEngineFn<F>
where
    F: Fn(SingleIn<bytes::Bytes>, ResponseSink) -> Result<(), Refused> + Send + Sync,
{
    fn accept(&self, request: SingleIn<bytes::Bytes>, sink: ResponseSink) -> Result<(), Refused> {
        (self.0)(request, sink)
    }
}

/// A push engine from a function that files the sink away, typically into a bounded queue of a
/// batch loop.
pub fn push_engine_fn<F>(accept: F) -> impl PushEngine
where
    F: Fn(SingleIn<bytes::Bytes>, ResponseSink) -> Result<(), Refused> + Send + Sync,
{
    PushEngineFn(accept)
}
