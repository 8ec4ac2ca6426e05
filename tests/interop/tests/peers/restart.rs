//! Workers that are replaced while requests come in: none fails that need not.

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

/// What a stock caller makes of requests to a worker whose removal it hears of before the worker
/// has begun with them, although the worker would have: its own words, and no worker can help it.
const GIVEN_UP: [&str; 2] = [
    "Worker disconnected before response stream was established",
    "Worker removed before request could be sent",
];

/// Ends a Sinew worker beside another one, and starts a worker in its place.
async fn behind_a_stock_router(backend: Backend, plane: Plane, comes: Kind) {
    let place = Place::new(backend, plane);
    let (_stays, mut goes) = (Kind::Sinew.start(&place).await, Kind::Sinew.start(&place).await);
    let mut client = stock::Client::start(&place, 2).await;
    let load = json!({ "concurrency": CONCURRENCY, "request": job(), "progress": STRETCH });
    let load = client.begin(json!({ "load": load })).await;
    client.progress(&load).await;

    goes.signal(Signal::TERM);
    let end = goes.line(|line| line["stopped"] == true).await;
    assert_eq!((&end["cut_streams"], &end["cut_tasks"]), (&json!(0), &json!(0)));
    client.wait_for(1).await;
    client.progress(&load).await;
    let comes = comes.start(&place).await;
    client.wait_for(2).await;
    client.progress(&load).await;
    let summary = client.finish(load).await;
    let errors = summary["errors"].as_object().unwrap();
    let is_given_up = |text: &String| GIVEN_UP.iter().any(|words| text.contains(words));
    assert!(errors.keys().all(is_given_up), "{summary}");
    assert!(summary["failed"].as_u64() <= Some(CONCURRENCY as u64), "{summary}");
    let by = &summary["by"];
    assert!(by[id(&goes)].as_u64() > Some(0) && by[id(&comes)].as_u64() > Some(0), "{summary}");
}

/// Starts a Sinew worker beside a stock one, and ends that.
async fn in_the_place_of_a_stock_worker(backend: Backend, plane: Plane) {
    let place = Place::new(backend, plane);
    let mut goes = Kind::Stock.start(&place).await;
    let mut client = stock::Client::start(&place, 1).await;
    let load = json!({ "concurrency": CONCURRENCY, "request": job(), "progress": STRETCH });
    let before = client.begin(json!({ "load": load })).await;
    client.progress(&before).await;
    let comes = Kind::Sinew.start(&place).await;
    client.wait_for(2).await;
    client.progress(&before).await;
    let summary = client.finish(before).await;
    assert_eq!(summary["failed"], 0, "{summary}");
    assert!(summary["by"][id(&comes)].as_u64() > Some(0), "{summary}");

    // How many requests a stock worker fails when it ends under load is not ours to say.
    goes.signal(Signal::TERM);
    goes.line(|line| line["stopped"] == true).await;
    client.wait_for(1).await;
    let after = json!({ "requests": 100, "concurrency": CONCURRENCY, "request": job() });
    let summary = client.load(after).await;
    assert_eq!((&summary["failed"], &summary["by"][id(&comes)]), (&json!(0), &json!(100)));
}

/// How a call went: who served it, or who let it go half way, as far as is known.
type Served = Result<String, Option<String>>;

/// Calls of a Sinew caller that go on until they are told to finish.
struct Load {
    calls: JoinSet<()>,
    finish: Arc<AtomicBool>,
    served: UnboundedReceiver<Served>,
    by: BTreeMap<Served, usize>,
}

async fn call(caller: &ours::Caller) -> Served {
    let ended = match caller.call(job()).await {
        Ok(ended) => ended,
        Err(error) => {
            assert!(!error.is_safe_to_resend(), "{error:?} was not sent elsewhere");
            return Err(None);
        }
    };
    let worker = ended.items.first().map(|item| item["worker"].as_str().unwrap().to_owned());
    match ended.outcome {
        Outcome::Complete { items: 5 } => Ok(worker.unwrap()),
        Outcome::Truncated { .. } => Err(worker),
        other => panic!("{other:?}"),
    }
}

