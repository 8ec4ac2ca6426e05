//! Workers that are replaced while requests come in: none of them fails.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::Signal;
use serde_json::{Value, json};
use sinew::Outcome;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinSet,
};

use crate::{
    ours,
    place::{Backend, Codec, Place, Plane},
    process::{Process, soon},
    stock,
};

const CONCURRENCY: usize = 16;

/// Calls that must end between one event and the next.
const STRETCH: usize = 50;

/// Long enough that some are under way whenever a worker is told to end.
fn job() -> Value {
    json!({ "items": 5, "delay_ms": 2 })
}

/// Whose worker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stock,
    Sinew,
}

impl Kind {
    async fn start(self, place: &Place) -> Process {
        match self {
            Self::Stock => stock::worker(place, Codec::Msgpack).await,
            Self::Sinew => ours::worker(place, Codec::Msgpack).await,
        }
    }
}

fn id(worker: &Process) -> &str {
    worker.ready["instance"].as_str().unwrap()
}

/// Ends a worker beside a Sinew one, and starts another in its place.
async fn behind_a_stock_router(backend: Backend, plane: Plane, goes: Kind, comes: Kind) {
    let place = Place::new(backend, plane);
    let (_stays, mut goes) = (Kind::Sinew.start(&place).await, goes.start(&place).await);
    let mut client = stock::Client::start(&place, 2).await;
    let load = json!({ "concurrency": CONCURRENCY, "request": job(), "progress": STRETCH });
    let load = client.begin(json!({ "load": load })).await;
    client.progress(&load).await;

    goes.signal(Signal::TERM);
    let end = goes.line(|line| line["stopped"] == true).await;
    client.wait_for(1).await;
    client.progress(&load).await;
    let comes = comes.start(&place).await;
    client.wait_for(2).await;
    client.progress(&load).await;
    let summary = client.finish(load).await;
    assert_eq!(summary["failed"], 0, "{summary}");
    let cut = |name: &str| end.get(name).and_then(Value::as_u64).unwrap_or_default();
    assert_eq!((cut("cut_streams"), cut("cut_tasks")), (0, 0));
    let by = &summary["by"];
    assert!(by[id(&goes)].as_u64() > Some(0) && by[id(&comes)].as_u64() > Some(0), "{summary}");
}

/// Calls of a Sinew caller that go on until they are told to finish.
struct Load {
    calls: JoinSet<()>,
    finish: Arc<AtomicBool>,
    /// Who served each.
    served: UnboundedReceiver<String>,
    by: BTreeMap<String, usize>,
}

impl Load {
    fn start(caller: &Arc<ours::Caller>) -> Self {
        let (mut calls, finish) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        let (tell, served) = mpsc::unbounded_channel();
        for _ in 0..CONCURRENCY {
            let (caller, finish, tell) = (Arc::clone(caller), Arc::clone(&finish), tell.clone());
            calls.spawn(async move {
                while !finish.load(Ordering::Relaxed) {
                    let ended = caller.call(job()).await.unwrap();
                    assert!(matches!(ended.outcome, Outcome::Complete { items: 5 }), "{ended:?}");
                    tell.send(ended.items[0]["worker"].as_str().unwrap().to_owned()).unwrap();
                }
            });
        }
        Self { calls, finish, served, by: BTreeMap::new() }
    }

    /// Waits until it has got on.
    async fn progress(&mut self) {
        // What ended before now does not count.
        while let Ok(worker) = self.served.try_recv() {
            *self.by.entry(worker).or_default() += 1;
        }
        for _ in 0..STRETCH {
            let worker = soon("a call", self.served.recv()).await.expect("all calls failed");
            *self.by.entry(worker).or_default() += 1;
        }
    }

    /// Who served how many; none has failed.
    async fn finish(mut self) -> BTreeMap<String, usize> {
        self.finish.store(true, Ordering::Relaxed);
        while let Some(lane) = soon("the last calls", self.calls.join_next()).await {
            lane.unwrap();
        }
        self.by
    }
}

async fn behind_a_sinew_router(backend: Backend, plane: Plane, goes: Kind, comes: Kind) {
    let place = Place::new(backend, plane);
    let (_stays, mut goes) = (Kind::Stock.start(&place).await, goes.start(&place).await);
    let caller = Arc::new(ours::Caller::start(&place, 2).await);
    let mut load = Load::start(&caller);
    load.progress().await;

    goes.signal(Signal::TERM);
    goes.line(|line| line["stopped"] == true).await;
    caller.wait_for(1).await;
    load.progress().await;
    let comes = comes.start(&place).await;
    caller.wait_for(2).await;
    load.progress().await;
    let by = load.finish().await;
    assert!(by.contains_key(id(&goes)) && by.contains_key(id(&comes)), "{by:?}");
    Arc::into_inner(caller).unwrap().end().await;
}

macro_rules! restarts {
    ($($name:ident: $backend:ident, $plane:ident;)+) => {$(
        mod $name {
            use super::{Backend, Kind, Plane};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_sinew_worker_is_replaced_behind_a_stock_router() {
                let (backend, plane) = (Backend::$backend, Plane::$plane);
                super::behind_a_stock_router(backend, plane, Kind::Sinew, Kind::Sinew).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_sinew_worker_takes_the_place_of_a_stock_one_behind_a_stock_router() {
                let (backend, plane) = (Backend::$backend, Plane::$plane);
                super::behind_a_stock_router(backend, plane, Kind::Stock, Kind::Sinew).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_sinew_worker_takes_the_place_of_a_stock_one_behind_a_sinew_router() {
                let (backend, plane) = (Backend::$backend, Plane::$plane);
                super::behind_a_sinew_router(backend, plane, Kind::Stock, Kind::Sinew).await;
            }
        }
    )+};
}

restarts! {
    file_tcp: File, Tcp;
    file_nats: File, Nats;
    etcd_tcp: Etcd, Tcp;
    etcd_nats: Etcd, Nats;
}
