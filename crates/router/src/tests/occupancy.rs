//! When a request counts as in flight, and choices that go by it.

use std::{
    panic::{AssertUnwindSafe, panic_any},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use serde_core::{Serialize, Serializer};
use sinew_plane::{
    AsyncEngine, BoxStream, Code, Context, Error, IncomingRequest, InstanceId, ResponseSink,
    SingleIn, engine_fn,
};
use sinew_registry::LocalEndpoint;

use super::world::{Script, World, refuses, says};
use crate::{PushRouter, RetryConfig, RouterMode, Why};

const LEAST: RouterMode = RouterMode::LeastLoaded;

fn hi() -> String {
    "hi".to_owned()
}

/// What instances 1, 2, ... have in flight.
fn counts<const N: usize, Req, Resp>(router: &PushRouter<Req, Resp>) -> [u32; N]
where
    Req: Serialize + Send + Sync + 'static,
    Resp: serde_core::de::DeserializeOwned + Send + 'static,
{
    std::array::from_fn(|place| router.in_flight(place as u64 + 1))
}

#[tokio::test]
async fn a_response_counts_until_it_is_complete() {
    let world = World::with(&[says(&["a", "b"])]).await;
    let router = world.router(LEAST).await;
    let mut response = router.generate(hi()).await.unwrap();
    assert_eq!(counts(&router), [1]);
    for _ in 0..2 {
        response.next().await.unwrap().unwrap();
        assert_eq!(counts(&router), [1]);
    }
    assert!(response.next().await.is_none());
    assert_eq!(counts(&router), [0]);
    drop(response);
    assert_eq!(counts(&router), [0], "and not twice");
}

#[tokio::test]
async fn a_response_counts_until_it_is_dropped() {
    let world = World::with(&[Script::StartThenSilence]).await;
    let router = world.router(LEAST).await;
    let responses = [router.generate(hi()).await.unwrap(), router.generate(hi()).await.unwrap()];
    assert_eq!(counts(&router), [2]);
    drop(responses);
    assert_eq!(counts(&router), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_response_has_stopped_counting_when_its_error_is_heard() {
    let failed = Error::new(Code::HandlerFailed, "as told");
    let a = || vec![Bytes::from_static(b"\"a\"")];
    for (script, code) in [
        (Script::Break(a()), Code::Truncated),
        (Script::Fail(a(), failed), Code::HandlerFailed),
        (Script::Items([a(), vec![Bytes::from_static(b"{")]].concat()), Code::InvalidPayload),
    ] {
        let world = World::with(&[script]).await;
        let router = world.router(LEAST).await;
        let mut response = router.generate(hi()).await.unwrap();
        response.next().await.unwrap().unwrap();
        assert_eq!(counts(&router), [1]);
        let error = response.next().await.unwrap().unwrap_err();
        assert_eq!((error.code(), counts(&router)), (code, [0]));
    }
    let world = World::with(&[Script::StartThenSilence]).await;
    let router = world.router(LEAST).await;
    let context = Context::builder().timeout(Duration::from_millis(300)).build();
    let mut response = router.generate(SingleIn::with_context(hi(), context)).await.unwrap();
    let error = response.next().await.unwrap().unwrap_err();
    assert_eq!((error.code(), counts(&router)), (Code::DeadlineExceeded, [0]));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_before_there_is_a_stream_does_not_count() {
    for script in [
        Script::FailOpen(Code::ConnectFailed),
        refuses(Code::Overloaded),
        refuses(Code::HandlerFailed),
    ] {
        let world = World::with(&[script]).await;
        let router = world.router(LEAST).await;
        router.generate(hi()).await.unwrap_err();
        assert_eq!(counts(&router), [0]);
    }
    // Also while the request goes on elsewhere.
    let world = World::with(&[refuses(Code::Draining), Script::NeverStart]).await;
    let router = world.router(LEAST).await;
    let mut call = Box::pin(router.generate(hi()));
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(counts(&router), [0, 1]);
    drop(call);
    assert_eq!(counts(&router), [0, 0], "a caller that gives up before the answer");

    let context = Context::builder().timeout(Duration::from_millis(300)).build();
    let error = router.generate(SingleIn::with_context(hi(), context)).await.unwrap_err();
    assert_eq!((error.code(), counts(&router)), (Code::DeadlineExceeded, [0, 0]));
    // Instances that nothing can be sent to.
    world.add_with(3, says(&[]), |one| one.addresses.clear()).await;
    world.add_with(4, says(&[]), |one| one.codecs.clear()).await;
    for id in [3, 4] {
        assert!(router.direct(hi(), InstanceId(id)).await.is_err());
    }
    assert_eq!(counts(&router), [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_task_that_ends_or_panics_or_is_aborted_holds_nothing() {
    let world = World::with(&[Script::StartThenSilence]).await;
    let router = world.router(LEAST).await;
    let (held, mut holds) = tokio::sync::mpsc::channel(3);
    let task = |end: fn()| {
        let (router, held) = (router.clone(), held.clone());
        tokio::spawn(async move {
            let mut response = router.generate(hi()).await.unwrap();
            held.send(router.in_flight(1_u64)).await.unwrap();
            end();
            response.next().await
        })
    };
    let panics = task(|| panic_any("as told"));
    assert_eq!(holds.recv().await, Some(1));
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(counts(&router), [0]);

    let waits = task(|| {});
    assert_eq!(holds.recv().await, Some(1));
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    assert_eq!(counts(&router), [0]);
}

/// A request that panics while it is encoded.
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic_any("as told")
    }
}

#[tokio::test]
async fn a_panic_while_the_request_is_prepared_holds_nothing() {
    let world = World::with(&[says(&[])]).await;
    let router = world.typed::<Unencodable, String>(LEAST).await;
    let call = AssertUnwindSafe(router.generate(Unencodable)).catch_unwind();
    assert!(call.await.is_err());
    assert_eq!(counts(&router), [0]);
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn an_engine_of_this_process_counts_the_same() {
    let served = |engine: Arc<dyn AsyncEngine<String, String>>| async move {
        let world = World::with(&[says(&[])]).await;
        let handler = |_: IncomingRequest<'_>, sink: ResponseSink| sink.complete();
        let local = LocalEndpoint::new(Arc::new(handler)).with_engine::<String, String>(engine);
        let guard = world.locals.insert(&world.name, InstanceId(1), local);
        (world.router(LEAST).await, guard, world)
    };
    let echo = engine_fn(|request: SingleIn<String>| async move {
        Ok::<_, Error>(stream::iter([Ok(request.into_parts().0)]))
    });
    let (router, _guard, _world) = served(Arc::new(echo)).await;
    let mut response = router.generate(hi()).await.unwrap();
    assert_eq!((response.next().await.unwrap().unwrap(), counts(&router)), (hi(), [1]));
    assert!(response.next().await.is_none());
    assert_eq!(counts(&router), [0]);
    let response = router.generate(hi()).await.unwrap();
    assert_eq!(counts(&router), [1]);
    drop(response);
    assert_eq!(counts(&router), [0]);

    let at_once = engine_fn(|_: SingleIn<String>| async move {
        panic_any("as told");
        #[expect(unreachable_code, reason = "gives the closure its type")]
        Ok::<BoxStream<'static, Result<String, Error>>, Error>(Box::pin(stream::empty()))
    });
    let (router, _guard, _world) = served(Arc::new(at_once)).await;
    assert_eq!(router.generate(hi()).await.unwrap_err().code(), Code::HandlerGone);
    assert_eq!(counts(&router), [0]);

    let later = engine_fn(|_: SingleIn<String>| async move {
        let values = stream::iter([()]).map(|()| -> Result<String, Error> { panic_any("as told") });
        Ok::<_, Error>(values)
    });
    let (router, _guard, _world) = served(Arc::new(later)).await;
    let mut response = router.generate(hi()).await.unwrap();
    assert_eq!(counts(&router), [1]);
    assert_eq!(response.next().await.unwrap().unwrap_err().code(), Code::HandlerGone);
    assert_eq!(counts(&router), [0]);
}

#[tokio::test]
async fn the_explanation_tells_the_loads_that_were_compared() {
    let world = World::with(&[Script::StartThenSilence, Script::StartThenSilence]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    // Requests of any mode count.
    let _held = [
        router.direct(hi(), InstanceId(1)).await.unwrap(),
        router.direct(hi(), InstanceId(1)).await.unwrap(),
        router.direct(hi(), InstanceId(2)).await.unwrap(),
    ];
    let _third = router.least_loaded(hi()).await.unwrap();
    assert_eq!(counts(&router), [2, 2]);
    let _fourth = router.direct(hi(), InstanceId(1)).await.unwrap();
    let _fifth = router.power_of_two_choices(hi()).await.unwrap();
    assert_eq!(counts(&router), [3, 3]);

    let client = router.client().clone();
    let fresh = PushRouter::<String, String>::from_client(client, RouterMode::PowerOfTwoChoices);
    let fresh = fresh.await.unwrap();
    let _first = fresh.direct(hi(), InstanceId(1)).await.unwrap();
    let (_second, explanation) = fresh.generate_explained(hi()).await.unwrap();
    assert_eq!(explanation.instance, InstanceId(2));
    let Why::LowerLoad(loads) = explanation.why else { panic!("{:?}", explanation.why) };
    assert_eq!((loads.chosen.in_flight, loads.next.unwrap().in_flight), (0, 1));
    assert_eq!(
        explanation.why.to_string(),
        "less loaded of two drawn by lot: 2 with 0 in flight against 1 with 1 in flight"
    );
}

#[tokio::test]
async fn clones_count_together_and_other_retry_rules_begin_anew() {
    let world = World::with(&[Script::StartThenSilence, Script::StartThenSilence]).await;
    let router = world.router(LEAST).await;
    let _first = router.direct(hi(), InstanceId(1)).await.unwrap();
    let clone = router.clone();
    let _second = clone.generate(hi()).await.unwrap();
    assert_eq!(counts(&router), [1, 1]);
    let other = clone.with_retry(RetryConfig::none());
    assert_eq!(counts(&other), [1, 1], "other rules, the same instances");
}

#[tokio::test]
async fn an_instance_that_comes_back_while_requests_run_keeps_its_count() {
    let world = World::with(&[Script::StartThenSilence, Script::StartThenSilence]).await;
    let router = world.router(LEAST).await;
    let first = router.direct(hi(), InstanceId(1)).await.unwrap();
    world.remove(1).await;
    let second = router.generate(hi()).await.unwrap();
    assert_eq!(counts(&router), [1, 1], "it is counted while it is away");
    world.add(1, Script::StartThenSilence).await;
    let third = router.generate(hi()).await.unwrap();
    drop(third);
    assert_eq!(counts(&router), [1, 1]);
    drop(first);
    assert_eq!(counts(&router), [0, 1], "a request of its first life ends");
    let fourth = router.generate(hi()).await.unwrap();
    assert_eq!(counts(&router), [1, 1]);
    drop((second, fourth));
    assert_eq!(counts(&router), [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_choose_at_the_same_time_see_each_other() {
    let silent = || Script::StartThenSilence;
    let world = World::with(&[silent(), silent(), silent()]).await;
    let router = world.router(LEAST).await;
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let router = router.clone();
            tokio::spawn(async move { router.generate(hi()).await.unwrap() })
        })
        .collect();
    let mut responses = Vec::new();
    for call in calls {
        responses.push(call.await.unwrap());
    }
    assert_eq!(counts(&router), [100, 100, 100]);
    let ends = responses.into_iter().map(|response| tokio::spawn(async move { drop(response) }));
    for end in ends.collect::<Vec<_>>() {
        end.await.unwrap();
    }
    assert_eq!(counts(&router), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counts_add_up_while_requests_come_and_go_everywhere() {
    let scripts = [says(&["a"]), refuses(Code::Draining), Script::StartThenSilence];
    let world = World::with(&scripts).await;
    let router = world.router(RouterMode::PowerOfTwoChoices).await;
    let calls = (0..8).map(|seed| {
        let router = router.clone();
        tokio::spawn(async move {
            let mut random = sinew_plane::random::Rng::with_seed(seed);
            let mut held = Vec::new();
            for _ in 0..200 {
                let response = match random.u8(..4) {
                    0 => router.least_loaded(hi()).await,
                    1 => router.power_of_two_choices(hi()).await,
                    2 => router.random(hi()).await,
                    _ => router.round_robin(hi()).await,
                };
                // The budget may refuse to go on after a refusal; that ends a count as well.
                held.extend(response);
                if random.bool() && !held.is_empty() {
                    let mut one = held.swap_remove(random.usize(..held.len()));
                    // To its end, or as far as it goes and then dropped.
                    while let Some(Some(_)) = one.next().now_or_never() {}
                }
                tokio::task::yield_now().await;
            }
            held
        })
    });
    let mut held = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        held.extend(call.await.unwrap());
    }
    assert_eq!(counts::<3, _, _>(&router).iter().sum::<u32>() as usize, held.len());
    assert!(!held.is_empty());
    drop(held);
    assert_eq!(counts(&router), [0, 0, 0]);
}
