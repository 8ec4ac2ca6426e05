//! One process's share in a network of endpoints.

mod builder;
mod policies;

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_core::{Serialize, de::DeserializeOwned};
use sinew_discovery::{Discovery, DiscoveryError, View, host_id};
use sinew_ingress::{Drained, Ingress, IngressConfig};
use sinew_plane::{Address, Budget, EndpointName, RequestHandler};
use sinew_registry::{LocalEndpoints, LocalProcess, TransportRegistration, TransportRegistry};
use sinew_router::Client;
use sinew_telemetry::{BudgetMetrics, is_timing_enabled};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::builder::Parts;
pub use self::builder::RuntimeBuilder;
use crate::{
    CheckedConfig, Config, Endpoint, Handle, Health, Router, StartError, TransportFactory,
    assembly::{self, Listeners, assemble, open_discoveries},
    health::ReadyInstances,
    memories::Memories,
    serve::{Announced, ServeBuilder},
};

/// One process's share in a network of endpoints: it serves some, calls others, or both.
///
/// Clones share everything. [`shutdown`](Self::shutdown) ends it in order; dropping the last clone
/// cuts all requests.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use futures_util::stream;
/// use sinew::{DiscoverySource, Error, Runtime, SingleIn, engine_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // `Runtime::from_env()` joins the other processes of the user, or as the variables say.
/// let runtime = Runtime::builder()
///     .discovery(DiscoverySource::Memory)
///     .configure(|config| config.max_in_flight = 100)
///     .build()
///     .await?;
///
/// let echo = engine_fn(|request: SingleIn<String>| async move {
///     Ok::<_, Error>(stream::iter([Ok(request.into_parts().0)]))
/// });
/// let served = runtime.serve_named("demo/text/echo".parse()?).weight(2).engine(echo).await?;
/// println!("{} at {:?}", served.endpoint(), runtime.addresses());
///
/// // Out of discovery first; then what runs has ten seconds to finish.
/// let cut = runtime.shutdown(Duration::from_secs(10)).await;
/// assert_eq!(cut.cut_streams, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: CheckedConfig,
    pub(crate) here: LocalProcess,
    pub(crate) discovery: Arc<dyn Discovery>,
    view: View,
    registry: Arc<TransportRegistry>,
    locals: LocalEndpoints,
    pub(crate) ingress: Ingress,
    /// The ingress as the trait object that listeners get.
    pub(crate) handler: Arc<dyn RequestHandler>,
    pub(crate) listeners: Arc<Listeners>,
    factories: Vec<Arc<dyn TransportFactory>>,
    pub(crate) health: Arc<ReadyInstances>,
    memories: Memories,
    pub(crate) announced: Mutex<Vec<Weak<Announced>>>,
    /// The drains that run for others than their callers. Each ends by itself.
    drains: TaskTracker,
    /// The task that shows the use of the budget as a metric. Ends with this value.
    _budget_shown: Option<AbortOnDropHandle<()>>,
    /// True once the shutdown has begun: no further endpoint is served.
    closing: AtomicBool,
}

impl Runtime {
    /// Starts a runtime with the given settings.
    ///
    /// # Errors
    /// Discovery cannot be reached, or a transport cannot be set up.
    pub async fn new(config: CheckedConfig) -> Result<Self, StartError> {
        Self::new_telling(config, &|_| {}).await
    }

    /// As [`new`](Self::new). Calls `waiting` with the name of each server (etcd, NATS) before it
    /// waits for that server, for at most [`Config::startup_wait`]. The name holds no password.
    /// Dropping the future abandons the start.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn new_telling(
        config: CheckedConfig,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, StartError> {
        // On the heap, because it is large and seldom.
        Box::pin(Self::start(config, Parts::default(), waiting)).await
    }

