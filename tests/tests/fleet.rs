//! Several runtimes that find each other through files, as processes do.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sinew::{
    Code, DiscoverySource, EndpointName, Error, Outcome, PushRouter, RouterMode, Runtime, Served,
    SingleIn, engine_fn,
};

async fn runtime(dir: &Path) -> Runtime {
    let source = DiscoverySource::File(dir.to_path_buf());
    Runtime::builder().discovery(source).build().await.unwrap()
}

fn name() -> EndpointName {
    "tests/fleet/count".parse().unwrap()
}

/// Counts to the request's number.
async fn serve(runtime: &Runtime) -> Served {
    let count = engine_fn(|request: SingleIn<u64>| async move {
        Ok::<_, Error>(stream::iter((0..*request.data()).map(Ok)))
    });
    runtime.serve_named(name()).engine(count).await.unwrap()
}

async fn router(runtime: &Runtime) -> PushRouter<u64, u64> {
    let client = runtime.client(name());
    client.wait_for_instances(Duration::from_secs(20)).await.unwrap();
    PushRouter::from_client(client, RouterMode::RoundRobin).await.unwrap()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 30 s for {what}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_cross_between_runtimes() {
    let dir = tempfile::tempdir().unwrap();
    let (worker, caller) = (runtime(dir.path()).await, runtime(dir.path()).await);
    let served = serve(&worker).await;
    let router = router(&caller).await;
    for n in [0, 1, 3, 10_000] {
        let mut numbers = router.generate(n).await.unwrap();
        let seen: Vec<u64> = numbers.by_ref().map(Result::unwrap).collect().await;
        assert_eq!(seen, (0..n).collect::<Vec<_>>());
        assert!(matches!(numbers.outcome(), Some(Outcome::Complete { items }) if *items == n));
    }
    served.drain().await;
    worker.shutdown(Duration::from_secs(1)).await;
}

/// I5: an engine runs in the task of a caller in its own process, which need not read on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_does_not_wait_for_a_reader_in_its_own_process_for_longer_than_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let source = DiscoverySource::File(dir.path().to_path_buf());
    let short = |config: &mut sinew::Config| config.grace = Duration::from_millis(100);
    let both = Runtime::builder().discovery(source).configure(short).build().await.unwrap();
    let served = serve(&both).await;
    let router = router(&both).await;
    let mut held = router.generate(10).await.unwrap();
    assert_eq!(held.next().await.unwrap().unwrap(), 0);
    let cut = soon("the drain", served.drain()).await;
    assert_eq!((cut.cut_streams, cut.cut_tasks), (1, 0));
    let error = soon("the end", held.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert!(held.next().await.is_none());
    assert_eq!(served.in_flight(), 0);
}

/// I8: workers come and go under load, and no caller sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let caller = runtime(dir.path()).await;
    let first = runtime(dir.path()).await;
    let mut current = (serve(&first).await, first);
    let router = router(&caller).await;

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (router, stop, done) = (router.clone(), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let numbers = router.generate(20).await?;
                    let seen: Result<Vec<u64>, Error> =
                        numbers.collect::<Vec<_>>().await.into_iter().collect();
                    assert_eq!(seen?.len(), 20);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for _ in 0..4 {
        let next = runtime(dir.path()).await;
        let served = serve(&next).await;
        let known = || router.client().instance_ids().contains(&served.instance());
        soon("the new worker to be seen", async {
            while !known() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let before = done.load(Ordering::Relaxed);
        let (old, old_runtime) = std::mem::replace(&mut current, (served, next));
        soon("the old worker to drain", old.drain()).await;
        let cut =
            soon("the old runtime to end", old_runtime.shutdown(Duration::from_secs(5))).await;
        assert_eq!(cut.cut_streams, 0, "a drained worker cuts nothing");
        soon("requests to go on", async {
            let failed = || load.iter().any(tokio::task::JoinHandle::is_finished);
            while done.load(Ordering::Relaxed) < before + 50 && !failed() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in load {
        soon("a caller to end", caller).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_said_with_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let caller = runtime(dir.path()).await;
    let client = caller.client(name());
    let router =
        PushRouter::<Bytes, Bytes>::from_client(client, RouterMode::RoundRobin).await.unwrap();
    let error = router.generate(Bytes::new()).await.unwrap_err();
    assert_eq!(error.code(), Code::NoInstances);
    assert!(error.to_string().contains("No instances found for tests/fleet/count"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_running_streams_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let (worker, caller) = (runtime(dir.path()).await, runtime(dir.path()).await);
    let endless = engine_fn(|_: SingleIn<u64>| async {
        Ok::<_, Error>(stream::iter([Ok(1_u64)]).chain(stream::pending()))
    });
    let _served = worker.serve_named(name()).engine(endless).await.unwrap();
    let router = router(&caller).await;
    let mut numbers = router.generate(0).await.unwrap();
    assert_eq!(soon("the first item", numbers.next()).await.unwrap().unwrap(), 1);
    soon("the worker to end", worker.shutdown(Duration::ZERO)).await;
    soon("the end", numbers.next()).await.unwrap().unwrap_err();
    let outcome = numbers.outcome().unwrap();
    assert!(
        matches!(outcome, Outcome::Cancelled { .. } | Outcome::Truncated { received: 1 }),
        "{outcome:?}"
    );
}

/// Within a process nothing is serialised when the types fit, and the shortest transport
/// carries the call when they do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_within_the_process_takes_the_shortest_way() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path()).await;
    let _served = serve(&runtime).await;
    let typed = router(&runtime).await;
    let (numbers, how) = typed.generate_explained(3_u64).await.unwrap();
    assert_eq!((numbers.count().await, how.transport.as_str()), (3, "local"));

    let client = runtime.client(name());
    let other = PushRouter::<u32, u64>::from_client(client, RouterMode::RoundRobin).await.unwrap();
    let (numbers, how) = other.generate_explained(3_u32).await.unwrap();
    assert_eq!((numbers.count().await, how.transport.as_str()), (3, "memory"));
}
