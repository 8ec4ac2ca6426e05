//! Which instances are left out, for how long, and who is asked when none are left.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{Code, Error, IncomingRequest, InstanceId, Outcome, ResponseSink};
use sinew_registry::LocalEndpoint;

use super::world::{Script, World, refuses, says};
use crate::{PushRouter, RetryConfig, RouterMode};

/// Every mode that chooses.
const MODES: [RouterMode; 4] = [
    RouterMode::RoundRobin,
    RouterMode::Random,
    RouterMode::PowerOfTwoChoices,
    RouterMode::LeastLoaded,
];

fn hi() -> String {
    "hi".to_owned()
}

fn first_then(end: fn(Vec<Bytes>) -> Script) -> Script {
    end(vec![Bytes::from_static(b"\"a\"")])
}

/// Asks instance 1 and reads its response to the end, whatever that is; then lets it work.
async fn meet(world: &World, router: &PushRouter<String, String>, script: Script) {
    world.script(1, script);
    if let Ok(response) = router.direct(hi(), InstanceId(1)).await {
        response.for_each(|_| std::future::ready(())).await;
    }
    world.script(1, says(&[]));
}

/// Whether one of 40 requests reaches instance 1. They end at once, so all loads are equal.
async fn is_asked(world: &World, router: &PushRouter<String, String>) -> bool {
    let before = world.asked().len();
    for _ in 0..40 {
        router.generate(hi()).await.unwrap();
    }
    world.asked()[before..].contains(&1)
}

