//! The typed router: picks an instance, sends the request, and sends it to another one if that is
//! safe.

use std::{
    collections::HashMap,
    fmt,
    marker::PhantomData,
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
};

use serde_core::{Serialize, de::DeserializeOwned};
use sinew_codec::PayloadFormat;
use sinew_plane::{
    CallLimits, Context, Error, Headers, InstanceId, ManyOut, SingleIn, TransportRequirements,
    Window, clock,
};

use crate::{
    Client, Explanation, Interceptor, LoadBalancer, OutlierPolicy, RetryConfig, RetryPolicy,
    RouterMode,
    deadline::until_deadline,
    payload,
    policy::{Policies, TransportMoves},
    request::Request,
    router_state::{RouterMemory, RouterState},
};

/// Calls an endpoint: one typed request in, a stream of typed values out. Its [`RouterMode`] says
/// how it chooses the instance. Clones share the round-robin position, the counts of requests in
/// flight, the retry budget and the ejections.
///
/// An instance in the same process whose engine has exactly these types is called directly: nothing
/// is serialised. `PushRouter<Bytes, Bytes>` passes bodies and items on unchanged.
///
/// It is an [`AsyncEngine`](sinew_plane::AsyncEngine), so a service can serve it and pass its
/// requests on to another service.
pub struct PushRouter<Req, Resp> {
    shared: Arc<Shared>,
    mode: RouterMode,
    types: PhantomData<fn(Req) -> Resp>,
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) state: Arc<RouterState>,
    pub(crate) format: Option<PayloadFormat>,
    pub(crate) window: Option<Window>,
    pub(crate) limits: CallLimits,
    pub(crate) prefer_local: bool,
    /// Those of the program, in the order in which they run.
    pub(crate) interceptors: Vec<Arc<dyn Interceptor>>,
    pub(crate) forward_credentials: bool,
    /// `None` if the discovery holds no policies, or there is none.
    pub(crate) policies: Option<Arc<Policies>>,
}

