//! Which answers of a worker end the reading of a response that another process has asked for.

use std::time::Duration;

use futures_util::StreamExt;
use sinew_plane::{CancelReason, Code, Context, Error, Outcome, ProcessId, ResumeToken, StreamId};
use tokio::time::Instant;

use super::world::{Script, World, refuses, says};
use crate::{PushRouter, RetryConfig, RouterMode};

const TOKEN: ResumeToken = ResumeToken {
    stream: StreamId(1),
    secret: 2,
    caller: ProcessId(3),
    worker: ProcessId(4),
    next_item: 5,
};

/// A worker that answers readers of retained responses with one script after the other.
async fn world(scripts: impl IntoIterator<Item = Script>) -> (World, PushRouter<String, String>) {
    let (world, mut scripts) = (World::new(), scripts.into_iter());
    let first = scripts.next().unwrap();
    world.add_with(1, first, |one| one.process = Some(TOKEN.worker)).await;
    world.then(1, scripts);
    let router = world.router(RouterMode::RoundRobin).await;
    (world, router)
}

async fn resume(router: &PushRouter<String, String>) -> Result<(Vec<String>, Outcome), Error> {
    let mut response = router.resume(&TOKEN, Context::new()).await?;
    let mut items = Vec::new();
    while let Some(item) = response.next().await {
        items.push(item?);
    }
    Ok((items, response.outcome().unwrap().clone()))
}

/// The end of a stream that is taken over counts its items from the beginning.
fn rest(text: &str) -> Script {
    Script::Cut(super::world::texts(&[text]), CancelReason::Caller)
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_or_is_full_still_gives_what_waits_for_its_caller() {
    for code in [Code::Draining, Code::Overloaded, Code::ResumeExpired, Code::UnknownEndpoint] {
        let (world, router) = world([refuses(code)]).await;
        world.gives([rest("five")]);
        let mut response = router.resume(&TOKEN, Context::new()).await.unwrap();
        assert_eq!(response.next().await.unwrap().unwrap(), "five", "{code}");
        assert_eq!(world.asked(), [1]);
        assert_eq!(world.taken_over(), [5]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_full_is_asked_again_within_the_rules() {
    let full = || refuses(Code::Overloaded);
    let (world, router) = world([full(), full(), says(&["five", "six"])]).await;
    let began = Instant::now();
    let (items, outcome) = resume(&router).await.unwrap();
    assert_eq!(items, ["five", "six"]);
    assert!(matches!(outcome, Outcome::Complete { items: 7 }), "{outcome:?}");
    assert_eq!((world.asked(), world.taken_over()), (vec![1; 3], vec![5; 2]));
    assert!(began.elapsed() > Duration::ZERO, "there is a pause in between");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stays_full_or_asks_for_too_long_a_wait_is_what_the_error_says() {
    let (stays, router) = world([refuses(Code::Overloaded)]).await;
    assert_eq!(resume(&router).await.unwrap_err().code(), Code::Overloaded);
    assert_eq!(stays.asked(), [1; 3], "three attempts, as for a request");
    let (once, router) = world([refuses(Code::Overloaded)]).await;
    let router = router.with_retry(RetryConfig::none());
    assert_eq!(resume(&router).await.unwrap_err().code(), Code::Overloaded);
    assert_eq!(once.asked(), [1]);
    let wait = Duration::from_secs(3_600);
    let error = Error::new(Code::Overloaded, "as told").with_retry_after(wait);
    let (asks, router) = world([Script::FailStart(error)]).await;
    assert_eq!(resume(&router).await.unwrap_err().retry_after(), Some(wait));
    assert_eq!(asks.asked(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_and_has_nothing_that_waits_is_asked_once() {
    let (world, router) = world([refuses(Code::Draining)]).await;
    assert_eq!(resume(&router).await.unwrap_err().code(), Code::Draining);
    assert_eq!((world.asked(), world.taken_over()), (vec![1], vec![5]));
}

#[tokio::test(start_paused = true)]
async fn the_error_is_that_of_who_knows_which_items_there_are() {
    let expired = |oldest| Script::FailStart(Error::resume_expired(oldest, 9, "as told"));
    for refused in
        [refuses(Code::Draining), refuses(Code::Overloaded), refuses(Code::ResumeExpired)]
    {
        let (world, router) = world([refused]).await;
        world.gives([expired(7)]);
        assert_eq!(resume(&router).await.unwrap_err().resume_window(), Some((7, 9)));
    }
    let (_world, router) = world([expired(8)]).await;
    assert_eq!(resume(&router).await.unwrap_err().resume_window(), Some((8, 9)));
}

#[tokio::test(start_paused = true)]
async fn any_other_error_is_the_end_of_it() {
    for code in [Code::AcceptTimedOut, Code::InvalidPayload, Code::ConnectionLost] {
        let (world, router) = world([refuses(code)]).await;
        assert_eq!(resume(&router).await.unwrap_err().code(), code);
        assert_eq!((world.asked(), world.taken_over()), (vec![1], vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_a_cancel_end_the_wait_for_room() {
    let wait = Duration::from_secs(4);
    let full = || Script::FailStart(Error::new(Code::Overloaded, "as told").with_retry_after(wait));
    let (_full, router) = world([full()]).await;
    let context = Context::builder().timeout(Duration::from_secs(1)).build();
    let began = Instant::now();
    let error = router.resume(&TOKEN, context).await.unwrap_err();
    assert_eq!((error.code(), began.elapsed().as_secs()), (Code::DeadlineExceeded, 1));
    let context = Context::new();
    let resuming = router.resume(&TOKEN, context.clone());
    let (resumed, ()) = tokio::join!(resuming, async {
        tokio::task::yield_now().await;
        context.kill();
    });
    assert_eq!(resumed.unwrap_err().code(), Code::Cancelled);
    assert_eq!(began.elapsed().as_secs(), 1, "at once");
}

#[tokio::test(start_paused = true)]
async fn an_item_beyond_all_numbers_is_refused_unasked() {
    let (world, router) = world([says(&["x"])]).await;
    for item in [ResumeToken::MAX_ITEM + 1, u64::MAX] {
        let error = router.resume(&TOKEN.at(item), Context::new()).await.unwrap_err();
        assert_eq!(error.code(), Code::ResumeExpired);
        assert!(error.message().contains(&item.to_string()), "{error}");
    }
    assert!(world.asked().is_empty() && world.taken_over().is_empty());
    let last = TOKEN.at(ResumeToken::MAX_ITEM);
    let mut response = router.resume(&last, Context::new()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "x");
    assert!(response.next().await.is_none());
}