    async fn start(
        config: CheckedConfig,
        parts: Parts,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, StartError> {
        let mut discoveries = parts.discoveries;
        if discoveries.is_empty() {
            discoveries = config.discovery.factories();
        }
        let discovery = open_discoveries(&discoveries, &config, waiting).await?;
        let view = discovery.watch().await?;
        let locals = LocalEndpoints::new();
        let health = Arc::new(ReadyInstances::default());
        let max_in_flight = config.max_in_flight;
        let budget = Some(Arc::clone(config.budget()));
        let limits = IngressConfig { max_in_flight, budget, ..IngressConfig::default() };
        let ingress = Ingress::with_local(limits, locals.clone());
        let registry = Arc::new(TransportRegistry::new());
        let parts = assemble(&config, &ingress, &view, &registry, parts.assembly, waiting).await?;
        for factory in &parts.factories {
            for transport in factory.transports(&config)? {
                let registration = TransportRegistration::duplex(&*transport);
                registry.register_duplex_transport(registration, transport)?;
            }
        }
        let process = Some(config.tcp().driver.mux.process);
        let here = LocalProcess { host: host_id(), process, addresses: parts.own_addresses };
        let budget_shown = show_budget(config.budget());
        let runtime = Self(Arc::new(Inner {
            config,
            here,
            discovery,
            view,
            registry,
            locals,
            handler: Arc::new(ingress.clone()),
            ingress,
            listeners: Arc::new(Listeners::new(parts.listeners)),
            factories: parts.factories,
            health,
            memories: Memories::default(),
            announced: Mutex::default(),
            drains: TaskTracker::new(),
            _budget_shown: budget_shown,
            closing: AtomicBool::new(false),
        }));
        runtime.0.listeners.control().control(runtime.downgrade());
        Ok(runtime)
    }

    /// Starts a runtime with the defaults, changed by the environment: see [`Config::from_env`].
    ///
    /// # Errors
    /// As [`new`](Self::new), or a variable that cannot be used.
    pub async fn from_env() -> Result<Self, StartError> {
        Self::new(Config::from_env()?.checked()?).await
    }

    /// Starts a runtime whose settings are made in code.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Serves a typed endpoint with an async function, an engine, or a function that keeps the
    /// sink; [`Handle`] lists the forms. The builder takes further settings. Awaiting it serves the
    /// endpoint.
    ///
    /// # Examples
    /// ```
    /// use futures_util::{Stream, stream};
    /// use sinew::{DiscoverySource, Endpoint, HandlerResult, Runtime};
    ///
    /// const SPLIT: Endpoint<String, String> = Endpoint::new("text/words/split");
    ///
    /// async fn split(text: String) -> HandlerResult<impl Stream<Item = HandlerResult<String>>> {
    ///     let words: Vec<_> = text.split(' ').map(|word| Ok(word.to_owned())).collect();
    ///     Ok(stream::iter(words))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = Runtime::builder().discovery(DiscoverySource::Memory).build().await?;
    /// let served = runtime.serve(&SPLIT, split).weight(2).await?;
    /// assert_eq!(runtime.router(&SPLIT).call("one two").collect().await?, ["one", "two"]);
    /// served.drain().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn serve<Req, Resp, Kind, H>(
        &self,
        endpoint: &Endpoint<Req, Resp>,
        handler: H,
    ) -> ServeBuilder<H::Served>
    where
        H: Handle<Req, Resp, Kind>,
    {
        ServeBuilder::new(self.clone(), endpoint.name(), handler.into_served())
    }

    /// Serves an endpoint whose name is known at run time, or whose requests are bytes: the
    /// builder takes the handler.
    pub fn serve_named(&self, endpoint: EndpointName) -> ServeBuilder {
        ServeBuilder::new(self.clone(), endpoint, ())
    }

    /// Makes a router for calls to a typed endpoint. Does not wait for instances;
    /// [`Router::wait_for_instances`] does.
    pub fn router<Req, Resp>(&self, endpoint: &Endpoint<Req, Resp>) -> Router<Req, Resp>
    where
        Req: Serialize + Send + Sync + 'static,
        Resp: DeserializeOwned + Send + 'static,
    {
        let name = endpoint.name();
        let memory = self.0.memories.of(&name);
        Router::new(self.client(name), &memory)
    }

    /// The instances of an endpoint, for a [`PushRouter`](crate::PushRouter).
    pub fn client(&self, endpoint: EndpointName) -> Client {
        let view = self.0.view.clone().holding(self.0.discovery.want(&endpoint));
        let (registry, locals) = (Arc::clone(&self.0.registry), self.0.locals.clone());
        Client::new(endpoint, view, registry, locals, self.0.here.clone())
            .with_limits(self.0.config.limits)
            .with_discovery(Arc::clone(&self.0.discovery))
    }

    /// A view of all instances that discovery has, which follows its changes.
    pub fn instances(&self) -> View {
        self.0.view.clone()
    }

    /// Waits for the first answer of discovery and returns a view of the instances of one endpoint,
    /// or of all. A discovery that does not answer ends the wait after some seconds. Cancel-safe.
    /// Dropping the view ends the watch of a single endpoint.
    ///
    /// # Errors
    /// Discovery cannot be reached.
    pub async fn browse(&self, endpoint: Option<&EndpointName>) -> Result<View, DiscoveryError> {
        let discovery = &self.0.discovery;
        let Some(endpoint) = endpoint else {
            discovery.want_all();
            return discovery.watch().await;
        };
        let want = discovery.want(endpoint);
        Ok(discovery.watch().await?.holding(want))
    }

