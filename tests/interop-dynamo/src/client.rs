//! The client: one JSON command per line of standard input, each run at once beside the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dynamo_runtime::component::Client;
use dynamo_runtime::pipeline::{PushRouter, RouterMode};
use dynamo_runtime::{DistributedRuntime, Runtime};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::call::{Call, Router};
use crate::load::Load;
use crate::{environment, line};

/// How long commands may run on after standard input has ended. A Dynamo call can wait without limit for a
/// stream that never comes, and a process whose test is gone must end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line of standard input.
#[derive(Debug, Deserialize)]
struct Command {
    /// Comes back in every line about this command.
    id: Value,
    #[serde(flatten)]
    action: Action,
}

/// What a command asks; told apart by the key that only it has.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Action {
    /// Many calls.
    Load { load: Load },
    /// End the load of this id when its calls in flight are through.
    Finish { finish: Value },
    /// Answer when exactly this many instances can be called.
    Wait { wait: usize },
    /// One call.
    Call(Call),
}

/// Reads commands until standard input ends, then waits for those that still run, within [`PATIENCE`].
pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    environment::start_log();
    let runtime = Runtime::from_current()?;
    let distributed = DistributedRuntime::from_settings(runtime.clone()).await?;
    let name = &arguments.name;
    let endpoint = distributed
        .namespace(name.namespace.clone())?
        .component(name.component.clone())?
        .endpoint(name.endpoint.clone());
    let client = endpoint.client().await?;
    let router: Arc<Router> =
        Arc::new(PushRouter::from_client(client.clone(), RouterMode::RoundRobin).await?);
    line::print(&json!({ "ready": true, "pid": std::process::id() }));

    let mut running = JoinSet::new();
    let mut loads: HashMap<String, Arc<AtomicBool>> = HashMap::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(text) = lines.next_line().await? {
        let command: Command = match serde_json::from_str(&text) {
            Ok(command) => command,
            Err(error) => {
                line::print(&json!({ "refused": error.to_string(), "line": text }));
                continue;
            }
        };
        let id = command.id;
        let router = router.clone();
        match command.action {
            Action::Call(call) if call.is_empty() => {
                line::print(&json!({ "refused": "neither a request nor items", "line": text }));
            }
            Action::Call(call) => {
                running.spawn(async move {
                    call.run(&router, Some(&id)).await;
                });
            }
            Action::Load { load } => {
                let finish = Arc::new(AtomicBool::new(false));
                loads.insert(id.to_string(), finish.clone());
                running.spawn(load.run(router, id, finish));
            }
            Action::Finish { finish } => match loads.get(&finish.to_string()) {
                Some(load) => load.store(true, Ordering::Relaxed),
                None => {
                    line::print(&json!({ "refused": format!("no load {finish}"), "line": text }))
                }
            },
            Action::Wait { wait } => {
                running.spawn(wait_for(client.clone(), wait, id));
            }
        }
    }
    let drained =
        tokio::time::timeout(PATIENCE, async { while running.join_next().await.is_some() {} });
    if drained.await.is_err() {
        line::print(&json!({ "abandoned": running.len() }));
    }
    runtime.shutdown();
    Ok(())
}

async fn wait_for(client: Client, count: usize, id: Value) {
    let mut available = client.instance_avail_watcher();
    let instances = match available.wait_for(|instances| instances.len() == count).await {
        Ok(instances) => {
            instances.iter().map(|instance| format!("{instance:x}")).collect::<Vec<_>>()
        }
        Err(error) => return line::print(&json!({ "id": id, "refused": error.to_string() })),
    };
    line::print(&json!({ "id": id, "instances": instances }));
}
