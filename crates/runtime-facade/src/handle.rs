//! The handlers of a typed endpoint: plain async functions, engines, and functions that keep the
//! sink.

use std::{future::ready, marker::PhantomData};

use futures_util::{Stream, StreamExt, stream};
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_ingress::{Handler, PushEngineHandler, TypedPush, ValueRefused, ValueSink};
use sinew_plane::{AsyncEngine, BoxFuture, Context, Error, ManyOut, SingleIn, same_type};

use crate::{Failure, Typed};

/// A handler of requests `Req` with responses `Resp`, for
/// [`Runtime::serve`](crate::Runtime::serve). It is implemented for
///
/// - `async fn(Req) -> Result<Resp, E>`: one value;
/// - `async fn(Req) -> Result<S, E>`, `S` a stream of `Result<Resp, E>`: many values;
/// - both with the [`Context`] of the request as a second argument: its headers, its deadline and
///   its cancel;
/// - every [`AsyncEngine`];
/// - `fn(SingleIn<Req>, ValueSink<Resp>) -> Result<(), ValueRefused<Resp>>`, which stores the sink
///   and returns at once.
///
/// `E` is [`HandlerError`](crate::HandlerError), [`Error`], or another [`Failure`]. The compiler
/// infers `Kind`, which tells these forms apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not serve requests `{Req}` with responses `{Resp}`",
    label = "not a handler for this endpoint",
    note = "write `async fn(Req) -> Result<Resp, E>`, or return a stream of `Result<Resp, E>`; the \
            `Context` may be a second argument, and `E` is an error, a `HandlerError` or `anyhow::Error`"
)]
pub trait Handle<Req, Resp, Kind>: Send + Sync + 'static {
    /// What the [builder](crate::ServeBuilder) holds: an engine takes an
    /// [`EngineLayer`](crate::EngineLayer), a function that keeps the sink takes none.
    type Served: Into<Handler> + Send + 'static;

    /// Converts it into what the builder holds.
    fn into_served(self) -> Self::Served;
}

/// The output of a handler's future: one value, or a stream.
pub trait Answer<Resp, Kind>: Send {
    /// Converts the output into the response to the request of `context`, with the errors that the
    /// caller gets.
    fn into_response(self, context: Context) -> Result<ManyOut<Resp>, Error>;
}

impl<Resp: Send + 'static, E: Failure<K>, K> Answer<Resp, kind::One<K>> for Result<Resp, E> {
    fn into_response(self, context: Context) -> Result<ManyOut<Resp>, Error> {
        let value = self.map_err(Failure::into_error)?;
        Ok(ManyOut::new(stream::once(ready(Ok(value))), context))
    }
}

impl<Resp, S, E, F, K, L> Answer<Resp, kind::Many<F, K, L>> for Result<S, E>
where
    S: Stream<Item = Result<Resp, F>> + Send + 'static,
    Resp: 'static,
    E: Failure<K>,
    F: Failure<L> + 'static,
{
    /// A [`ManyOut`], such as the response of another router, is returned unchanged, with its head,
    /// its facts and its outcome.
    fn into_response(self, context: Context) -> Result<ManyOut<Resp>, Error> {
        Ok(same_type(self.map_err(Failure::into_error)?).unwrap_or_else(|values: S| {
            ManyOut::new(values.map(|value| value.map_err(Failure::into_error)), context)
        }))
    }
}

/// Markers for the kinds of [`Handle`], of [`Answer`] and of [`Failure`]. The compiler infers them.
pub mod kind {
    use std::marker::PhantomData;

    /// An error.
    pub struct Own;
    /// What shows an error.
    pub struct Shown;
    /// A text.
    pub struct Text;
    /// One value, or a failure of kind `K`.
    pub struct One<K>(PhantomData<K>);
    /// A stream of values that ends with errors `E`, of kind `L`, or a failure of kind `K`.
    pub struct Many<E, K, L>(PhantomData<(E, K, L)>);
    /// A function of the request alone.
    pub struct OfValue<A>(PhantomData<A>);
    /// A function of the request and its context.
    pub struct WithContext<A>(PhantomData<A>);
    /// An engine.
    pub struct Engine;
    /// A function that keeps the sink.
    pub struct Push;
}

/// An async function as an engine.
pub struct Function<F, K> {
    function: F,
    kind: PhantomData<fn() -> K>,
}

impl<F, K> Function<F, K> {
    fn new(function: F) -> Self {
        Self { function, kind: PhantomData }
    }
}

impl<Req, Resp, F, Fut, K> AsyncEngine<Req, Resp> for Function<F, kind::OfValue<K>>
where
    F: Fn(Req) -> Fut + Send + Sync,
    Fut: Future<Output: Answer<Resp, K>> + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let (value, context) = request.into_parts();
        let answer = (self.function)(value);
        Box::pin(async move { answer.await.into_response(context) })
    }
}

impl<Req, Resp, F, Fut, K> AsyncEngine<Req, Resp> for Function<F, kind::WithContext<K>>
where
    F: Fn(Req, Context) -> Fut + Send + Sync,
    Fut: Future<Output: Answer<Resp, K>> + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let (value, context) = request.into_parts();
        let answer = (self.function)(value, context.clone());
        Box::pin(async move { answer.await.into_response(context) })
    }
}

impl<Req, Resp, F, Fut, K> Handle<Req, Resp, kind::OfValue<K>> for F
where
    F: Fn(Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Answer<Resp, K>> + Send + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    K: 'static,
{
    type Served = Typed<Function<F, kind::OfValue<K>>, Req, Resp>;

    fn into_served(self) -> Self::Served {
        Typed::new(Function::new(self))
    }
}

impl<Req, Resp, F, Fut, K> Handle<Req, Resp, kind::WithContext<K>> for F
where
    F: Fn(Req, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Answer<Resp, K>> + Send + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    K: 'static,
{
    type Served = Typed<Function<F, kind::WithContext<K>>, Req, Resp>;

    fn into_served(self) -> Self::Served {
        Typed::new(Function::new(self))
    }
}

impl<Req, Resp, E> Handle<Req, Resp, kind::Engine> for E
where
    E: AsyncEngine<Req, Resp> + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
{
    type Served = Typed<E, Req, Resp>;

    fn into_served(self) -> Self::Served {
        Typed::new(self)
    }
}

/// A function that keeps the sink, as the ingress takes it.
pub struct Pushed(Handler);

impl From<Pushed> for Handler {
    fn from(pushed: Pushed) -> Self {
        pushed.0
    }
}

impl<Req, Resp, F> Handle<Req, Resp, kind::Push> for F
where
    F: Fn(SingleIn<Req>, ValueSink<Resp>) -> Result<(), ValueRefused<Resp>> + Send + Sync + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
{
    type Served = Pushed;

    fn into_served(self) -> Self::Served {
        Pushed(PushEngineHandler::new(TypedPush::new(self)).into())
    }
}
