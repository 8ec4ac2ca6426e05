//! The calling side of a typed endpoint.

use std::{fmt, sync::Arc, time::Duration};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{
    AsyncEngine, BoxFuture, CallLimits, EngineLayer, Error, Executed, InstanceId, ManyOut,
    SingleIn, StopKind, TransportRequirements, Window, within,
};
use sinew_router::{Client, LoadBalancer, PushRouter, RetryConfig, RetryPolicy, RouterMode};

use crate::Call;

/// Calls a typed endpoint: made by [`Runtime::router`](crate::Runtime::router), and ready for
/// calls at once. Clones share the rotation, the counts of requests in flight, the retry budget and
/// what is known of instances that failed.
///
/// Underneath is a [`PushRouter`], which the design documents name.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use sinew::{DiscoverySource, Endpoint, HandlerResult, Runtime};
///
/// const GREET: Endpoint<String, String> = Endpoint::new("text/words/greet");
///
/// async fn greet(name: String) -> HandlerResult<String> {
///     Ok(format!("hello, {name}"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
/// let _served = runtime.serve(&GREET, greet).await?;
///
/// let router = runtime.router(&GREET);
/// let text = router.call("you").timeout(Duration::from_secs(2)).unary().await?;
/// assert_eq!(text, "hello, you");
/// # Ok(())
/// # }
/// ```
pub struct Router<Req, Resp> {
    router: PushRouter<Req, Resp>,
    layers: Layers<Req, Resp>,
    /// The router with all layers around it, where there are any.
    layered: Option<Arc<dyn AsyncEngine<Req, Resp>>>,
}

/// The innermost first.
type Layers<Req, Resp> = Vec<Arc<dyn EngineLayer<Req, Resp>>>;

impl<Req, Resp> Router<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(client: Client) -> Self {
        let router = PushRouter::new(client, RouterMode::RoundRobin);
        Self { router, layers: Vec::new(), layered: None }
    }

    /// A call, which is sent when it is awaited.
    pub fn call(&self, value: impl Into<Req>) -> Call<'_, Req, Resp> {
        Call::new(self, value.into())
    }

    /// How an instance is chosen, instead of one after the other.
    #[must_use]
    pub fn mode(self, mode: RouterMode) -> Self {
        self.change(|router| router.with_mode(mode))
    }

    /// A strategy of your own, instead of those that a mode names.
    #[must_use]
    pub fn load_balancer(self, strategy: impl LoadBalancer + 'static) -> Self {
        self.change(|router| router.with_load_balancer(strategy))
    }

    /// Puts a layer around the router and the layers given before. Calls pass through it first,
    /// those to one instance as well.
    #[must_use]
    pub fn layer(mut self, layer: impl EngineLayer<Req, Resp> + 'static) -> Self {
        self.layers.push(Arc::new(layer));
        self.change(|router| router)
    }

    /// When a request is sent again. The budget is a fresh one.
    #[must_use]
    pub fn retry(self, retry: RetryConfig) -> Self {
        self.change(|router| router.with_retry(retry))
    }

    /// What is sent again and when, by rules of your own. Give it behind [`retry`](Self::retry), which
    /// brings its own.
    #[must_use]
    pub fn retry_policy(self, policy: impl RetryPolicy + 'static) -> Self {
        self.change(|router| router.with_retry_policy(policy))
    }

    /// Limits for the waits of its calls, where a call leaves them open.
    #[must_use]
    pub fn limits(self, limits: CallLimits) -> Self {
        self.change(|router| router.with_limits(limits))
    }

    /// One payload format for every instance, instead of the first that the instance lists.
    #[must_use]
    pub fn format(self, format: PayloadFormat) -> Self {
        self.change(|router| router.with_format(format))
    }

    /// A flow-control window of its own for responses.
    #[must_use]
    pub fn window(self, window: Window) -> Self {
        self.change(|router| router.with_window(window))
    }

    /// Asks instances of this process before all others.
    #[must_use]
    pub fn prefer_local(self, prefer: bool) -> Self {
        self.change(|router| router.prefer_local(prefer))
    }

    /// What a transport has to offer to carry its calls, such as encryption. The default is a
    /// stream of responses.
    #[must_use]
    pub fn require(self, required: TransportRequirements) -> Self {
        self.change(|router| router.with_requirements(required))
    }

    /// Waits until an instance is known, for no longer than `timeout`. A call does not wait: it
    /// fails where there is none. Cancel-safe.
    ///
    /// # Errors
    /// As [`Client::wait_for_instances`].
    pub async fn wait_for_instances(&self, timeout: Duration) -> Result<Vec<Arc<Instance>>, Error> {
        self.router.client().wait_for_instances(timeout).await
    }

    /// The router underneath, past all layers.
    pub fn push_router(&self) -> &PushRouter<Req, Resp> {
        &self.router
    }

    fn change(
        mut self,
        change: impl FnOnce(PushRouter<Req, Resp>) -> PushRouter<Req, Resp>,
    ) -> Self {
        self.router = change(self.router);
        let layered = !self.layers.is_empty();
        self.layered = layered.then(|| self.around(Arc::new(self.router.clone())));
        self
    }

    fn around(&self, engine: Arc<dyn AsyncEngine<Req, Resp>>) -> Arc<dyn AsyncEngine<Req, Resp>> {
        self.layers.iter().fold(engine, |engine, layer| layer.layer(engine))
    }

    /// Sends a request through the layers, to an instance if one is named.
    pub(crate) async fn send(
        &self,
        request: SingleIn<Req>,
        instance: Option<InstanceId>,
    ) -> Result<ManyOut<Resp>, Error> {
        let layered = match (&self.layered, instance) {
            (None, None) => return self.router.generate(request).await,
            (None, Some(id)) => return self.router.direct(request, id).await,
            (Some(layered), None) => Arc::clone(layered),
            (Some(_), Some(id)) => self.around(Arc::new(At(self.router.clone(), id))),
        };
        // The router watches the deadline of what it sends, and a layer may wait before that.
        let context = request.context().clone();
        let response = within(&context, StopKind::Kill, layered.generate(request)).await;
        response.unwrap_or_else(|reason| {
            context.cancel(StopKind::Kill, reason);
            Err(Error::cancelled(reason).with_executed(Executed::Maybe))
        })
    }
}

/// One instance as an engine, for the layers around it.
struct At<Req, Resp>(PushRouter<Req, Resp>, InstanceId);

impl<Req, Resp> AsyncEngine<Req, Resp> for At<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let (data, context) = request.into_parts();
        // What a layer does with the response does not end the request that it is part of.
        let request = SingleIn::with_context(data, context.child());
        Box::pin(self.0.direct(request, self.1))
    }
}

impl<Req, Resp> Clone for Router<Req, Resp> {
    fn clone(&self) -> Self {
        let Self { router, layers, layered } = self;
        Self { router: router.clone(), layers: layers.clone(), layered: layered.clone() }
    }
}

impl<Req, Resp> fmt::Debug for Router<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&self.router).finish()
    }
}
