//! The handlers of a typed endpoint: plain async functions, engines, and functions that keep the
//! sink.

use std::future::ready;

use futures_util::{Stream, StreamExt, stream};
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_ingress::{Handler, PushEngineHandler, PushHandler, TypedPush, ValueRefused, ValueSink};
use sinew_plane::{AsyncEngine, Context, Error, ManyOut, SingleIn, engine_fn, same_type};

use crate::Failure;

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
    /// Converts it into the handler type of the ingress.
    fn into_handler(self) -> Handler;
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

impl<Req, Resp, F, Fut, K> Handle<Req, Resp, kind::OfValue<K>> for F
where
    F: Fn(Req) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Answer<Resp, K>> + Send + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
    K: 'static,
{
    fn into_handler(self) -> Handler {
        let engine = engine_fn(move |request: SingleIn<Req>| {
            let (value, context) = request.into_parts();
            let answer = self(value);
            async move { answer.await.into_response(context) }
        });
        PushHandler::new(engine).into()
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
    fn into_handler(self) -> Handler {
        let engine = engine_fn(move |request: SingleIn<Req>| {
            let (value, context) = request.into_parts();
            let answer = self(value, context.clone());
            async move { answer.await.into_response(context) }
        });
        PushHandler::new(engine).into()
    }
}

impl<Req, Resp, E> Handle<Req, Resp, kind::Engine> for E
where
    E: AsyncEngine<Req, Resp> + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
{
    fn into_handler(self) -> Handler {
        PushHandler::new(self).into()
    }
}

impl<Req, Resp, F> Handle<Req, Resp, kind::Push> for F
where
    F: Fn(SingleIn<Req>, ValueSink<Resp>) -> Result<(), ValueRefused<Resp>> + Send + Sync + 'static,
    Req: DeserializeOwned + Send + 'static,
    Resp: Serialize + Send + Sync + 'static,
{
    fn into_handler(self) -> Handler {
        PushEngineHandler::new(TypedPush::new(self)).into()
    }
}
