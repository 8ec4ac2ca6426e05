//! A worker process is killed, and gets no chance to say goodbye.

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sinew::{Code, InstanceId, Outcome, RequestPlane, Runtime};

use crate::{
    engine::Shop,
    fleet::{Place, SHORT_LEASE, endpoint},
    load::{Failure, Held, Load},
    servers::{Etcd, Nats},
};

/// Set for a child that is to be a worker: its instance id.
const ID: &str = "SINEW_TEST_OUTAGES_WORKER";

/// How long others may take at most to notice that the kernel has closed its connections: what is
/// sent to it in that time is as lost as what it had in hand.
const NOTICE: Duration = Duration::from_secs(1);

/// Streams that are open on the worker when it dies.
const OPEN: usize = 20;
const CALLERS: usize = 16;

/// A worker in a process of its own: this program again, running the same test.
struct Worker(Child);

impl Worker {
    fn start(test: &str, place: &Place, id: InstanceId) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(ID, id.0.to_string());
        let config = &place.config;
        command.env("SINEW_DISCOVERY", config.discovery.to_string());
        command.env("SINEW_ETCD_LEASE_TTL", config.etcd.lease_ttl.as_secs().to_string());
        command.env("SINEW_REQUEST_PLANE", config.request_plane.to_string());
        if config.request_plane == RequestPlane::Nats {
            command.env("SINEW_NATS_SERVER", config.nats.join(","));
        }
        // It lives until it is killed, or until this process is and the pipe closes.
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True when this process is such a child: then its life is over already.
async fn was_worker() -> bool {
    let Ok(id) = std::env::var(ID) else { return false };
    let runtime = Runtime::from_env().await.unwrap();
    let id = InstanceId(id.parse().unwrap());
    let _served = Shop::new().serve(runtime.serve_named(endpoint()), id).await;
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    true
}

/// What may become of a request that was with a worker when it died.
fn is_of_a_death(failure: &Failure, of: InstanceId) -> bool {
    let is_typed = match failure.error.code() {
        Code::Truncated => matches!(failure.outcome, Some(Outcome::Truncated { .. })),
        code => code == Code::ConnectionLost,
    };
    is_typed && failure.by.is_none_or(|by| by == of)
}

async fn one_of_two_is_killed(test: &str, place: Place) {
    let ids = [InstanceId(0xa), InstanceId(0xb)];
    let [mut victim, _other] = ids.map(|id| Worker::start(test, &place, id));
    let caller = place.caller(2).await;
    let load = Load::start(&caller.router, CALLERS);
    load.uses(&ids).await;
    let held = Held::begin(&caller.router, OPEN, ids[0]).await;
    let before = load.completes(50).await;
    assert!(before.failed.is_empty(), "{:#?}", before.failed);

    victim.kill();
    let dead = Instant::now();
    for end in held.end().await {
        let failure = end.unwrap_err();
        let is_so = matches!(failure.outcome, Some(Outcome::Truncated { received: 1 }));
        assert!(is_so && failure.error.code() == Code::Truncated, "{failure:?}");
        assert!(failure.took < Duration::from_secs(10), "{failure:?}");
    }
    load.completes(100).await;
    // Its entry ends with its lease.
    caller.sees(1).await;
    load.completes(100).await;
    let account = load.end().await;
    for failure in &account.failed {
        assert!(is_of_a_death(failure, ids[0]), "{failure:?}");
        assert!(failure.begun < dead + NOTICE, "{:?} after: {failure:?}", failure.begun - dead);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_costs_only_what_it_had_in_hand() {
    if was_worker().await {
        return;
    }
    let etcd = Etcd::cluster::<1>().await;
    let test = "death::a_worker_killed_costs_only_what_it_had_in_hand";
    one_of_two_is_killed(test, Place::etcd(&etcd, SHORT_LEASE)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_over_nats_costs_only_what_it_had_in_hand() {
    if was_worker().await {
        return;
    }
    let (etcd, nats) = (Etcd::cluster::<1>().await, Nats::start().await);
    let test = "death::a_worker_killed_over_nats_costs_only_what_it_had_in_hand";
    one_of_two_is_killed(test, Place::etcd(&etcd, SHORT_LEASE).over(&nats)).await;
}
