//! A process that is controlled by another one, here in one process.

use std::time::Duration;

use futures_util::StreamExt;
use sinew_plane::{Code, InstanceId};
use tokio::{sync::oneshot, time::timeout};

use super::*;
use crate::{Config, DiscoverySource, HandlerResult, Runtime, Served};

const WAIT: Endpoint<String, String> = Endpoint::new("test/control/wait");
const GUARD: Duration = Duration::from_secs(20);

fn config(folder: &tempfile::TempDir) -> Config {
    Config {
        discovery: DiscoverySource::Memory,
        runtime_dir: folder.path().join("sinew"),
        ..Config::default()
    }
}

async fn worker(config: &Config, id: u64) -> (Runtime, Served, oneshot::Sender<()>) {
    let runtime = Runtime::builder().config(config.clone()).build().await.unwrap();
    let (release, released) = oneshot::channel();
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(Some(released)));
    let wait = move |text: String| {
        let released = std::sync::Arc::clone(&released);
        async move {
            if let Some(released) = released.lock().await.take() {
                let _ = released.await;
            }
            HandlerResult::Ok(text)
        }
    };
    let served = runtime.serve(&WAIT, wait).instance(id).await.unwrap();
    (runtime, served, release)
}

#[tokio::test]
async fn a_drain_lets_what_runs_finish_and_is_told_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let (runtime, served, release) = worker(&config, 0x2a).await;
    let router = runtime.router(&WAIT);
    let call = tokio::spawn(async move { router.call("held").unary().await });
    while served.in_flight() == 0 {
        tokio::task::yield_now().await;
    }

    let processes = ControlledProcesses::find(&config).await.unwrap();
    let [process] = processes.all() else { panic!("{processes:?}") };
    assert_eq!(process.status.pid, std::process::id());
    let [endpoint] = &process.status.endpoints[..] else { panic!("{process:?}") };
    assert_eq!((&endpoint.endpoint, endpoint.instance), (&WAIT.name(), InstanceId(0x2a)));
    assert_eq!((endpoint.in_flight, endpoint.draining), (1, false));

    let request = DrainRequest::Endpoint(WAIT.name());
    let mut progress = processes.drain(process, request).await.unwrap();
    let first = timeout(GUARD, progress.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first, DrainProgress::Draining { in_flight: 1, grace: config.grace });
    let late = runtime.router(&WAIT).call("late").unary().await.unwrap_err();
    assert!(matches!(late.code(), Code::Draining | Code::NoInstances), "{late}");
    // What ends while the entry is withdrawn is not counted among what the drain found.
    while !runtime.announced().iter().any(|one| one.status().draining) {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert_eq!(timeout(GUARD, call).await.unwrap().unwrap().unwrap(), "held");
    let mut last = None;
    while let Some(event) = timeout(GUARD, progress.next()).await.unwrap() {
        last = Some(event.unwrap());
    }
    let (endpoint, instance) = (WAIT.name(), InstanceId(0x2a));
    let drained =
        DrainProgress::Drained { endpoint, instance, finished: 1, handed_over: 0, cut: 0 };
    assert_eq!(last, Some(drained));
    timeout(GUARD, served.closed()).await.unwrap();
    assert_eq!(served.drain().await.finished_streams, 1, "who asks later gets the same");
    processes.close().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_half_drained_process() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder);
    let (_runtime, served, _release) = worker(&config, 7).await;
    let (_other, untouched, _held) = worker(&config, 8).await;
    let processes = ControlledProcesses::find(&config).await.unwrap();
    assert_eq!(processes.all().len(), 2);
    for process in processes.all() {
        let drained = processes.drain(process, DrainRequest::Instance(InstanceId(7))).await;
        drop(drained.unwrap());
    }
    processes.close().await;
    timeout(GUARD, served.closed()).await.unwrap();
    assert_eq!(untouched.in_flight(), 0);
    let processes = ControlledProcesses::find(&config).await.unwrap();
    let draining: Vec<_> =
        processes.all().iter().map(|it| it.status.endpoints[0].draining).collect();
    assert_eq!(draining.iter().filter(|it| **it).count(), 1);
    processes.close().await;
}

#[tokio::test]
async fn commands_are_not_served_where_others_reach_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let (runtime, served, _release) = worker(&config(&folder), 9).await;
    let client = runtime.client(STATUS.name());
    assert!(client.instances().is_empty(), "it is in no discovery");
    let config = Config { discovery: DiscoverySource::Static(Vec::new()), ..config(&folder) };
    let addresses = served.addresses().to_vec();
    let source = DiscoverySource::Static(addresses);
    let outside = Runtime::builder().config(Config { discovery: source, ..config }).build();
    let outside = outside.await.unwrap();
    let asked = outside.router(&STATUS).call(()).unary().await.unwrap_err();
    assert_eq!(asked.code(), Code::UnknownEndpoint);
    drop(served);
}

#[tokio::test]
async fn a_folder_that_does_not_exist_has_no_processes() {
    let folder = tempfile::tempdir().unwrap();
    let processes = ControlledProcesses::find(&config(&folder)).await.unwrap();
    assert!(processes.all().is_empty());
    processes.close().await;
}