impl Load {
    fn start(caller: &Arc<ours::Caller>) -> Self {
        let (mut calls, finish) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        let (tell, served) = mpsc::unbounded_channel();
        for _ in 0..CONCURRENCY {
            let (caller, finish, tell) = (Arc::clone(caller), Arc::clone(&finish), tell.clone());
            calls.spawn(async move {
                while !finish.load(Ordering::Relaxed) {
                    tell.send(call(&caller).await).unwrap();
                }
            });
        }
        Self { calls, finish, served, by: BTreeMap::new() }
    }

    fn count(&mut self, served: Served) {
        *self.by.entry(served).or_default() += 1;
    }

    /// Waits until it has got on.
    async fn progress(&mut self) {
        // What ended before now does not count.
        while let Ok(served) = self.served.try_recv() {
            self.count(served);
        }
        for _ in 0..STRETCH {
            let served = soon("a call", self.served.recv()).await.expect("all lanes failed");
            self.count(served);
        }
    }

    /// How all calls went.
    async fn finish(mut self) -> BTreeMap<Served, usize> {
        self.finish.store(true, Ordering::Relaxed);
        while let Some(lane) = soon("the last calls", self.calls.join_next()).await {
            lane.unwrap();
        }
        while let Ok(served) = self.served.try_recv() {
            self.count(served);
        }
        self.by
    }
}

/// Ends a stock worker beside another one, and starts a Sinew worker in its place.
async fn behind_a_sinew_router(backend: Backend, plane: Plane) {
    let place = Place::new(backend, plane);
    let (_stays, mut goes) = (Kind::Stock.start(&place).await, Kind::Stock.start(&place).await);
    let caller = Arc::new(ours::Caller::start(&place, 2).await);
    let mut load = Load::start(&caller);
    load.progress().await;

    goes.signal(Signal::TERM);
    goes.line(|line| line["stopped"] == true).await;
    caller.wait_for(1).await;
    load.progress().await;
    let comes = Kind::Sinew.start(&place).await;
    caller.wait_for(2).await;
    load.progress().await;
    let by = load.finish().await;
    for worker in [&goes, &comes] {
        assert!(by.contains_key(&Ok(id(worker).to_owned())), "{by:?}");
    }
    // A stock worker that ends drops requests that it has received, and the marks at the end of
    // streams: those it may have run, so they are told. What it refused went elsewhere.
    let mut lost = 0;
    for (served, count) in &by {
        let Err(worker) = served else { continue };
        assert!(worker.as_deref().is_none_or(|worker| worker == id(&goes)), "{by:?}");
        lost += count;
    }
    assert!(lost <= CONCURRENCY, "{by:?}");
    Arc::into_inner(caller).unwrap().end().await;
}

macro_rules! restarts {
    ($($name:ident: $backend:ident, $plane:ident;)+) => {$(
        mod $name {
            use super::{Backend, Kind, Plane};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_sinew_worker_is_replaced_behind_a_stock_router() {
                let (backend, plane) = (Backend::$backend, Plane::$plane);
                super::behind_a_stock_router(backend, plane, Kind::Sinew).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_sinew_worker_takes_the_place_of_a_stock_one_behind_a_stock_router() {
                super::in_the_place_of_a_stock_worker(Backend::$backend, Plane::$plane).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_sinew_worker_takes_the_place_of_a_stock_one_behind_a_sinew_router() {
                super::behind_a_sinew_router(Backend::$backend, Plane::$plane).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_worker_takes_the_place_of_a_sinew_one_behind_a_stock_router() {
    behind_a_stock_router(Backend::File, Plane::Tcp, Kind::Stock).await;
}
