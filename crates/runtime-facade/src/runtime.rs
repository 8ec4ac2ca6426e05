//! One process's share in a network of endpoints.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sinew_discovery::{Discovery, DiscoveryError, View, host_id};
use sinew_ingress::{Ingress, IngressConfig};
use sinew_plane::{
    Address, Budget, Code, DuplexServer, DuplexTransport, EndpointName, Error, RequestPlaneServer,
    Shutdown,
};
use sinew_registry::{
    LocalEndpoints, LocalProcess, RegistryError, TransportRegistration, TransportRegistry,
};
use sinew_router::Client;
use sinew_telemetry::{BudgetMetrics, is_timing_enabled};
use sinew_transport_memory::{MemoryConfig, MemoryHub, MemoryTransport};
use sinew_transport_tcp::{CheckedTcpConfig, TcpServer, TcpTransport};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    CheckedConfig, Config, ConfigError, DiscoverySource, RequestPlane, discovery,
    planes::Planes,
    serve::{Announced, ServeBuilder},
};

/// One process's share in a network of endpoints: it serves some, calls others, or both.
///
/// Clones share everything. [`shutdown`](Self::shutdown) ends it in order; dropping the last
/// clone cuts what is left.
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
/// let served = runtime.serve("demo/text/echo".parse()?).weight(2).engine(echo).await?;
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
    pub(crate) planes: Planes,
    /// Calls within the process whose types differ go this way.
    local_server: sinew_transport_memory::MemoryServer,
    /// Bound when the first endpoint is served.
    server: Mutex<Option<Arc<TcpServer>>>,
    /// Held while it is bound.
    binding: tokio::sync::Mutex<()>,
    pub(crate) announced: Mutex<Vec<Weak<Announced>>>,
    /// Shows what the budget is used for; ends with this value.
    _budget_shown: Option<AbortOnDropHandle<()>>,
    /// Nothing new is served.
    closing: AtomicBool,
}

impl Runtime {
    /// A runtime with settings of one's own.
    ///
    /// # Errors
    /// Discovery cannot be reached, or a transport cannot be set up.
    pub async fn new(config: CheckedConfig) -> Result<Self, StartError> {
        Self::new_telling(config, &|_| {}).await
    }

    /// As [`new`](Self::new), and names each server (an etcd, a NATS) to `waiting` before it is
    /// waited for, which is [`Config::startup_wait`] at most. No name holds a password. Dropping
    /// the future gives the start up.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn new_telling(
        config: CheckedConfig,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, StartError> {
        // On the heap, because it is large and seldom.
        Box::pin(Self::start(config, waiting)).await
    }

    async fn start(
        config: CheckedConfig,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, StartError> {
        let discovery = discovery::open(&config.discovery, &config, waiting).await?;
        let view = discovery.watch().await?;
        let process = config.tcp.driver.mux.process;
        let locals = LocalEndpoints::new();
        let limits = IngressConfig { max_in_flight: config.max_in_flight };
        let ingress = Ingress::with_local(limits, locals.clone());
        let hub = local_hub(&config)?;
        let local_server = hub
            .serve(&format!("{process:x}"), ingress.clone())
            .map_err(|error| Error::new(Code::Exhausted, error.to_string()))?;
        let addresses = local_server.addresses();
        let here = LocalProcess { host: host_id(), process: Some(process), addresses };
        let registry = Arc::new(TransportRegistry::new());
        let planes = Planes::new(&config, ingress.clone(), view.clone(), waiting).await?;
        let mut transports: Vec<Arc<dyn DuplexTransport>> =
            vec![Arc::new(MemoryTransport::new(hub))];
        if config.request_plane != RequestPlane::Nats {
            transports.push(Arc::new(TcpTransport::unix(config.tcp.clone())));
            transports.push(Arc::new(TcpTransport::new(config.tcp.clone())));
        }
        transports.extend(planes.transports());
        for transport in transports {
            let registration = TransportRegistration::duplex(&*transport);
            registry.register_duplex_transport(registration, transport)?;
        }
        let budget_shown = show_budget(&config.budget);
        Ok(Self(Arc::new(Inner {
            config,
            here,
            discovery,
            view,
            registry,
            locals,
            ingress,
            planes,
            local_server,
            server: Mutex::new(None),
            binding: tokio::sync::Mutex::default(),
            announced: Mutex::default(),
            _budget_shown: budget_shown,
            closing: AtomicBool::new(false),
        })))
    }

    /// A runtime with the defaults, changed by the environment: see [`Config::from_env`].
    ///
    /// # Errors
    /// As [`new`](Self::new), or a variable that cannot be used.
    pub async fn from_env() -> Result<Self, StartError> {
        Self::new(Config::from_env()?.checked()?).await
    }

    /// Starts a runtime whose settings are made in code.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder { config: Box::default() }
    }

