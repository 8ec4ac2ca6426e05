//! Layers around an engine, for authentication, limits, logging or headers.

use std::{fmt, marker::PhantomData, sync::Arc};

use crate::{AsyncEngine, BoxFuture, Error, ManyOut, SingleIn};

/// Wraps an engine, on either side of a call: the router of a caller, or the engine that a worker
/// serves.
///
/// The wrapper gets requests and responses as values, and headers, deadline and cancel in their
/// [`Context`](crate::Context). A request that it answers itself does not reach the wrapped engine.
pub trait EngineLayer<Req, Resp>: Send + Sync {
    /// Returns `engine` with this layer around it.
    fn layer(&self, engine: Arc<dyn AsyncEngine<Req, Resp>>) -> Arc<dyn AsyncEngine<Req, Resp>>;
}

struct LayerFn<F, E>(F, PhantomData<fn() -> E>);

impl<F, E, Req, Resp> EngineLayer<Req, Resp> for LayerFn<F, E>
where
    F: Fn(Arc<dyn AsyncEngine<Req, Resp>>) -> E + Send + Sync,
    E: AsyncEngine<Req, Resp> + 'static,
{
    fn layer(&self, engine: Arc<dyn AsyncEngine<Req, Resp>>) -> Arc<dyn AsyncEngine<Req, Resp>> {
        Arc::new((self.0)(engine))
    }
}

/// Makes a layer from a function that makes an engine around another one, typically an
/// [`engine_fn`](crate::engine_fn) that calls it.
///
/// ```
/// use std::sync::Arc;
/// use sinew_plane::{AppCode, AsyncEngine, EngineLayer, Error, SingleIn, engine_fn, layer_fn};
///
/// fn authenticated(token: &'static str) -> impl EngineLayer<String, String> {
///     layer_fn(move |inner: Arc<dyn AsyncEngine<String, String>>| {
///         engine_fn(move |request: SingleIn<String>| {
///             let inner = Arc::clone(&inner);
///             async move {
///                 if request.context().headers().get("authorization") != Some(token) {
///                     return Err(Error::application(AppCode::UNAUTHENTICATED, "who is there?"));
///                 }
///                 inner.generate(request).await
///             }
///         })
///     })
/// }
/// # let _ = authenticated("token");
/// ```
pub fn layer_fn<F, E, Req, Resp>(around: F) -> impl EngineLayer<Req, Resp>
where
    F: Fn(Arc<dyn AsyncEngine<Req, Resp>>) -> E + Send + Sync,
    E: AsyncEngine<Req, Resp> + 'static,
{
    LayerFn(around, PhantomData)
}

/// An engine with layers around it. Clones share it.
pub struct LayeredEngine<Req, Resp>(Arc<dyn AsyncEngine<Req, Resp>>);

impl<Req, Resp> LayeredEngine<Req, Resp> {
    /// Makes an engine without layers.
    pub fn new(engine: impl AsyncEngine<Req, Resp> + 'static) -> Self {
        Self(Arc::new(engine))
    }

    /// Adds a layer around all others: requests pass through it first.
    #[must_use]
    pub fn with_layer(self, layer: impl EngineLayer<Req, Resp>) -> Self {
        Self(layer.layer(self.0))
    }

    /// Sends a request through the layers to the engine.
    ///
    /// # Errors
    /// A layer's refusal, or why the engine did not begin to answer.
    pub async fn generate(
        &self,
        request: impl Into<SingleIn<Req>>,
    ) -> Result<ManyOut<Resp>, Error> {
        self.0.generate(request.into()).await
    }
}

impl<Req, Resp> AsyncEngine<Req, Resp> for LayeredEngine<Req, Resp> {
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        self.0.generate(request)
    }
}

impl<Req, Resp> Clone for LayeredEngine<Req, Resp> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Req, Resp> fmt::Debug for LayeredEngine<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayeredEngine")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::{Code, Context, engine_fn};

    /// Says what it has in its headers.
    fn echo() -> impl AsyncEngine<String, String> {
        engine_fn(|request: SingleIn<String>| async move {
            let by = request.context().headers().get("by").unwrap_or_default().to_owned();
            Ok::<_, Error>(stream::iter([Ok(format!("{} by {by}", request.data()))]))
        })
    }

    /// Adds its name to a header.
    fn named(name: &'static str) -> impl EngineLayer<String, String> {
        layer_fn(move |inner: Arc<dyn AsyncEngine<String, String>>| {
            engine_fn(move |request: SingleIn<String>| {
                let inner = Arc::clone(&inner);
                async move {
                    let before = request.context().headers().get("by").unwrap_or_default();
                    let by = format!("{before}{name}");
                    let request = request.with_header("by", &by).unwrap();
                    inner.generate(request).await
                }
            })
        })
    }

    #[tokio::test]
    async fn the_last_layer_is_asked_first() {
        let engine = LayeredEngine::new(echo()).with_layer(named("a")).with_layer(named("b"));
        let response = engine.generate("hi".to_owned()).await.unwrap();
        let words: Vec<_> = response.map(Result::unwrap).collect().await;
        assert_eq!(words, ["hi by ba"]);
    }

    #[tokio::test]
    async fn what_a_layer_refuses_does_not_reach_the_engine() {
        let refuses = layer_fn(|_| {
            engine_fn(|_: SingleIn<String>| async {
                Err::<ManyOut<String>, _>(Error::new(Code::Overloaded, "no room"))
            })
        });
        let engine = engine_fn(|_: SingleIn<String>| async {
            Err::<ManyOut<String>, _>(Error::handler("asked behind a refusal"))
        });
        let engine = LayeredEngine::new(engine).with_layer(refuses);
        let error = engine.clone().generate("hi".to_owned()).await.unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
    }

    #[tokio::test]
    async fn a_header_is_added_for_what_is_inside_and_a_cancel_still_arrives() {
        let context = Context::new();
        let request = SingleIn::with_context(1, context.clone()).with_header("by", "me").unwrap();
        let inside = request.context().clone();
        assert_eq!((inside.headers().get("by"), context.headers().get("by")), (Some("me"), None));
        context.kill();
        assert!(inside.is_killed());
    }
}
