//! The calling side of a typed endpoint.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_discovery::Instance;
use sinew_plane::{
    AsyncEngine, BoxFuture, CallLimits, Code, Context, EngineLayer, Error, Executed, InstanceId,
    ManyOut, ResumeToken, SingleIn, StopKind, TransportRequirements, Window, within,
};
use sinew_router::{
    Client, Interceptor, LoadBalancer, OutlierPolicy, PushRouter, RetryConfig, RetryPolicy,
    RouterMemory, RouterMode,
};

use crate::Call;

/// Calls a typed endpoint. [`Runtime::router`](crate::Runtime::router) makes one, which is ready
/// for calls at once. All routers of an endpoint in a runtime share the round-robin position and
/// the counts of requests in flight. Routers without [retry rules](Self::retry) of their own also
/// share the retry budget and the record of instances that failed.
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
    /// The router with all layers around it, if there are any. The first call makes it.
    layered: Arc<OnceLock<Arc<dyn AsyncEngine<Req, Resp>>>>,
    given: Given,
}

/// The innermost first.
type Layers<Req, Resp> = Vec<Arc<dyn EngineLayer<Req, Resp>>>;

impl<Req, Resp> Router<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    pub(crate) fn new(client: Client, memory: &RouterMemory) -> Self {
        let router = PushRouter::with_memory(client, RouterMode::RoundRobin, memory);
        Self { router, layers: Vec::new(), layered: Arc::default(), given: Given::default() }
    }

    /// Continues to read the response of a request that another process has sent, as
    /// [`PushRouter::resume`] does: also after that process has ended. The
    /// [token](crate::ManyOut::resume_token) names the next item. Layers see nothing of it.
    ///
    /// # Errors
    /// As [`PushRouter::resume`].
    pub async fn resume(&self, token: &ResumeToken) -> Result<ManyOut<Resp>, Error> {
        self.router.resume(token, Context::new()).await
    }

    /// Makes a call, which is sent when it is awaited.
    pub fn call(&self, value: impl Into<Req>) -> Call<'_, Req, Resp> {
        Call::new(self, value.into())
    }

    /// Sets how the router chooses an instance. The default is round robin. With a
    /// [strategy](Self::load_balancer) of your own beside it, every call fails.
    #[must_use]
    pub fn mode(mut self, mode: RouterMode) -> Self {
        self.given.mode = true;
        self.change(|router| router.with_mode(mode))
    }

    /// Sets your own strategy for the choice of an instance, instead of a [mode](Self::mode). With
    /// both, every call fails.
    #[must_use]
    pub fn load_balancer(mut self, strategy: impl LoadBalancer + 'static) -> Self {
        self.given.load_balancer = true;
        self.change(|router| router.with_load_balancer(strategy))
    }

    /// Puts a layer around the router and around the layers given before. Every call passes through
    /// it first, also a call to a given instance. The first call makes the layers, once for all
    /// clones of the router. If a layer passes the request on with a context that is neither the
    /// request's nor a child of it, a given instance is ignored and the router picks one.
    #[must_use]
    pub fn layer(mut self, layer: impl EngineLayer<Req, Resp> + 'static) -> Self {
        self.layers.push(Arc::new(layer));
        self.change(|router| router)
    }

    /// Sets when a request is sent again. The router has a retry budget of its own then, and its
    /// own record of instances that failed; without it all routers of an endpoint in a runtime
    /// share these.
    #[must_use]
    pub fn retry(mut self, retry: RetryConfig) -> Self {
        self.given.retry = Some(retry.clone());
        self.change(|router| router.with_retry(retry))
    }

    /// Sets your own rules for which requests are sent again, and when. You may also call
    /// [`retry`](Self::retry), but then it may set only the budget and the ejection. If it changes
    /// the attempts, the backoff or the longest wait, every call fails.
    #[must_use]
    pub fn retry_policy(mut self, policy: impl RetryPolicy + 'static) -> Self {
        self.given.retry_policy = true;
        self.change(|router| router.with_retry_policy(policy))
    }

    /// Adds an interceptor, which changes the headers of each attempt after those that were added
    /// before.
    #[must_use]
    pub fn interceptor(self, interceptor: impl Interceptor + 'static) -> Self {
        self.change(|router| router.with_interceptor(interceptor))
    }

    /// Sets your own rules for which instances are ejected. With [`retry`](Self::retry) beside it,
    /// every call fails if that changes the ejection.
    #[must_use]
    pub fn outlier_policy(mut self, policy: impl OutlierPolicy + 'static) -> Self {
        self.given.outlier_policy = true;
        self.change(|router| router.with_outlier_policy(policy))
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
        self.change(|router| router.with_prefer_local(prefer))
    }

    /// Sets whether requests that this process serves keep their
    /// [credentials](crate::Headers::CREDENTIALS) when the router sends them on. The default is
    /// false. A credential that a layer or a handler has set itself is sent in either case.
    #[must_use]
    pub fn forward_credentials(self, forward: bool) -> Self {
        self.change(|router| router.with_forward_credentials(forward))
    }

    /// Sets what a transport has to offer to carry the calls, such as encryption. The default
    /// requires a response stream and nothing else. The returned router has its own retry budget and
    /// its own record of failed instances.
    #[must_use]
    pub fn requirements(self, required: TransportRequirements) -> Self {
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
        self.layered = Arc::default();
        self
    }

    fn layered(&self) -> &Arc<dyn AsyncEngine<Req, Resp>> {
        self.layered.get_or_init(|| {
            let router: Arc<dyn AsyncEngine<Req, Resp>> = Arc::new(Innermost(self.router.clone()));
            self.layers.iter().fold(router, |engine, layer| layer.layer(engine))
        })
    }

    /// Sends a request through the layers, to an instance if one is given.
    pub(crate) async fn send(
        &self,
        request: SingleIn<Req>,
        instance: Option<InstanceId>,
    ) -> Result<ManyOut<Resp>, Error> {
        self.given.check()?;
        let request = match (self.layers.is_empty(), instance) {
            (true, None) => return self.router.generate(request).await,
            (true, Some(id)) => return self.router.direct(request, id).await,
            (false, None) => request,
            (false, Some(id)) => at(request, id)?,
        };
        // The router watches the deadline of what it sends, and a layer may wait before that.
        let context = request.context().clone();
        let response = within(&context, StopKind::Kill, self.layered().generate(request)).await;
        response.unwrap_or_else(|reason| {
            context.cancel(StopKind::Kill, reason);
            Err(Error::cancelled(reason).with_executed(Executed::Maybe))
        })
    }
}