    /// Why discovery does not answer now, or why it has no instances, as a text for people; `None`
    /// if there is no problem. The text may hold messages of servers unchanged.
    pub fn discovery_trouble(&self) -> Option<String> {
        self.0.discovery.trouble()
    }

    /// The memory budget of this process, and how much of it is used.
    pub fn budget(&self) -> &Arc<Budget> {
        self.0.config.budget()
    }

    /// The transports of this process. A program can add its own.
    pub fn transports(&self) -> &Arc<TransportRegistry> {
        &self.0.registry
    }

    /// Where this process can be reached; empty before it serves anything.
    pub fn addresses(&self) -> Vec<Address> {
        self.0.listeners.addresses()
    }

    /// Withdraws every endpoint, refuses new requests, lets what runs finish within `grace`, cuts
    /// the rest, lets the listeners release the endpoints, and joins all tasks. Returns what it had
    /// to cut. The runtime serves no endpoint afterwards.
    ///
    /// The withdrawal, the delay until callers know of it, the requests and the listeners may take
    /// `grace` each. The withdrawal and the listeners get at least one second, and the listeners at
    /// most 5 s: callers that have lost their connection come back for the ends of their streams.
    pub async fn shutdown(&self, grace: Duration) -> Drained {
        self.0.closing.store(true, Ordering::Release);
        let mut announced = self.announced();
        announced.retain(|one| !one.is_closed());
        // Out of the view first, so that routers stop asking before they are refused. A discovery
        // that does not answer in time ends the entries with their leases.
        let limit = grace.max(LAST_WORDS);
        let withdrawals = join_all(announced.iter().map(|one| one.withdraw()));
        let _ = tokio::time::timeout(limit, withdrawals).await;
        if !announced.is_empty() {
            tokio::time::sleep(self.0.listeners.withdrawal_delay().min(grace)).await;
        }
        self.0.listeners.drain();
        let requests = self.0.ingress.shutdown(grace).await;
        join_all(announced.iter().map(|one| one.leave(limit))).await;
        self.0.drains.close();
        // Their requests have ended, so they do soon.
        let _ = tokio::time::timeout(LAST_WORDS, self.0.drains.wait()).await;
        // The requests had their grace; what their connections still carry is their ends.
        let connections = self.0.listeners.stop(grace.clamp(LAST_WORDS, LAST_ENDS)).await;
        let calls = self.0.registry.close(LAST_WORDS).await;
        let shared = assembly::close(&self.0.factories, LAST_WORDS).await;
        // Bounded by itself.
        self.0.discovery.shutdown().await;
        requests.and(connections + calls + shared)
    }

    /// What is served.
    pub(crate) fn announced(&self) -> Vec<Arc<Announced>> {
        self.0.announced.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Runs a drain to its end, whatever becomes of its caller.
    pub(crate) fn spawn_drain(&self, drain: impl Future<Output = ()> + Send + 'static) {
        self.0.drains.spawn(drain);
    }

    /// True once the runtime shuts down.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// Returns a handle that does not keep the runtime alive: for a health report, or for a
    /// background task.
    pub fn downgrade(&self) -> WeakRuntime {
        WeakRuntime(Arc::downgrade(&self.0))
    }

    /// Which endpoints take requests, and which listeners receive them.
    pub fn health(&self) -> Health {
        Health {
            endpoints: self.0.health.instances(),
            listeners: self.0.listeners.states(),
            draining: self.is_closing(),
        }
    }
}

/// A handle that does not keep its [`Runtime`] alive.
#[derive(Clone)]
pub struct WeakRuntime(Weak<Inner>);

impl WeakRuntime {
    /// The runtime, unless its last clone was dropped.
    pub fn upgrade(&self) -> Option<Runtime> {
        self.0.upgrade().map(Runtime)
    }
}

impl fmt::Debug for WeakRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakRuntime")
    }
}

/// Time for terminals that are written and not read yet, after all requests have ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longest time, within the grace, for callers whose connection is lost to come back for the ends of
/// their streams. Nobody is waited for who has said that the ends have arrived.
const LAST_ENDS: Duration = Duration::from_secs(5);

/// How often the metric of the budget is updated.
const SHOW_PERIOD: Duration = Duration::from_secs(1);

/// Starts the task that updates the metric of the budget, if metrics are collected.
fn show_budget(budget: &Arc<Budget>) -> Option<AbortOnDropHandle<()>> {
    if !is_timing_enabled() {
        return None;
    }
    let (budget, metrics) = (Arc::clone(budget), BudgetMetrics::new());
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SHOW_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            metrics.show(&budget);
        }
    })))
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("discovery", &self.0.config.discovery.to_string())
            .field("addresses", &self.addresses())
            .finish_non_exhaustive()
    }
}