    /// Starts to serve an endpoint: the builder says how.
    pub fn serve(&self, endpoint: EndpointName) -> ServeBuilder {
        ServeBuilder::new(self.clone(), endpoint)
    }

    /// The instances of an endpoint, for a [`PushRouter`](crate::PushRouter).
    pub fn client(&self, endpoint: EndpointName) -> Client {
        let view = self.0.view.clone().holding(self.0.discovery.want(&endpoint));
        let (registry, locals) = (Arc::clone(&self.0.registry), self.0.locals.clone());
        Client::new(endpoint, view, registry, locals, self.0.here.clone())
            .with_limits(self.0.config.limits)
            .with_discovery(Arc::clone(&self.0.discovery))
    }

    /// Everything that discovery knows, as it changes.
    pub fn instances(&self) -> View {
        self.0.view.clone()
    }

    /// What discovery knows of one endpoint, or of all, once it has answered. Waits as long as
    /// the discovery does, which is up to some seconds for one that does not answer. Cancel-safe;
    /// the interest in one endpoint ends with the view.
    ///
    /// # Errors
    /// Discovery cannot be reached.
    pub async fn browse(&self, endpoint: Option<&EndpointName>) -> Result<View, StartError> {
        let discovery = &self.0.discovery;
        let Some(endpoint) = endpoint else {
            discovery.want_all();
            return Ok(discovery.watch().await?);
        };
        let want = discovery.want(endpoint);
        Ok(discovery.watch().await?.holding(want))
    }

    /// What keeps discovery from being seen now, or why nothing is there, in words for a person;
    /// `None` when all is well. Texts of others are in it as they came.
    pub fn discovery_trouble(&self) -> Option<String> {
        self.0.discovery.trouble()
    }

