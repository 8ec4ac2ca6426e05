//! The two routers of the demo, and which worker an answer came from.

use sinew::{
    Address, Client, Config, DiscoverySource, EndpointName, InstanceId, PushRouter, RouterMode,
    Runtime, Window,
};

use super::{
    fleet::{WORKERS, instance},
    words::{Range, Word},
};
use crate::{
    exit::{Exit, Failure},
    settings,
};

/// Items that a worker may be ahead of the router.
const WINDOW: Window = Window { items: 64, bytes: 64 << 10 };

/// A router, and the ids under which it knows the workers, in their order.
pub(crate) struct Caller {
    router: PushRouter<Range, Word>,
    workers: Vec<InstanceId>,
}

impl Caller {
    /// The one that finds the workers as any caller does.
    pub(crate) async fn discovering(client: Client) -> Result<Self, Failure> {
        Self::new(client, (0..WORKERS).map(instance).collect()).await
    }

    /// One that was told the workers' addresses and learns of nothing else: a worker that dies is
    /// still among those it asks. Its runtime comes with it, to be shut down.
    pub(crate) async fn with_addresses(
        name: &EndpointName,
        client: &Client,
    ) -> Result<(Self, Runtime), Failure> {
        let found = client.instances();
        let address = |number| -> Option<Address> {
            let worker = found.iter().find(|one| one.id == instance(number))?;
            worker.addresses.iter().find(|address| address.scheme() == "tcp").cloned()
        };
        let addresses: Option<Vec<_>> = (0..WORKERS).map(address).collect();
        let addresses = addresses.ok_or_else(lost_early)?;
        let discovery = DiscoverySource::Static(addresses.clone());
        let runtime = settings::start(Config { discovery, ..Config::default() }, &|_| {}).await?;
        let client = runtime.client(name.clone());
        let known = client.instances();
        let id = |address: &Address| {
            known.iter().find(|one| one.addresses.contains(address)).map(|one| one.id)
        };
        let workers: Option<Vec<_>> = addresses.iter().map(id).collect();
        let caller = Self::new(client, workers.ok_or_else(lost_early)?).await?;
        Ok((caller, runtime))
    }

    async fn new(client: Client, workers: Vec<InstanceId>) -> Result<Self, Failure> {
        let router = PushRouter::from_client(client, RouterMode::RoundRobin).await?;
        Ok(Self { router: router.with_window(WINDOW), workers })
    }

    pub(crate) fn router(&self) -> &PushRouter<Range, Word> {
        &self.router
    }

    /// The number of a worker, from 0.
    pub(crate) fn worker(&self, id: InstanceId) -> Option<usize> {
        self.workers.iter().position(|known| *known == id)
    }
}

fn lost_early() -> Failure {
    Failure::new(Exit::Failed, "a worker was gone before the demo began")
}