#[tokio::test(start_paused = true)]
async fn a_worker_lost_midway_is_left_out_for_the_period_and_then_not() {
    let lost_at_once = Script::Break(Vec::new());
    for mode in MODES {
        for script in [first_then(Script::Break), lost_at_once.clone()] {
            let world = World::with(&[says(&[]), says(&[])]).await;
            let period = Duration::from_secs(3);
            let retry = RetryConfig { ejection: period, ..RetryConfig::default() };
            let router = world.router(mode).await.with_retry(retry);
            assert!(is_asked(&world, &router).await, "{mode}");
            meet(&world, &router, script).await;
            assert!(!is_asked(&world, &router).await, "{mode}");
            tokio::time::advance(period - Duration::from_millis(1)).await;
            assert!(!is_asked(&world, &router).await, "{mode}");
            // Nothing but time has to pass: no event of discovery, no success.
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(is_asked(&world, &router).await, "{mode}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_serve_is_left_out_for_the_period_and_then_not() {
    for mode in MODES {
        for script in [
            refuses(Code::UnknownEndpoint),
            refuses(Code::Draining),
            refuses(Code::ConnectionLost),
            Script::FailOpen(Code::ConnectFailed),
            Script::FailOpen(Code::ConnectTimedOut),
        ] {
            let world = World::with(&[says(&[]), says(&[])]).await;
            let router = world.router(mode).await;
            meet(&world, &router, script.clone()).await;
            // The attempts at a named instance wait in between, so the last one counts.
            assert!(!is_asked(&world, &router).await, "{mode} {script:?}");
            tokio::time::advance(Duration::from_millis(999)).await;
            assert!(!is_asked(&world, &router).await, "{mode} {script:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(is_asked(&world, &router).await, "{mode} {script:?}");
        }
    }
}

#[tokio::test]
async fn a_handlers_error_a_cancel_and_a_drop_leave_nobody_out() {
    let world = World::with(&[says(&[]), says(&[])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    // The codes of errors that a handler met elsewhere and passes on say nothing about itself.
    for code in [Code::HandlerFailed, Code::Truncated, Code::Draining, Code::Overloaded] {
        let error = Error::new(code, "as told");
        meet(&world, &router, Script::Fail(Vec::new(), error)).await;
        assert!(is_asked(&world, &router).await, "{code}");
    }
    world.script(1, first_then(Script::Break));
    let mut broken = router.direct(hi(), InstanceId(1)).await.unwrap();
    broken.next().await.unwrap().unwrap();
    drop(broken);
    world.script(1, Script::StartThenSilence);
    drop(router.direct(hi(), InstanceId(1)).await.unwrap());
    world.script(1, says(&[]));
    assert!(is_asked(&world, &router).await);
}

#[tokio::test(start_paused = true)]
async fn a_period_of_zero_leaves_nobody_out() {
    let world = World::with(&[says(&[]), says(&[])]).await;
    let retry = RetryConfig { ejection: Duration::ZERO, ..RetryConfig::default() };
    let router = world.router(RouterMode::RoundRobin).await.with_retry(retry);
    for script in [
        first_then(Script::Break),
        refuses(Code::UnknownEndpoint),
        refuses(Code::Overloaded),
        Script::FailOpen(Code::ConnectFailed),
    ] {
        meet(&world, &router, script.clone()).await;
        assert!(is_asked(&world, &router).await, "{script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_overloaded_are_passed_over_for_as_long_as_they_ask() {
    let asks = |delay| Error::new(Code::Overloaded, "full").with_retry_after(delay);
    for mode in MODES {
        for (script, rest) in [
            (refuses(Code::Overloaded), Duration::from_millis(100)),
            (Script::FailStart(asks(Duration::from_millis(700))), Duration::from_millis(700)),
            (Script::FailStart(asks(Duration::from_secs(60))), Duration::from_secs(1)),
        ] {
            let world = World::with(&[says(&[]), says(&[])]).await;
            let router = world.router(mode).await;
            meet(&world, &router, script).await;
            assert!(!is_asked(&world, &router).await, "{mode} {rest:?}");
            tokio::time::advance(rest - Duration::from_millis(1)).await;
            assert!(!is_asked(&world, &router).await, "{mode} {rest:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(is_asked(&world, &router).await, "{mode} {rest:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_at_once_does_not_look_idle() {
    let full = || refuses(Code::Overloaded);
    let silent = || Script::StartThenSilence;
    let world = World::with(&[full(), silent(), silent()]).await;
    let router = world.router(RouterMode::LeastLoaded).await;
    let mut held = Vec::new();
    for _ in 0..500 {
        held.push(router.generate(hi()).await.expect("the budget is not spent on refusals"));
    }
    assert_eq!(world.asked().iter().filter(|id| **id == 1).count(), 1);
    assert_eq!([1_u64, 2, 3].map(|id| router.in_flight(id)), [0, 250, 250]);
}

#[tokio::test]
async fn a_new_instance_is_not_held_to_what_others_did() {
    for mode in MODES {
        let world = World::with(&[says(&[]), says(&[])]).await;
        let router = world.router(mode).await;
        meet(&world, &router, refuses(Code::Draining)).await;
        world.add(3, says(&[])).await;
        assert!(!is_asked(&world, &router).await, "{mode}: an event of discovery frees nobody");
        assert!(world.asked().contains(&3), "{mode}");
        // The same id in another life is new as well.
        world.remove(1).await;
        world.add(1, says(&[])).await;
        assert!(is_asked(&world, &router).await, "{mode}");
    }
}

#[tokio::test]
async fn a_named_instance_is_asked_although_it_is_left_out() {
    let world = World::with(&[says(&[]), says(&[])]).await;
    let router = world.router(RouterMode::LeastLoaded).await;
    meet(&world, &router, first_then(Script::Break)).await;
    assert!(!is_asked(&world, &router).await);
    let before = world.asked().len();
    world.script(1, Script::StartThenSilence);
    let _held = router.direct(hi(), InstanceId(1)).await.unwrap();
    assert_eq!(world.asked()[before..], [1]);
}

#[tokio::test(start_paused = true)]
async fn the_near_come_first_and_those_left_out_last() {
    for mode in MODES {
        let world = World::with(&[says(&[]), says(&[]), says(&[])]).await;
        // Served here too, for other types: so it is near, and reached over the transport.
        let handler = |_: IncomingRequest<'_>, sink: ResponseSink| sink.complete();
        let local = LocalEndpoint::new(Arc::new(handler));
        let _guard = world.locals.insert(&world.name, InstanceId(3), local);
        let router = world.router(mode).await.with_prefer_local(true);
        meet(&world, &router, refuses(Code::Draining)).await;
        for id in [1, 2, 3] {
            world.script(id, refuses(Code::Draining));
        }
        let before = world.asked().len();
        let error = router.generate(hi()).await.unwrap_err();
        assert_eq!(world.asked()[before..], [3, 2, 1], "{mode}: everyone once, in this order");
        assert_eq!(error.code(), Code::Draining);
        assert!(error.message().contains("after 3 attempts at 3, 2, 1"), "{error}");

        // With everybody left out, one of them is asked all the same, the near one first.
        world.script(3, says(&["back"]));
        let mut response = router.generate(hi()).await.unwrap();
        assert_eq!(response.next().await.unwrap().unwrap(), "back", "{mode}");
        assert!(matches!(response.outcome(), None | Some(Outcome::Complete { .. })));
    }
}

#[tokio::test]
async fn without_anybody_to_ask_the_error_says_which_way() {
    for mode in MODES {
        let world = World::new();
        let router = world.router(mode).await;
        let error = router.generate(hi()).await.unwrap_err();
        assert_eq!(error.code(), Code::NoInstances, "{mode}");
        assert!(error.is_safe_to_resend());

        // Someone is there, and nothing that is spoken here reaches anyone.
        let elsewhere = || vec!["quic://h:1".parse().unwrap()];
        world.add_with(1, says(&[]), |one| one.addresses = elsewhere()).await;
        world.add_with(2, says(&[]), |one| one.addresses = elsewhere()).await;
        let error = router.generate(hi()).await.unwrap_err();
        assert_eq!(error.code(), Code::NoTransport, "{mode}");
        assert!(error.message().contains("after 2 attempts"), "{error}");
        assert!(world.asked().is_empty());
        assert_eq!([1_u64, 2].map(|id| router.in_flight(id)), [0, 0]);
    }
}