impl<Req, Resp> PushRouter<Req, Resp>
where
    Req: Serialize + Send + Sync + 'static,
    Resp: DeserializeOwned + Send + 'static,
{
    /// Makes a router over the instances of `client`, with the default [`RetryConfig`]. Does not
    /// wait for instances; [`Client::wait_for_instances`] does.
    ///
    /// # Errors
    /// None at present.
    pub async fn from_client(client: Client, mode: RouterMode) -> Result<Self, Error> {
        Ok(Self::new(client, mode))
    }

    /// As [`from_client`](Self::from_client), without the async signature of the design documents.
    pub fn new(client: Client, mode: RouterMode) -> Self {
        Self::with_memory(client, mode, &RouterMemory::new())
    }

    /// As [`new`](Self::new), with a memory that other routers of the endpoint share.
    pub fn with_memory(client: Client, mode: RouterMode, memory: &RouterMemory) -> Self {
        let state = Arc::clone(&memory.0);
        // Bytes are their own encoding, whatever the instance would like to read.
        let format = payload::is_bytes::<Req>().then_some(PayloadFormat::Raw);
        let limits = client.limits();
        let (prefer_local, forward_credentials) = (false, false);
        let policies = state.policies(&client);
        let shared = Shared {
            client,
            state,
            format,
            window: None,
            limits,
            prefer_local,
            interceptors: Vec::new(),
            forward_credentials,
            policies,
        };
        Self { shared: Arc::new(shared), mode, types: PhantomData }
    }

    /// Sets other retry rules, and begins with a full budget and no ejections. The result shares
    /// the round-robin position and the counts of requests in flight with this router. Your own
    /// policies stay.
    #[must_use]
    pub fn with_retry(self, retry: RetryConfig) -> Self {
        self.change(|shared| {
            shared.state = Arc::new(shared.state.with_retry(&retry, clock::now()));
        })
    }

    /// Sets your own strategy in place of the mode's. Calls that name a strategy or an instance,
    /// such as [`direct`](Self::direct), use what they name.
    #[must_use]
    pub fn with_load_balancer(self, strategy: impl LoadBalancer + 'static) -> Self {
        let strategy = Arc::new(strategy);
        self.change(|shared| {
            shared.state = Arc::new(shared.state.with_load_balancer(strategy));
        })
    }

    /// Sets a policy that decides which requests are sent again, in place of the rules of
    /// [`RetryConfig`]; the budget stays.
    #[must_use]
    pub fn with_retry_policy(self, policy: impl RetryPolicy + 'static) -> Self {
        let policy = Arc::new(policy);
        self.change(|shared| shared.state = Arc::new(shared.state.with_retry_policy(policy)))
    }

    /// Sets a policy that decides which instances are ejected, in place of
    /// [`RetryConfig::ejection`].
    #[must_use]
    pub fn with_outlier_policy(self, policy: impl OutlierPolicy + 'static) -> Self {
        let policy = Arc::new(policy);
        self.change(|shared| shared.state = Arc::new(shared.state.with_outlier_policy(policy)))
    }

    /// Sets weights for this router and all that share its [memory](RouterMemory), in place of those in
    /// discovery: see [`LoadBalancer::update_weights`].
    pub fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        self.shared.state.update_weights(weights);
    }

    /// Sets one payload format for every instance, instead of the first that each instance lists.
    #[must_use]
    pub fn with_format(self, format: PayloadFormat) -> Self {
        self.change(|shared| shared.format = Some(format))
    }

    /// Sets the flow-control window of responses, instead of the transport's default.
    #[must_use]
    pub fn with_window(self, window: Window) -> Self {
        self.change(|shared| shared.window = Some(window))
    }

    /// Sets the time limits of calls whose context sets none. For a limit that is `None` here, the
    /// client's limit applies. The returned router has its own ejections and its own retry budget,
    /// because an instance that is too slow for this router may still serve others.
    #[must_use]
    pub fn with_limits(self, limits: CallLimits) -> Self {
        self.change(|shared| {
            shared.limits = limits.or(shared.client.limits());
            shared.state = Arc::new(shared.state.apart(clock::now()));
        })
    }

    /// Sets whether the router prefers instances in this process over all others. The default is
    /// false.
    #[must_use]
    pub fn with_prefer_local(self, prefer: bool) -> Self {
        self.change(|shared| shared.prefer_local = prefer)
    }

    /// Sets whether requests that this process serves keep their
    /// [credentials](Headers::CREDENTIALS) when the router sends them on. The default is false:
    /// the next worker may be another party, to which the caller has shown nothing. A credential
    /// that a layer or a handler has set itself is sent in either case.
    #[must_use]
    pub fn with_forward_credentials(self, forward: bool) -> Self {
        self.change(|shared| shared.forward_credentials = forward)
    }

    /// Sets another mode, also in place of your own strategy.
    #[must_use]
    pub fn with_mode(self, mode: RouterMode) -> Self {
        let router = self.change(|shared| {
            shared.state = Arc::new(shared.state.without_load_balancer());
        });
        Self { mode, ..router }
    }

    /// Restricts the calls to transports that have what is required. The returned router has its own
    /// ejections and its own retry budget, because an instance that it cannot reach may still serve
    /// others.
    #[must_use]
    pub fn with_requirements(self, required: TransportRequirements) -> Self {
        self.change(|shared| {
            shared.client = shared.client.with_requirements(required);
            shared.state = Arc::new(shared.state.apart(clock::now()));
        })
    }

    /// Returns the router with one more interceptor, which runs after those that were added before.
    #[must_use]
    pub fn with_interceptor(self, interceptor: impl Interceptor + 'static) -> Self {
        self.change(|shared| shared.interceptors.push(Arc::new(interceptor)))
    }

    fn change(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::make_mut(&mut self.shared));
        self
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The instances.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// The mode, which is not used if the router has your own strategy.
    pub fn mode(&self) -> RouterMode {
        self.mode
    }

    /// How many requests of this router, and of all that share its [memory](RouterMemory), an instance
    /// has in flight: each counts from the choice until the attempt fails, or the response ends or is dropped.
    pub fn in_flight(&self, id: impl Into<InstanceId>) -> u32 {
        self.shared.state.in_flight(id.into())
    }

    /// Sends a request and returns the response as soon as a worker has accepted the request.
    ///
    /// The request's context carries its headers, its deadline and its cancel: the response ends at
    /// the deadline even if the worker sends nothing, and a cancel reaches the handler. Dropping
    /// the future, or the response before its end, cancels the request.
    ///
    /// # Errors
    /// No instance, the refusal or failure of the last instance tried, the deadline, the cancel, or
    /// a request that cannot be encoded. [`Error::executed`] covers all attempts together.
    pub async fn generate(
        &self,
        request: impl Into<SingleIn<Req>>,
    ) -> Result<ManyOut<Resp>, Error> {
        Ok(self.run(None, request.into(), TransportMoves::default()).await?.0)
    }

    /// As [`generate`](Self::generate), and also returns which instance serves the request and
    /// which attempts failed before.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn generate_explained(
        &self,
        request: impl Into<SingleIn<Req>>,
    ) -> Result<(ManyOut<Resp>, Explanation), Error> {
        self.run(None, request.into(), TransportMoves::kept()).await
    }

    /// As [`generate`](Self::generate), at a given instance.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn direct(
        &self,
        request: impl Into<SingleIn<Req>>,
        id: impl Into<InstanceId>,
    ) -> Result<ManyOut<Resp>, Error> {
        Ok(self
            .run(Some(RouterMode::Direct(id.into())), request.into(), TransportMoves::default())
            .await?
            .0)
    }

    /// As [`generate`](Self::generate), at a random instance.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn random(&self, request: impl Into<SingleIn<Req>>) -> Result<ManyOut<Resp>, Error> {
        Ok(self.run(Some(RouterMode::Random), request.into(), TransportMoves::default()).await?.0)
    }

    /// As [`generate`](Self::generate), at the next instance in rotation.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn round_robin(
        &self,
        request: impl Into<SingleIn<Req>>,
    ) -> Result<ManyOut<Resp>, Error> {
        Ok(self
            .run(Some(RouterMode::RoundRobin), request.into(), TransportMoves::default())
            .await?
            .0)
    }

    /// As [`generate`](Self::generate), at the less loaded of two random instances.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn power_of_two_choices(
        &self,
        request: impl Into<SingleIn<Req>>,
    ) -> Result<ManyOut<Resp>, Error> {
        Ok(self
            .run(Some(RouterMode::PowerOfTwoChoices), request.into(), TransportMoves::default())
            .await?
            .0)
    }

    /// As [`generate`](Self::generate), at the least loaded instance.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub async fn least_loaded(
        &self,
        request: impl Into<SingleIn<Req>>,
    ) -> Result<ManyOut<Resp>, Error> {
        Ok(self
            .run(Some(RouterMode::LeastLoaded), request.into(), TransportMoves::default())
            .await?
            .0)
    }

    /// Sends a request by the strategy of `mode`, or by the router's own strategy without a mode.
    /// `moves` is where the moves of the response are kept.
    pub(crate) async fn run(
        &self,
        mode: Option<RouterMode>,
        request: SingleIn<Req>,
        moves: TransportMoves,
    ) -> Result<(ManyOut<Resp>, Explanation), Error> {
        let (data, context) = request.into_parts();
        let context = self.with_or_without_credentials(context);
        let (sent, mut direct) = (AtomicBool::new(false), None);
        let state = &self.shared.state;
        let strategy = match state.custom().filter(|_| mode.is_none()) {
            Some(custom) => (custom, None),
            None => {
                let mode = mode.unwrap_or(self.mode);
                (state.strategies().of(mode, &mut direct), Some(mode))
            }
        };
        let request = Request::new(&self.shared, strategy, &context, (data, moves), &sent);
        until_deadline(&context, &sent, pin!(request.run())).await
    }
}

impl<Req, Resp> PushRouter<Req, Resp> {
    /// The context of a request that is sent: without the credentials of a caller that this process
    /// serves.
    fn with_or_without_credentials(&self, context: Context) -> Context {
        if self.shared.forward_credentials {
            return context;
        }
        let Some(received) = context.received_headers() else { return context };
        let headers = context.headers();
        // What the service has set itself, in place of the caller's, is its own.
        let is_the_callers =
            |name: &&str| headers.get(name).is_some_and(|value| received.get(name) == Some(value));
        let names: Vec<_> = Headers::CREDENTIALS.into_iter().filter(is_the_callers).collect();
        if names.is_empty() { context } else { context.child_with(headers.without(&names)) }
    }
}

impl<Req, Resp> Clone for PushRouter<Req, Resp> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), mode: self.mode, types: PhantomData }
    }
}

impl<Req, Resp> fmt::Debug for PushRouter<Req, Resp> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PushRouter");
        debug.field("client", &self.shared.client).field("mode", &self.mode).finish()
    }
}
