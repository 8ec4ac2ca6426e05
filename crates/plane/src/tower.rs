//! Engines as services of `tower`, and the other way round.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{self, Poll},
};

use parking_lot::Mutex;
use tower::load_shed::error::Overloaded;
use tower_service::Service;

use crate::{AsyncEngine, BoxFuture, Code, Error, ManyOut, SingleIn, StopKind, unless_cancelled};

/// What a service of `tower` fails with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An engine as a [`Service`] of requests. Clones share the engine.
///
/// It is always ready: an engine without room refuses the request with an error. The future is
/// ready when the response begins, so a limit around it counts requests until that moment, and not
/// streams until their end.
pub struct EngineService<Req, Resp>(Arc<dyn AsyncEngine<Req, Resp>>);

impl<Req, Resp> EngineService<Req, Resp> {
    /// Makes a service from `engine`.
    pub fn new(engine: impl AsyncEngine<Req, Resp> + 'static) -> Self {
        Self(Arc::new(engine))
    }
}

impl<Req, Resp> Service<SingleIn<Req>> for EngineService<Req, Resp>
where
    Req: Send + 'static,
    Resp: 'static,
{
    type Response = ManyOut<Resp>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<ManyOut<Resp>, Error>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: SingleIn<Req>) -> Self::Future {
        let engine = Arc::clone(&self.0);
        Box::pin(async move { engine.generate(request).await })
    }
}

impl<Req, Resp> Clone for EngineService<Req, Resp> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Req, Resp> fmt::Debug for EngineService<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineService")
    }
}

/// A [`Service`] of requests as an engine, which a worker can serve and a caller can call.
///
/// Each request gets a clone of the service and waits until that is ready, so what the clones
/// share, such as a limit or a buffer, applies to all requests together. A stop of the request, or
/// the drop of its future, ends the wait. If the service fails before it is ready, or is a
/// `LoadShed` that fails, the request is refused as `Overloaded`, and no handler ran. If a call
/// fails with an [`Error`] of this crate, or with one that has it among its sources, that is passed
/// on unchanged. Any other error fails the request as `HandlerFailed`.
///
/// An engine with a layer of `tower` around it:
///
/// ```
/// use std::sync::Arc;
/// use sinew_plane::{AsyncEngine, EngineLayer, EngineService, ServiceEngine, layer_fn};
///
/// # #[derive(Clone)] struct Limited<S>(S);
/// # impl<S: tower_service::Service<R>, R> tower_service::Service<R> for Limited<S> {
/// #     type Response = S::Response; type Error = S::Error; type Future = S::Future;
/// #     fn poll_ready(&mut self, cx: &mut std::task::Context<'_>)
/// #         -> std::task::Poll<Result<(), S::Error>> { self.0.poll_ready(cx) }
/// #     fn call(&mut self, request: R) -> S::Future { self.0.call(request) }
/// # }
/// fn limited() -> impl EngineLayer<String, String> {
///     layer_fn(|inner: Arc<dyn AsyncEngine<String, String>>| {
///         ServiceEngine::new(Limited(EngineService::new(inner)))
///     })
/// }
/// # let _ = limited();
/// ```
// Behind a lock because few services are `Sync`; it is held for a clone.
pub struct ServiceEngine<S>(Mutex<S>);

impl<S> ServiceEngine<S> {
    /// Makes an engine from `service`.
    pub fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S, Req, Resp> AsyncEngine<Req, Resp> for ServiceEngine<S>
where
    S: Service<SingleIn<Req>, Response = ManyOut<Resp>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    Req: Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let mut service = self.0.lock().clone();
        Box::pin(async move {
            let ready = poll_fn(|cx| service.poll_ready(cx));
            match unless_cancelled(request.context(), StopKind::Stop, ready).await {
                Ok(ready) => ready.map_err(|error| ours(error.into(), not_ready))?,
                Err(reason) => return Err(Error::cancelled(reason)),
            }
            let response = service.call(request).await;
            response.map_err(|error| ours(error.into(), failed))
        })
    }
}

/// An error of ours as it is, also where a layer has put another one around it, and what becomes of
/// one that is of others alone.
fn ours(error: BoxError, other: impl FnOnce(&BoxError) -> Error) -> Error {
    causes(&*error).find_map(|cause| cause.downcast_ref::<Error>().cloned()).unwrap_or_else(|| {
        if causes(&*error).any(|cause| cause.is::<Overloaded>()) {
            return Error::new(Code::Overloaded, "the service sheds load");
        }
        other(&error)
    })
}

/// The error and its sources.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn failed(error: &BoxError) -> Error {
    Error::handler(error.to_string())
}

fn not_ready(error: &BoxError) -> Error {
    Error::new(Code::Overloaded, format!("the service is not ready: {error}"))
}