    /// The memory that this process may hold on behalf of its peers, and what is held of it.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.0.config.budget
    }

    /// The transports of this process, to add one's own.
    pub fn transports(&self) -> &Arc<TransportRegistry> {
        &self.0.registry
    }

    /// Where this process can be reached; empty before it serves anything.
    pub fn addresses(&self) -> Vec<Address> {
        self.0.server.lock().as_ref().map(|server| server.addresses()).unwrap_or_default()
    }

    /// Withdraws every endpoint, refuses new requests, lets what runs finish within `grace`,
    /// cuts the rest, and joins all tasks. Says what it had to cut. Nothing can be served
    /// afterwards.
    pub async fn shutdown(&self, grace: Duration) -> Shutdown {
        self.0.closing.store(true, Ordering::Release);
        let announced: Vec<_> = {
            let mut announced = self.0.announced.lock();
            announced.drain(..).filter_map(|one| one.upgrade()).collect()
        };
        // Out of the view first, so that routers stop asking before they are refused. A discovery
        // that does not answer in time ends the entries with their leases.
        let withdrawals = async {
            for one in &announced {
                one.withdraw().await;
            }
        };
        let _ = tokio::time::timeout(grace.max(LAST_WORDS), withdrawals).await;
        if let Some(one) = announced.first().filter(|_| !grace.is_zero()) {
            one.propagation().await;
        }
        self.0.planes.server.drain();
        let requests = self.0.ingress.shutdown(grace).await;
        let split = self.0.planes.end_serving(LAST_WORDS).await;
        // The requests had their grace; what their connections still carry is their ends.
        let server = self.0.server.lock().take();
        let connections = match server {
            Some(server) => server.shutdown(LAST_WORDS).await,
            None => Shutdown::default(),
        };
        self.0.local_server.shutdown(LAST_WORDS).await;
        let calls = self.0.registry.close(LAST_WORDS).await;
        let planes = self.0.planes.end_calling(LAST_WORDS).await;
        // Bounded by itself.
        self.0.discovery.shutdown().await;
        requests + split + connections + calls + planes
    }

    /// True once the runtime shuts down.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.load(Ordering::Acquire)
    }

    /// The addresses that others are told, bound when first asked for; none over NATS alone.
    pub(crate) async fn listen(&self) -> Result<Vec<Address>, Error> {
        if self.0.config.request_plane == RequestPlane::Nats {
            return Ok(Vec::new());
        }
        // Two endpoints may be served at once; the second waits for the first's listener.
        let _binding = self.0.binding.lock().await;
        if self.is_closing() {
            return Err(Error::draining("the runtime is shutting down"));
        }
        let bound = self.0.server.lock().clone();
        let server = match bound {
            Some(server) => server,
            None => Arc::new(self.bind().await?),
        };
        *self.0.server.lock() = Some(Arc::clone(&server));
        Ok(server.addresses())
    }

    async fn bind(&self) -> Result<TcpServer, Error> {
        let config = &self.0.config;
        let error = match self.start_server(config.tcp.clone()).await {
            Ok(server) => return Ok(server),
            Err(error) if config.unix => error,
            Err(error) => return Err(error),
        };
        // TCP alone reaches everyone; the Unix socket only makes it faster on one host. The same
        // settings otherwise, so that the process is the one that is announced.
        let server =
            self.start_server(CheckedTcpConfig { unix_dir: None, ..config.tcp.clone() }).await?;
        tracing::warn!(%error, "serving over TCP alone");
        Ok(server)
    }

    async fn start_server(&self, tcp: CheckedTcpConfig) -> Result<TcpServer, Error> {
        let handler = Arc::new(self.0.ingress.clone());
        let server = TcpServer::new(tcp, handler);
        #[cfg(feature = "dynamo")]
        let server = server.with_protocol(self.0.planes.frame_server(&self.0.config));
        server.start(self.0.config.listen).await?;
        Ok(server)
    }
}

/// Time for terminals that are written but not read yet, once all requests have ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often the metric of the budget is brought up to date.
const SHOW_PERIOD: Duration = Duration::from_secs(1);

/// Brings the metric of the budget up to date, if metrics are collected.
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

/// The way within the process has the limits of the ways out of it.
fn local_hub(config: &CheckedConfig) -> Result<MemoryHub, ConfigError> {
    let mux = &config.tcp.driver.mux;
    let limits = MemoryConfig {
        max_message_bytes: mux.max_message_bytes,
        max_streams: config.max_in_flight,
        window: mux.window,
        budget: Some(Arc::clone(&config.budget)),
    };
    MemoryHub::new(limits).map_err(|error| ConfigError::new(error.field, error.reason))
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("discovery", &self.0.config.discovery.to_string())
            .field("addresses", &self.addresses())
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Runtime`] before it starts.
#[derive(Debug, Clone)]
pub struct RuntimeBuilder {
    config: Box<Config>,
}

impl RuntimeBuilder {
    /// Where instances are announced and found.
    #[must_use]
    pub fn discovery(mut self, source: DiscoverySource) -> Self {
        self.config.discovery = source;
        self
    }

    /// Any other setting.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Checks the settings and starts.
    ///
    /// # Errors
    /// As [`Runtime::new`], or settings that do not fit together.
    pub async fn build(self) -> Result<Runtime, StartError> {
        Runtime::new(self.config.checked()?).await
    }
}

/// Why a runtime did not start. Nothing was announced.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum StartError {
    /// A setting cannot be used.
    Config(#[from] ConfigError),
    /// Discovery cannot be reached.
    Discovery(#[from] DiscoveryError),
    /// A transport cannot be registered.
    Registry(#[from] RegistryError),
    /// A transport cannot be set up.
    Transport(#[from] Error),
}
