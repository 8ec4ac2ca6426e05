//! Business logic behind an endpoint.

use crate::{BoxFuture, BoxStream, Error, ResponseSink, SingleIn};

/// Answers one typed request with a stream of typed values: the pull face of an endpoint.
///
/// Poll the request's [`Context`](crate::Context) where work can be cut short: after a stop the
/// stream should end behind the item in hand; after a kill it is dropped.
pub trait AsyncEngine<Req, Resp>: Send + Sync {
    /// Begins to answer. An `Err` fails the request before its first item.
    fn generate(
        &self,
        request: SingleIn<Req>,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Resp, Error>>, Error>>;
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
    S: futures_core::Stream<Item = Result<Resp, Error>> + Send + 'static,
{
    fn generate(
        &self,
        request: SingleIn<Req>,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Resp, Error>>, Error>> {
        let answer = (self.0)(request);
        Box::pin(async move { Ok(Box::pin(answer.await?) as BoxStream<'static, _>) })
    }
}

/// An engine from an async function that returns a stream.
pub fn engine_fn<F, Fut, S, Req, Resp>(answer: F) -> impl AsyncEngine<Req, Resp>
where
    F: Fn(SingleIn<Req>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<S, Error>> + Send + 'static,
    S: futures_core::Stream<Item = Result<Resp, Error>> + Send + 'static,
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
