//! The engine traits, which the logic of an endpoint implements.

use std::sync::Arc;

use futures_core::Stream;

use crate::{
    BoxFuture, Context, EngineLayer, Error, LayeredEngine, ManyOut, ResponseSink, SingleIn,
    same_type,
};

/// Answers one typed request with a stream of typed values, which the caller's side polls.
///
/// Check the request's [`Context`] where work can be cut short: after a stop the stream should end
/// after the current item; after a kill it is dropped.
///
/// A router is an engine too, so a service can pass requests on to another service.
pub trait AsyncEngine<Req, Resp>: Send + Sync {
    /// Begins the answer to a request. An `Err` fails the request before its first item.
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>>;

    /// Returns this engine with a layer around it.
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

/// Takes requests and later pushes their items into sinks, for a batch loop that serves many
/// requests at once.
pub trait PushEngine: Send + Sync {
    /// Takes one request, whose body is still encoded. It must return at once; the sink outlives
    /// the call. An `Err` refuses the request.
    ///
    /// # Errors
    /// Why the request is refused.
    fn accept(&self, request: SingleIn<bytes::Bytes>, sink: ResponseSink) -> Result<(), Refused>;
}

/// The error of a [`PushEngine`] that refuses a request, with the sink of the request.
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

/// Makes an engine from an async function that returns a stream. If the function returns the
/// [`ManyOut`] of another engine, that is passed on unchanged.
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

/// Makes a push engine from a function that stores the sink, typically in a bounded queue of a
/// batch loop.
pub fn push_engine_fn<F>(accept: F) -> impl PushEngine
where
    F: Fn(SingleIn<bytes::Bytes>, ResponseSink) -> Result<(), Refused> + Send + Sync,
{
    PushEngineFn(accept)
}
