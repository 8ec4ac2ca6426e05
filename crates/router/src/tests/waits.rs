//! Limits of the waits for a response: who sets them, and what happens when they pass.

use std::{future::pending, time::Duration};

use futures_util::{StreamExt, stream};
use sinew_plane::{
    CallLimits, Code, Context, Error, Executed, InstanceId, Outcome, SingleIn, engine_fn,
};
use sinew_registry::LocalEndpoint;
use tokio::time::Instant;

use super::world::{Script, World, says};
use crate::RouterMode;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn accept(seconds: u64) -> CallLimits {
    CallLimits { accept: Some(secs(seconds)), ..CallLimits::default() }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_never_accepts_is_given_up_after_ten_seconds_and_left_out() {
    let world = World::with(&[Script::NeverStart, says(&["two"])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let began = Instant::now();
    let error = router.direct("hi".to_owned(), InstanceId(1)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::AcceptTimedOut, Executed::Maybe));
    assert!(error.message().contains("10s, the accept limit"), "{error}");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(world.abandoned(), 1, "it is told to end");
    for _ in 0..4 {
        let (_, how) = router.generate_explained("hi".to_owned()).await.unwrap();
        assert_eq!(how.instance, InstanceId(2));
    }
    assert_eq!(world.asked(), [1, 2, 2, 2, 2], "nothing is sent a second time");
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_request_goes_on_to_the_next_instance() {
    let world = World::new();
    world.add_with(1, Script::NeverStart, |one| one.idempotent = true).await;
    world.add_with(2, says(&["two"]), |one| one.idempotent = true).await;
    let router = world.router(RouterMode::RoundRobin).await.with_limits(accept(1));
    let began = Instant::now();
    for _ in 0..2 {
        let (response, how) = router.generate_explained("hi".to_owned()).await.unwrap();
        assert_eq!((response.count().await, how.instance), (1, InstanceId(2)));
    }
    assert_eq!(began.elapsed().as_secs(), 1, "one of them met the silent one");
}

/// The call's own limit, then the router's, then the client's.
#[tokio::test(start_paused = true)]
async fn the_nearest_limit_counts() {
    let world = World::with(&[Script::NeverStart]).await;
    let client = world.client().await.with_limits(accept(4));
    let typed =
        |client| crate::PushRouter::<String, String>::from_client(client, RouterMode::Random);
    let plain = typed(client.clone()).await.unwrap();
    let limited = typed(client.clone()).await.unwrap().with_limits(accept(3));
    let open = typed(client).await.unwrap().with_limits(CallLimits::default());
    let own = Context::builder().accept_timeout(secs(2)).build();
    for (router, context, seconds) in [
        (&plain, Context::new(), 4),
        (&open, Context::new(), 4),
        (&limited, Context::new(), 3),
        (&limited, own, 2),
    ] {
        let began = Instant::now();
        let request = SingleIn::with_context("hi".to_owned(), context);
        let error = router.generate(request).await.unwrap_err();
        assert_eq!(error.code(), Code::AcceptTimedOut);
        assert_eq!(began.elapsed().as_secs(), seconds, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_before_the_limit_is_still_a_deadline() {
    let world = World::with(&[Script::NeverStart]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let context = Context::builder().deadline((Instant::now() + secs(2)).into_std()).build();
    let request = SingleIn::with_context("hi".to_owned(), context);
    let error = router.generate(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_silent_handler_meets_the_first_item_limit() {
    let world = World::with(&[Script::StartThenSilence]).await;
    let limits = CallLimits { first_item: Some(secs(5)), ..CallLimits::default() };
    let router = world.router(RouterMode::RoundRobin).await.with_limits(limits);
    let began = Instant::now();
    let mut response = router.generate("hi".to_owned()).await.unwrap();
    let error = response.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::FirstItemTimedOut);
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(matches!(response.outcome(), Some(Outcome::Failed { .. })));
    assert!(response.next().await.is_none());
    assert_eq!(world.abandoned(), 1);
}

/// An engine of this process: how long `generate` takes, and what it says then before it falls
/// silent.
async fn in_process(slow: bool, items: u64) -> (World, sinew_registry::LocalGuard, Context) {
    let world = World::with(&[says(&["over the transport"])]).await;
    let engine = engine_fn(move |_: SingleIn<u64>| async move {
        if slow {
            pending::<()>().await;
        }
        Ok::<_, Error>(stream::iter((0..items).map(Ok)).chain(stream::pending()))
    });
    let handler = |_: sinew_plane::IncomingRequest<'_>, sink: sinew_plane::ResponseSink| {
        sink.complete();
    };
    let endpoint = LocalEndpoint::new(std::sync::Arc::new(handler))
        .with_engine::<u64, u64>(std::sync::Arc::new(engine));
    let guard = world.locals.insert(&world.name, InstanceId(1), endpoint);
    (world, guard, Context::new())
}

#[tokio::test(start_paused = true)]
async fn calls_within_the_process_obey_the_limits_of_items() {
    let limits =
        CallLimits { first_item: Some(secs(5)), idle: Some(secs(2)), ..CallLimits::default() };
    for (slow, items, code, seconds) in [
        (true, 0, Code::FirstItemTimedOut, 5),
        (false, 0, Code::FirstItemTimedOut, 5),
        (false, 3, Code::IdleTimedOut, 2),
    ] {
        let (world, _guard, context) = in_process(slow, items).await;
        let router = world.typed::<u64, u64>(RouterMode::RoundRobin).await.with_limits(limits);
        let began = Instant::now();
        let request = SingleIn::with_context(7, context.clone());
        let error = match router.generate(request).await {
            Err(error) => error,
            Ok(mut response) => {
                for expected in 0..items {
                    assert_eq!(response.next().await.unwrap().unwrap(), expected);
                }
                response.next().await.unwrap().unwrap_err()
            }
        };
        assert_eq!((error.code(), error.executed()), (code, Executed::Yes), "{error}");
        assert_eq!(began.elapsed().as_secs(), seconds);
        assert!(context.is_killed(), "the engine is told");
        assert!(world.asked().is_empty());
    }
}
