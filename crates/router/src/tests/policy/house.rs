//! A worker on a Unix domain socket and on TCP, and a router that knows both.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sinew_discovery::{Discovery, Instance, MemoryDiscovery, PlanePolicy, Registration, RollBack};
use sinew_plane::{
    Address, ConnectionEvent, ConnectionEvents, Context, DuplexServer, EndpointName,
    IncomingRequest, InstanceId, ManyOut, ProcessId, ResponseSink, ResumeReason, SingleIn,
    TransportId, Window,
};
use sinew_registry::{LocalEndpoints, LocalProcess, TransportRegistration, TransportRegistry};
use sinew_testkit::{Cuts, CuttingProxy, Listen, within};
use sinew_transport_tcp::{TcpConfig, TcpServer, TcpTransport};
use tempfile::TempDir;

use crate::{Client, Explanation, PolicyConfig, PushRouter, RouterMode};

/// So short that a policy has moved all within a tenth of a second.
const INTERVAL: Duration = Duration::from_millis(10);

pub(super) struct House {
    pub(super) discovery: MemoryDiscovery,
    pub(super) router: PushRouter<Bytes, Bytes>,
    /// In front of the worker's TCP port.
    pub(super) proxy: CuttingProxy,
    heard: Arc<Mutex<Vec<ConnectionEvent>>>,
    metrics: PrometheusHandle,
    _recorder: metrics::LocalRecorderGuard<'static>,
    _server: TcpServer,
    _registration: Registration,
    _folder: TempDir,
}

pub(super) fn endpoint() -> EndpointName {
    "test/policy/count".parse().unwrap()
}

/// A policy that finds a stream too slow only if it has a hundredth of its items.
pub(super) fn to(transport: TransportId, percent: u8) -> PlanePolicy {
    PlanePolicy::new(endpoint(), transport)
        .percent(percent)
        .by("somebody@somewhere")
        .rolled_back(RollBack { gap_percent: 10_000, ..RollBack::default() })
}

fn settings(process: u64) -> TcpConfig {
    let mut config = TcpConfig::default();
    config.driver.mux.process = ProcessId(process);
    config
}

impl House {
    pub(super) async fn new(
        handler: impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static,
    ) -> Self {
        Self::with(handler, |instance| instance).await
    }

    /// With a router that compares the times between items, and takes so long between two shares.
    pub(super) async fn comparing(
        interval: Duration,
        handler: impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static,
    ) -> Self {
        let config = PolicyConfig { interval, min_items: 20, ..PolicyConfig::default() };
        Self::build(handler, |instance| instance, config).await
    }

    /// With an instance that announces itself in another way.
    pub(super) async fn with(
        handler: impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static,
        change: impl FnOnce(Instance) -> Instance,
    ) -> Self {
        // A machine that is busy with something else makes no stream slow.
        let config =
            PolicyConfig { interval: INTERVAL, min_items: u32::MAX, ..PolicyConfig::default() };
        Self::build(handler, change, config).await
    }

    async fn build(
        handler: impl Fn(IncomingRequest<'_>, ResponseSink) + Send + Sync + 'static,
        change: impl FnOnce(Instance) -> Instance,
        config: PolicyConfig,
    ) -> Self {
        // The tests are of one thread, for which all metrics are counted here.
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let metrics = recorder.handle();
        let recorder = metrics::set_default_local_recorder(recorder);
        let folder = tempfile::tempdir().unwrap();
        let mut serving = settings(1);
        serving.unix_dir = Some(folder.path().join("sockets"));
        let any = "127.0.0.1:0".parse().unwrap();
        let server = TcpServer::bind(serving.checked().unwrap(), any, Arc::new(handler)).unwrap();
        let of = |scheme: &str| -> Address {
            server.addresses().into_iter().find(|it| it.scheme() == scheme).unwrap()
        };
        let proxy =
            CuttingProxy::start(Listen::loopback(), of("tcp"), Cuts::when_told()).await.unwrap();
        let addresses = vec![of("unix"), proxy.address().clone()];
        let instance = Instance {
            process: Some(ProcessId(1)),
            ..Instance::new(endpoint(), InstanceId(1), addresses)
        };
        let discovery = MemoryDiscovery::new();
        let registration = discovery.register(change(instance)).await.unwrap();

        let heard = Arc::<Mutex<Vec<ConnectionEvent>>>::default();
        let registry = Arc::new(TransportRegistry::new());
        let told = Arc::clone(&heard);
        let events = ConnectionEvents::to(Arc::new(move |event: &ConnectionEvent| {
            told.lock().unwrap().push(event.clone());
        }));
        let mut calling = settings(2);
        calling.driver.events = events;
        let calling = calling.checked().unwrap();
        for transport in [TcpTransport::unix(calling.clone()), TcpTransport::new(calling)] {
            let registration = TransportRegistration::duplex(&transport);
            registry.register_duplex_transport(registration, Arc::new(transport)).unwrap();
        }
        let view = discovery.watch().await.unwrap();
        let here = LocalProcess::default();
        let client = Client::new(endpoint(), view, registry, LocalEndpoints::new(), here)
            .with_discovery(Arc::new(discovery.clone()))
            .with_policy_config(config.checked().unwrap());
        let router = PushRouter::new(client, RouterMode::RoundRobin)
            .with_window(Window { items: 8, bytes: 1 << 16 });
        Self {
            discovery,
            router,
            proxy,
            heard,
            metrics,
            _recorder: recorder,
            _server: server,
            _registration: registration,
            _folder: folder,
        }
    }

    pub(super) async fn call(&self) -> (ManyOut<Bytes>, Explanation) {
        let request = SingleIn::with_context(Bytes::new(), Context::new());
        within("the start", self.router.generate_explained(request)).await.unwrap()
    }

    pub(super) async fn put(&self, policy: PlanePolicy) -> PlanePolicy {
        self.discovery.put_policy(policy).await.unwrap()
    }

    /// How many of the running streams are on a connection of that transport.
    pub(super) fn on(&self, transport: &TransportId) -> usize {
        let policies = self.router.shared().policies.as_ref().unwrap();
        policies.places().iter().filter(|place| place.transport == *transport).count()
    }

    /// How many streams went on over a socket of that kind because they were moved, as the
    /// connections tell it.
    pub(super) fn moved_to(&self, scheme: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        let streams =
            heard.iter().map(|event| match event {
                ConnectionEvent::Attached {
                    address, streams, reason: ResumeReason::Moved, ..
                } if address.scheme() == scheme => *streams,
                _ => 0,
            });
        streams.sum()
    }

    /// The value of a metric, with its labels.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Nothing runs any more, and the router knows.
    pub(super) fn ends(self) {
        assert_eq!(self.router.shared().policies.as_ref().unwrap().running(), 0);
    }
}

/// Sends numbers for as long as somebody reads them.
pub(super) fn count(_: IncomingRequest<'_>, mut sink: ResponseSink) {
    tokio::spawn(async move {
        let mut number = 0_u64;
        while sink.send(number.to_be_bytes().to_vec().into()).await.is_ok() {
            number += 1;
        }
    });
}

/// The number that an item is.
pub(super) fn number(item: &Bytes) -> u64 {
    u64::from_be_bytes(item[..].try_into().unwrap())
}