/// A router is an engine, with all its layers: a service that serves it passes its requests on. The
/// request goes on in a [child](crate::Context::child) of its context, without its
/// [credentials](crate::Headers::CREDENTIALS) unless the router [forwards](Router::forward_credentials)
/// them.
impl<Req, Resp> AsyncEngine<Req, Resp> for Router<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let (data, context) = request.into_parts();
        // Only a call of this router says at which instance.
        let headers = context.headers().without(&[AT]);
        let request = SingleIn::with_context(data, context.child_with(headers));
        Box::pin(self.send(request, None))
    }
}

/// The header with the instance of a call, from the call to the router within its layers.
const AT: &str = "sinew-call-at";

fn at<Req>(request: SingleIn<Req>, id: InstanceId) -> Result<SingleIn<Req>, Error> {
    request.with_header(AT, &id.0.to_string()).map_err(|error| {
        let message = format!("the call has no room for the header with its instance: {error}");
        Error::new(Code::InvalidPayload, message).with_executed(Executed::No)
    })
}

/// The router within its layers.
struct Innermost<Req, Resp>(PushRouter<Req, Resp>);

impl<Req, Resp> AsyncEngine<Req, Resp> for Innermost<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    fn generate(&self, request: SingleIn<Req>) -> BoxFuture<'_, Result<ManyOut<Resp>, Error>> {
        let (data, context) = request.into_parts();
        let instance = context.headers().get(AT).and_then(|id| id.parse().ok().map(InstanceId));
        // What a layer does with the response does not end the request that it is part of.
        let context = match instance {
            None => context.child(),
            Some(_) => context.child_with(context.headers().without(&[AT])),
        };
        let request = SingleIn::with_context(data, context);
        Box::pin(async move {
            match instance {
                None => self.0.generate(request).await,
                Some(id) => self.0.direct(request, id).await,
            }
        })
    }
}

/// Which settings were given, as some of them contradict each other.
#[derive(Clone, Default)]
struct Given {
    mode: bool,
    load_balancer: bool,
    retry: Option<RetryConfig>,
    retry_policy: bool,
    outlier_policy: bool,
}

impl Given {
    /// Fails where one setting could only be ignored beside another.
    fn check(&self) -> Result<(), Error> {
        match self.contradiction() {
            None => Ok(()),
            Some(message) => {
                let message =
                    format!("the settings of the router contradict each other: {message}");
                Err(Error::new(Code::InvalidPayload, message).with_executed(Executed::No))
            }
        }
    }

    fn contradiction(&self) -> Option<&'static str> {
        if self.mode && self.load_balancer {
            return Some("`mode` and `load_balancer` both choose the instance");
        }
        let retry = self.retry.as_ref().filter(|_| self.retry_policy || self.outlier_policy)?;
        let default = RetryConfig::default();
        let RetryConfig { max_attempts, budget: _, backoff, max_wait, ejection } = retry;
        let rules = (max_attempts, backoff, max_wait);
        let is_changed = rules != (&default.max_attempts, &default.backoff, &default.max_wait);
        if self.retry_policy && is_changed {
            let message = "`retry_policy` decides, and not the `max_attempts`, `backoff` and \
                           `max_wait` of `retry`";
            return Some(message);
        }
        let has_ejection = self.outlier_policy && *ejection != default.ejection;
        has_ejection.then_some("`outlier_policy` decides, and not the `ejection` of `retry`")
    }
}

impl<Req, Resp> Clone for Router<Req, Resp> {
    fn clone(&self) -> Self {
        let Self { router, layers, layered, given } = self;
        Self {
            router: router.clone(),
            layers: layers.clone(),
            layered: Arc::clone(layered),
            given: given.clone(),
        }
    }
}

impl<Req, Resp> fmt::Debug for Router<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Router").field(&self.router).finish()
    }
}
