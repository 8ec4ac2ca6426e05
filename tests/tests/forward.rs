//! A service whose engine is a router: it passes its requests on to another service.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use sinew::{
    CancelReason, Code, Context, DiscoverySource, EndpointName, Error, Outcome, PushRouter,
    RouterMode, Runtime, SingleIn, engine_fn,
};
use tokio::sync::Semaphore;

/// Asks the last service how much time it has left, in microseconds.
const DEADLINE: u64 = 99;

async fn runtime(dir: &Path) -> Runtime {
    let source = DiscoverySource::File(dir.to_path_buf());
    Runtime::builder().discovery(source).build().await.unwrap()
}

async fn router(runtime: &Runtime, name: &EndpointName) -> PushRouter<u64, u64> {
    let client = runtime.client(name.clone());
    client.wait_for_instances(Duration::from_secs(20)).await.unwrap();
    PushRouter::from_client(client, RouterMode::RoundRobin).await.unwrap()
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 30 s for {what}"),
    }
}

/// A caller, a service in the middle and one that counts to the request's number, an item for each
/// permit. The middle is in the process of one of the others, or in one of its own.
async fn through(middle_at: usize) {
    let dir = tempfile::tempdir().unwrap();
    let runtimes =
        [runtime(dir.path()).await, runtime(dir.path()).await, runtime(dir.path()).await];
    let (caller, middle, last) = (&runtimes[0], &runtimes[middle_at], &runtimes[2]);
    let (front, back) = ("tests/forward/front", "tests/forward/back");
    let (front, back): (EndpointName, EndpointName) =
        (front.parse().unwrap(), back.parse().unwrap());
    let permits = Arc::new(Semaphore::new(100));
    let each = Arc::clone(&permits);
    let count = engine_fn(move |request: SingleIn<u64>| {
        let each = Arc::clone(&each);
        async move {
            let end = *request.data();
            if end == DEADLINE {
                let left = request.context().remaining().map_or(0, |left| left.as_micros() as u64);
                return Ok(stream::iter([Ok(left)]).left_stream());
            }
            if end == 7 {
                return Err(Error::new(Code::InvalidPayload, "not seven"));
            }
            Ok(stream::unfold((0, each), move |(n, each)| async move {
                each.acquire().await.ok()?.forget();
                (n < end).then_some((Ok(n), (n + 1, each)))
            })
            .right_stream())
        }
    });
    let _last = last.serve_named(back.clone()).engine(count).await.unwrap();
    let forward = router(middle, &back).await;
    let watched = forward.clone();
    let id = forward.client().instances()[0].id;
    let served = middle.serve_named(front.clone()).engine(forward).await.unwrap();
    let router = router(caller, &front).await;

    let mut numbers = soon("a response", router.generate(3)).await.unwrap();
    let seen: Vec<u64> = soon("its end", numbers.by_ref().map(Result::unwrap).collect()).await;
    assert_eq!(seen, [0, 1, 2]);
    assert!(matches!(numbers.outcome(), Some(Outcome::Complete { items: 3 })));

    // What the last one says reaches the caller, from wherever it comes.
    let error = match soon("a response", router.generate(7)).await {
        Ok(mut response) => soon("an error", response.next()).await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert!(error.code() == Code::InvalidPayload && error.message().contains("not seven"));

    // What is left of the deadline falls with each hop.
    let context = Context::builder().timeout(Duration::from_secs(60)).build();
    let request = SingleIn::with_context(DEADLINE, context.clone());
    let before = context.remaining().unwrap().as_micros() as u64;
    let mut response = soon("a response", router.generate(request)).await.unwrap();
    let last = soon("what is left", response.next()).await.unwrap().unwrap();
    let after = context.remaining().unwrap().as_micros() as u64;
    assert!(last < before && last + 1_000_000 > after, "{before} {last} {after}");
    drop(response);

    // A cancel of the caller ends both.
    permits.forget_permits(100);
    permits.add_permits(1);
    let context = Context::new();
    let request = SingleIn::with_context(9, context.clone());
    let mut numbers = soon("a response", router.generate(request)).await.unwrap();
    assert_eq!(soon("an item", numbers.next()).await.unwrap().unwrap(), 0);
    assert_eq!(watched.in_flight(id), 1);
    context.kill();
    soon("the end", numbers.next()).await.unwrap().unwrap_err();
    let cancelled = Outcome::Cancelled { reason: CancelReason::Caller };
    assert_eq!(format!("{:?}", numbers.outcome()), format!("{:?}", Some(cancelled)));
    soon("no request in flight", served.drain()).await;
    assert_eq!(watched.in_flight(id), 0);
    for runtime in runtimes {
        runtime.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_through_a_service_in_a_process_of_its_own() {
    through(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_through_a_service_in_the_process_of_its_caller() {
    through(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_goes_through_a_service_in_the_process_of_the_one_that_answers() {
    through(2).await;
}
