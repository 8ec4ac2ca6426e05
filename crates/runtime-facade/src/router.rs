//! The calling side of a typed endpoint.

use std::{fmt, sync::Arc, time::Duration};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{
    AsyncEngine, BoxFuture, CallLimits, EngineLayer, Error, Executed, InstanceId, ManyOut,
    SingleIn, StopKind, TransportRequirements, Window, within,
};
use sinew_router::{
    Client, Interceptor, LoadBalancer, PushRouter, RetryConfig, RetryPolicy, RouterMode,
};

use crate::Call;

/// Calls a typed endpoint. [`Runtime::router`](crate::Runtime::router) makes one, which is ready
/// for calls at once. Clones share the round-robin position, the counts of requests in flight, the
/// retry budget and the record of instances that failed.
///
/// It wraps a [`PushRouter`], the router of the design documents.
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
    /// The router with all layers around it, if there are any.
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

    /// Makes a call, which is sent when it is awaited.
    pub fn call(&self, value: impl Into<Req>) -> Call<'_, Req, Resp> {
        Call::new(self, value.into())
    }

    /// Sets how the router chooses an instance. The default is round robin.
    #[must_use]
    pub fn mode(self, mode: RouterMode) -> Self {
        self.change(|router| router.with_mode(mode))
    }

    /// Sets your own strategy for the choice of an instance, instead of a [mode](Self::mode).
    #[must_use]
    pub fn load_balancer(self, strategy: impl LoadBalancer + 'static) -> Self {
        self.change(|router| router.with_load_balancer(strategy))
    }

    /// Puts a layer around the router and around the layers given before. Every call passes through
    /// it first, also a call to a given instance.
    #[must_use]
    pub fn layer(mut self, layer: impl EngineLayer<Req, Resp> + 'static) -> Self {
        self.layers.push(Arc::new(layer));
        self.change(|router| router)
    }

    /// Sets when a request is sent again. The retry budget begins anew.
    #[must_use]
    pub fn retry(self, retry: RetryConfig) -> Self {
        self.change(|router| router.with_retry(retry))
    }

    /// Sets your own rules for which requests are sent again, and when. Call it after
    /// [`retry`](Self::retry), which sets a policy too.
    #[must_use]
    pub fn retry_policy(self, policy: impl RetryPolicy + 'static) -> Self {
        self.change(|router| router.with_retry_policy(policy))
    }

    /// Adds an interceptor, which changes the headers of each attempt after those that were added
    /// before.
    #[must_use]
    pub fn interceptor(self, interceptor: impl Interceptor + 'static) -> Self {
        self.change(|router| router.with_interceptor(interceptor))
    }

    /// Sets the time limits of calls that set none themselves.
    #[must_use]
    pub fn limits(self, limits: CallLimits) -> Self {
        self.change(|router| router.with_limits(limits))
    }

    /// Sets one payload format for every instance, instead of the first that each instance lists.
    #[must_use]
    pub fn format(self, format: PayloadFormat) -> Self {
        self.change(|router| router.with_format(format))
    }

    /// Sets the flow-control window of responses, instead of the transport's default.
    #[must_use]
    pub fn window(self, window: Window) -> Self {
        self.change(|router| router.with_window(window))
    }

    /// Makes the router prefer instances in this process over all others.
    #[must_use]
    pub fn prefer_local(self, prefer: bool) -> Self {
        self.change(|router| router.prefer_local(prefer))
    }

    /// Sets what a transport has to offer to carry the calls, such as encryption. The default
    /// requires a response stream and nothing else.
    #[must_use]
    pub fn require(self, required: TransportRequirements) -> Self {
        self.change(|router| router.with_requirements(required))
    }

    /// Waits until discovery has an instance of the endpoint, for at most `timeout`. A call does
    /// not wait for one: it fails if there is none. Cancel-safe.
    ///
    /// # Errors
    /// As [`Client::wait_for_instances`].
    pub async fn wait_for_instances(&self, timeout: Duration) -> Result<Vec<Arc<Instance>>, Error> {
        self.router.client().wait_for_instances(timeout).await
    }

    /// The wrapped router. Calls on it bypass all layers.
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

    /// Sends a request through the layers, to a given instance if there is one.
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

/// Calls to one instance as an engine, for the layers around it.
struct At<Req, Resp>(PushRouter<Req, Resp>, InstanceId);

impl<Req, Resp> AsyncEngine<Req, Resp> for At<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        // What a layer does with the response does not end the request that it is part of.
        Box::pin(self.0.direct(request.into_child(), self.1))
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
