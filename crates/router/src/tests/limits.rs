//! Deadlines and cancels, also against peers that have fallen silent.

use std::time::Duration;

use futures_util::StreamExt;
use sinew_plane::{CancelReason, Code, Context, Executed, Outcome, SingleIn};

use super::world::{Script, World, refuses, says};
use crate::RouterMode;

const TIMEOUT: Duration = Duration::from_millis(300);

fn limited() -> (SingleIn<String>, Context) {
    let context = Context::builder().timeout(TIMEOUT).build();
    (SingleIn::with_context("hi".to_owned(), context.clone()), context)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_for_a_silent_peer() {
    let world = World::with(&[Script::NeverStart]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let (request, context) = limited();
    let error = router.generate(request).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::Maybe));
    assert!(tokio::time::Instant::now().into_std() >= context.deadline().unwrap());
    assert_eq!(context.reason(), Some(CancelReason::DeadlineExceeded));
    assert_eq!((world.asked().len(), world.abandoned()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_stream_that_has_fallen_silent() {
    let world = World::with(&[Script::StartThenSilence]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let (request, context) = limited();
    let mut response = router.generate(request).await.unwrap();
    let error = response.next().await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::Yes));
    assert!(response.next().await.is_none());
    let expected = CancelReason::DeadlineExceeded;
    assert!(
        matches!(response.outcome(), Some(Outcome::Cancelled { reason }) if *reason == expected)
    );
    assert!(context.is_killed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_deadline() {
    let world = World::with(&[refuses(Code::Overloaded)]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let late = Context::builder().timeout(Duration::ZERO).build();
    let error = router.generate(SingleIn::with_context("hi".to_owned(), late)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No));
    assert!(world.asked().is_empty());

    // A backoff is cut by the deadline, and no attempt follows it.
    let busy = sinew_plane::Error::new(Code::Overloaded, "full");
    world.script(1, Script::FailStart(busy.with_retry_after(Duration::from_secs(4))));
    let (request, _) = limited();
    let error = router.generate(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(world.asked().len(), 1);
}

#[tokio::test]
async fn a_cancelled_request_is_not_sent() {
    let world = World::with(&[says(&[])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let context = Context::new();
    context.stop();
    let error =
        router.generate(SingleIn::with_context("hi".to_owned(), context)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
    assert!(world.asked().is_empty());
}

#[tokio::test]
async fn a_kill_ends_the_wait_for_the_handler() {
    let world = World::with(&[Script::NeverStart]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let context = Context::new();
    let request = SingleIn::with_context("hi".to_owned(), context.clone());
    let kill = async {
        tokio::task::yield_now().await;
        context.kill();
    };
    let (result, ()) = tokio::join!(router.generate(request), kill);
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::Maybe));
    assert_eq!((world.asked().len(), world.abandoned()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_between_rounds() {
    let busy = sinew_plane::Error::new(Code::Overloaded, "full");
    let busy = Script::FailStart(busy.with_retry_after(Duration::from_secs(4)));
    let world = World::with(&[busy]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let context = Context::new();
    let request = SingleIn::with_context("hi".to_owned(), context.clone());
    let stop = async {
        tokio::time::advance(Duration::from_secs(1)).await;
        context.stop();
    };
    let before = tokio::time::Instant::now();
    let (result, ()) = tokio::join!(router.generate(request), stop);
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
    assert_eq!((world.asked().len(), before.elapsed().as_secs()), (1, 1));
}

#[tokio::test]
async fn a_cancel_reaches_the_stream_of_a_later_attempt() {
    let world = World::with(&[refuses(Code::Draining)]).await;
    world.add(2, Script::StartThenSilence).await;
    let router = world.router(RouterMode::RoundRobin).await;
    loop {
        let (response, explanation) = router.generate_explained("hi".to_owned()).await.unwrap();
        let carried = world.seen().pop().unwrap().request.context;
        assert!(!carried.is_stopped());
        response.context().stop();
        assert!(carried.is_stopped() && !carried.is_killed());
        if !explanation.attempts.is_empty() {
            assert_ne!(carried.id(), response.context().id());
            break;
        }
    }
}