impl<S> fmt::Debug for ServiceEngine<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceEngine")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;
    use crate::{Context, Executed, engine_fn};

    /// Answers only so many requests until more are allowed, and fails with what it is told.
    #[derive(Clone)]
    struct Limited<S> {
        state: Arc<Mutex<State>>,
        inner: S,
        reserved: bool,
    }

    #[derive(Default)]
    struct State {
        room: usize,
        waiting: Vec<task::Waker>,
        broken: bool,
    }

    impl<S> Limited<S> {
        fn new(inner: S, room: usize) -> Self {
            let state = Arc::new(Mutex::new(State { room, ..State::default() }));
            Self { state, inner, reserved: false }
        }
    }

    impl<S, R> Service<R> for Limited<S>
    where
        S: Service<R>,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        type Response = S::Response;
        type Error = BoxError;
        type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

        fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
            let mut state = self.state.lock();
            if state.broken {
                return Poll::Ready(Err("it is closed".into()));
            }
            if !self.reserved && state.room == 0 {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            if !std::mem::replace(&mut self.reserved, true) {
                state.room -= 1;
            }
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: R) -> Self::Future {
            assert!(std::mem::take(&mut self.reserved), "called before it was ready");
            let answer = self.inner.call(request);
            Box::pin(async { answer.await.map_err(Into::into) })
        }
    }

    /// Counts down, and refuses 0 with an error of its own.
    fn countdown() -> EngineService<u32, u32> {
        EngineService::new(engine_fn(|request: SingleIn<u32>| async move {
            match *request.data() {
                0 => Err(Error::new(Code::InvalidPayload, "nothing to count")),
                n => Ok(stream::iter((1..=n).rev().map(Ok))),
            }
        }))
    }

    #[tokio::test]
    async fn a_request_waits_until_the_service_is_ready_and_then_passes() {
        let service = Limited::new(countdown(), 1);
        let state = Arc::clone(&service.state);
        let engine = ServiceEngine::new(service);
        let numbers: Vec<_> = engine.generate(3.into()).await.unwrap().collect().await;
        assert_eq!(numbers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [3, 2, 1]);

        let mut waits = engine.generate(2.into());
        assert!((&mut waits).now_or_never().is_none());
        let waker = {
            let mut state = state.lock();
            state.room = 1;
            state.waiting.pop().unwrap()
        };
        waker.wake();
        assert_eq!(waits.await.unwrap().count().await, 2);
        assert_eq!(state.lock().room, 0, "it took the room that it was given");
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait_and_nothing_has_run() {
        let engine = ServiceEngine::new(Limited::new(countdown(), 0));
        let context = Context::new();
        let mut waits = engine.generate(SingleIn::with_context(1, context.clone()));
        assert!((&mut waits).now_or_never().is_none());
        context.stop();
        let error = waits.await.unwrap_err();
        assert_eq!(error.code(), Code::Cancelled);
    }

    #[tokio::test]
    async fn errors_of_ours_stay_what_they_are_and_a_service_that_is_gone_refuses() {
        let service = Limited::new(countdown(), 5);
        let state = Arc::clone(&service.state);
        let engine = ServiceEngine::new(service);
        let error = engine.generate(0.into()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::InvalidPayload, "nothing to count"));
        state.lock().broken = true;
        let error = engine.generate(1.into()).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
        assert!(error.message().contains("it is closed"), "{error}");
    }

    /// Puts an error of its own around that of the service inside.
    #[derive(Clone)]
    struct Wrapped<S>(S);

    #[derive(Debug)]
    struct Outer(BoxError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a layer failed")
        }
    }

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&*self.0)
        }
    }

    impl<S, R> Service<R> for Wrapped<S>
    where
        S: Service<R, Error: Into<BoxError>, Future: Send + 'static>,
    {
        type Response = S::Response;
        type Error = Outer;
        type Future = BoxFuture<'static, Result<S::Response, Outer>>;

        fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Outer>> {
            self.0.poll_ready(cx).map_err(|error| Outer(error.into()))
        }

        fn call(&mut self, request: R) -> Self::Future {
            let answer = self.0.call(request);
            Box::pin(async { answer.await.map_err(|error| Outer(error.into())) })
        }
    }

    #[tokio::test]
    async fn an_error_of_ours_stays_what_it_is_within_that_of_a_layer() {
        let error = ServiceEngine::new(Wrapped(countdown())).generate(0.into()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::InvalidPayload, "nothing to count"));
    }

    #[tokio::test]
    async fn what_a_load_shed_sheds_is_refused_as_overloaded_and_has_not_run() {
        let full = || tower::load_shed::LoadShed::new(Limited::new(countdown(), 0));
        for error in [
            ServiceEngine::new(full()).generate(1.into()).await.unwrap_err(),
            ServiceEngine::new(Wrapped(full())).generate(1.into()).await.unwrap_err(),
        ] {
            assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
            assert!(error.is_safe_to_resend());
        }
    }
}
