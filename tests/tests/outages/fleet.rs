//! Workers and callers that are set up alike.

use std::{path::Path, sync::Arc, time::Duration};

use sinew::{
    Config, DiscoverySource, EndpointName, InstanceId, PushRouter, RequestPlane, RouterMode,
    Runtime, Served, layers::codec::PayloadFormat,
};
use tokio::task::JoinHandle;

use crate::{
    engine::{Item, Job, Shop},
    servers::{Etcd, Nats},
    wait::soon,
};

pub(crate) type Router = PushRouter<Job, Item>;

/// The shortest lease that etcd takes.
pub(crate) const SHORT_LEASE: Duration = Duration::from_secs(2);

pub(crate) fn endpoint() -> EndpointName {
    "tests/outages/count".parse().unwrap()
}

/// Where an instance stands in etcd.
pub(crate) fn key_of(id: InstanceId) -> String {
    format!("v1/instances/{}/{:x}", endpoint(), id.0)
}

/// How the processes of one test are set up, and what they share.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) config: Config,
    pub(crate) shop: Arc<Shop>,
}

impl Place {
    fn new(discovery: DiscoverySource) -> Self {
        let config = Config { discovery, request_plane: RequestPlane::Tcp, ..Config::default() };
        Self { config, shop: Shop::new() }
    }

    /// Instances are announced in etcd, and requests take TCP.
    pub(crate) fn etcd<const N: usize>(members: &[Etcd; N], lease: Duration) -> Self {
        let addresses = members.iter().map(Etcd::address).collect();
        let mut place = Self::new(DiscoverySource::Etcd(addresses));
        place.config.etcd.lease_ttl = lease;
        place
    }

    /// Instances are announced in a folder, and requests take TCP.
    pub(crate) fn folder(folder: &Path) -> Self {
        Self::new(DiscoverySource::File(folder.to_path_buf()))
    }

    /// Workers are announced nowhere, and requests take TCP.
    pub(crate) fn alone() -> Self {
        Self::new(DiscoverySource::Memory)
    }

    /// Callers are told addresses once and for all, and hear of no change.
    pub(crate) fn knowing(&self, addresses: &[String]) -> Self {
        let mut place = self.clone();
        place.config.discovery = format!("static:{}", addresses.join(",")).parse().unwrap();
        place
    }

    /// Requests take NATS and no other way.
    pub(crate) fn over(mut self, nats: &Nats) -> Self {
        self.config.request_plane = RequestPlane::Nats;
        self.config.nats = vec![nats.url()];
        self
    }

    pub(crate) async fn runtime(&self) -> Runtime {
        let config = self.config.clone().checked().unwrap();
        soon("a runtime to start", Runtime::new(config)).await.unwrap()
    }

    pub(crate) async fn worker(&self) -> Worker {
        self.worker_with(usize::MAX).await
    }

    /// A worker that takes no more than `max_in_flight` requests at once.
    pub(crate) async fn worker_with(&self, max_in_flight: usize) -> Worker {
        self.worker_as(InstanceId::random(), max_in_flight).await
    }

    pub(crate) async fn worker_as(&self, id: InstanceId, max_in_flight: usize) -> Worker {
        let runtime = self.runtime().await;
        let builder = runtime.serve_named(endpoint()).max_in_flight(max_in_flight);
        let served = soon("a worker to serve", self.shop.serve(builder, id)).await;
        Worker { served, runtime }
    }

    /// A caller that sees `workers` instances.
    pub(crate) async fn caller(&self, workers: usize) -> Caller {
        let caller = self.runtime().await;
        let client = caller.client(endpoint());
        let router = Router::from_client(client, RouterMode::RoundRobin).await.unwrap();
        // What is known by its address alone says nothing of formats.
        let router = router.with_format(PayloadFormat::Msgpack);
        let caller = Caller { router, runtime: caller };
        caller.sees(workers).await;
        caller
    }
}

/// A runtime that serves the endpoint.
pub(crate) struct Worker {
    pub(crate) served: Served,
    pub(crate) runtime: Runtime,
}

impl Worker {
    pub(crate) fn id(&self) -> InstanceId {
        self.served.instance()
    }

    /// Leaves as a rolling restart has it: nothing that runs is lost.
    pub(crate) async fn leave(self) {
        soon("a worker to drain", self.served.drain()).await;
        drop(self.served);
        let cut = soon("a runtime to end", self.runtime.shutdown(Duration::from_secs(20))).await;
        assert!(cut.is_clean(), "a worker that has drained cuts nothing: {cut}");
    }
}

/// A runtime that calls the endpoint.
pub(crate) struct Caller {
    pub(crate) router: Router,
    pub(crate) runtime: Runtime,
}

impl Caller {
    /// Waits until it sees so many instances.
    pub(crate) async fn sees(&self, workers: usize) {
        self.view_is(&format!("{workers} instances"), |ids| ids.len() == workers).await;
    }

    pub(crate) async fn view_is(&self, what: &str, is_so: impl Fn(&[InstanceId]) -> bool) {
        let mut view = self.runtime.instances();
        soon(what, async {
            while !is_so(&self.ids()) {
                view.changed().await.unwrap();
            }
        })
        .await;
    }

    /// The instances that it sees, in order.
    pub(crate) fn ids(&self) -> Vec<InstanceId> {
        self.router.client().instance_ids()
    }

    /// Watches from now on that it sees these instances all the time.
    pub(crate) fn keeps_seeing(&self, ids: Vec<InstanceId>) -> Vigil {
        let mut view = self.runtime.instances();
        let endpoint = endpoint();
        Vigil(tokio::spawn(async move {
            loop {
                let snapshot = view.snapshot();
                let seen: Vec<_> = snapshot.of(&endpoint).map(|one| one.id).collect();
                let lost: Vec<_> = ids.iter().filter(|id| !seen.contains(id)).copied().collect();
                if !lost.is_empty() || view.changed().await.is_none() {
                    return lost;
                }
            }
        }))
    }
}

/// A watch over a caller's view.
pub(crate) struct Vigil(JoinHandle<Vec<InstanceId>>);

impl Vigil {
    /// Fails if one of the instances was ever out of the view.
    pub(crate) async fn end(self) {
        if self.0.is_finished() {
            panic!("lost from the view: {:?}", self.0.await.unwrap());
        }
        self.0.abort();
    }
}
