//! The calling end of control endpoints.

use std::{io, sync::Arc, time::Duration};

use futures_util::future::join_all;
use sinew_discovery::{Discovery, Instance, MemoryDiscovery, Registration};
use sinew_plane::{Address, Error, InstanceId, ManyOut};

use super::{DRAIN, DrainProgress, DrainRequest, ProcessStatus, STATUS, folder};
use crate::{Config, ConfigError, Runtime, StartError};

/// Longest wait for the answer of a process: it is on this host.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The processes of this user whose control endpoints are in one runtime folder.
pub struct ControlledProcesses {
    runtime: Runtime,
    /// Those that answered.
    all: Vec<ControlledProcess>,
    _known: Vec<Registration>,
}

/// One process that can be controlled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ControlledProcess {
    /// What it says of itself.
    pub status: ProcessStatus,
    /// By which its control endpoint is called.
    id: InstanceId,
}

impl ControlledProcesses {
    /// Asks all processes whose sockets are in the folder of `config`. A process that does not
    /// answer within two seconds is left out.
    ///
    /// # Errors
    /// The settings make no sense, or the folder cannot be read. A folder that does not exist has no
    /// processes.
    pub async fn find(config: &Config) -> Result<Self, StartError> {
        let discovery = MemoryDiscovery::new();
        let (mut known, mut ids) = (Vec::new(), Vec::new());
        for address in sockets(config)? {
            let id = InstanceId::random();
            ids.push(id);
            for endpoint in [STATUS.name(), DRAIN.name()] {
                let mut instance = Instance::new(endpoint, id, vec![address.clone()]);
                instance.any_id = true;
                known.push(discovery.register(instance).await?);
            }
        }
        let discovery: Arc<dyn Discovery> = Arc::new(discovery);
        let of_own = Config::default().discovery;
        let config = Config { discovery: of_own, nats: Vec::new(), ..config.clone() };
        let runtime = Runtime::builder().config(config).custom_discovery(discovery).build().await?;
        Ok(Self { all: ask(&runtime, ids).await, runtime, _known: known })
    }

    /// Those that answered, by process id.
    pub fn all(&self) -> &[ControlledProcess] {
        &self.all
    }

    /// Drains endpoints of a process. The drain goes on there, also if the response is dropped.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn drain(
        &self,
        process: &ControlledProcess,
        request: DrainRequest,
    ) -> Result<ManyOut<DrainProgress>, Error> {
        self.runtime.router(&DRAIN).call(request).instance(process.id).await
    }

    /// Closes the connections.
    pub async fn close(self) {
        self.runtime.shutdown(Duration::ZERO).await;
    }
}

async fn ask(runtime: &Runtime, ids: Vec<InstanceId>) -> Vec<ControlledProcess> {
    let router = runtime.router(&STATUS);
    let asked = ids.into_iter().map(|id| {
        let router = &router;
        async move {
            match router.call(()).instance(id).timeout(ANSWER_LIMIT).unary().await {
                Ok(status) => Some(ControlledProcess { status, id }),
                Err(error) => {
                    tracing::debug!(%error, "a control endpoint did not answer");
                    None
                }
            }
        }
    });
    let mut all: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    all.sort_by_key(|one| one.status.pid);
    all
}

/// The sockets in the folder, of living processes and of dead ones.
fn sockets(config: &Config) -> Result<Vec<Address>, StartError> {
    let folder = folder(&config.runtime_dir);
    let unreadable = |error: io::Error| {
        ConfigError::new("runtime_dir", format!("cannot read {}: {error}", folder.display()))
    };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error).into()),
    };
    let mut addresses = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "sock") {
            addresses.extend(path.to_str().and_then(|path| Address::new("unix", path).ok()));
        }
    }
    Ok(addresses)
}

impl std::fmt::Debug for ControlledProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlledProcesses").field("all", &self.all).finish_non_exhaustive()
    }
}
