//! The worker processes of the demo.

use std::{path::Path, process::Stdio, time::Duration};

use sinew::{Client, EndpointName, InstanceId};
use tokio::process::{Child, Command};

use crate::exit::{Exit, Failure};

/// How many workers there are.
pub(crate) const WORKERS: usize = 3;
/// How long the workers may take to appear.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The worker processes. Dropping it kills them.
pub(crate) struct Fleet {
    workers: Vec<Child>,
}

/// The instance that worker `number`, counted from 0, serves as.
pub(crate) fn instance(number: usize) -> InstanceId {
    InstanceId(number as u64 + 1)
}

impl Fleet {
    /// Starts the workers and waits until all can be called.
    pub(crate) async fn start(
        name: &EndpointName,
        place: &Path,
        text: &Path,
        client: &Client,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error| not_started(&error.to_string()))?;
        let start = |number| {
            Command::new(&program)
                .arg("demo-worker")
                .args(["--name", name.as_str(), "--id", &instance(number).to_string()])
                .arg("--place")
                .args([place, text])
                // Ends with this process, which ends the worker.
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
        };
        let workers: Result<Vec<_>, _> = (0..WORKERS).map(start).collect();
        let mut fleet = Self { workers: workers.map_err(|error| not_started(&error.to_string()))? };
        let ready = fleet.ready(client);
        match tokio::time::timeout(START_LIMIT, ready).await {
            Ok(ready) => ready?,
            Err(_) => return Err(not_started(&format!("none within {START_LIMIT:?}"))),
        }
        Ok(fleet)
    }

    async fn ready(&mut self, client: &Client) -> Result<(), Failure> {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while client.instances().len() < WORKERS {
            ticks.tick().await;
            for worker in &mut self.workers {
                if let Ok(Some(status)) = worker.try_wait() {
                    return Err(not_started(&format!("one ended with {status}")));
                }
            }
        }
        Ok(())
    }

    /// Kills a worker with SIGKILL. It gets no chance to say goodbye.
    pub(crate) fn kill(&mut self, number: usize) -> Result<(), Failure> {
        let worker = self.workers.get_mut(number);
        let killed = worker.map_or(Ok(()), Child::start_kill);
        killed.map_err(|error| Failure::new(Exit::Failed, format!("cannot kill a worker: {error}")))
    }

    /// True once a killed worker is gone, and nobody listens where it did.
    pub(crate) fn is_gone(&mut self, number: usize) -> bool {
        self.workers.get_mut(number).is_none_or(|worker| !matches!(worker.try_wait(), Ok(None)))
    }

    /// Ends the workers that are left.
    pub(crate) async fn end(self) {
        for mut worker in self.workers {
            drop(worker.stdin.take());
            let _ = tokio::time::timeout(Duration::from_secs(3), worker.wait()).await;
        }
    }
}

fn not_started(why: &str) -> Failure {
    Failure::new(Exit::SetUp, format!("the workers did not start: {why}"))
}
