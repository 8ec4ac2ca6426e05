//! What happens when an instance does not serve.

use std::time::Duration;

use futures_util::StreamExt;
use sinew_plane::{Code, Error, Executed, InstanceId};

use super::world::{Script, World, refuses, says};
use crate::{RetryBudgetConfig, RetryConfig, RouterMode};

/// Asks a world whose instance 1 is named first to serve from 2 if it may.
async fn fails_over(script: Script, idempotent: bool) -> Result<Vec<u64>, Error> {
    let world = World::new();
    world.add_with(1, script, |one| one.idempotent = idempotent).await;
    world.add_with(2, says(&["two"]), |one| one.idempotent = idempotent).await;
    let router = world.router(RouterMode::RoundRobin).await;
    // Whoever begins, two requests meet both.
    for _ in 0..2 {
        let (mut response, explanation) = router.generate_explained("hi".to_owned()).await?;
        assert_eq!(response.next().await.unwrap().unwrap(), "two");
        for (id, _) in &explanation.attempts {
            assert_eq!(*id, InstanceId(1));
            let seen = world.seen();
            let last = seen.len() - 1;
            assert_eq!((seen[last - 1].request.attempt, seen[last].request.attempt), (0, 1));
            let [first, second] = [last - 1, last].map(|at| seen[at].request.context.id());
            assert_ne!(first, second, "an attempt has a stream of its own");
        }
    }
    Ok(world.asked())
}

#[tokio::test]
async fn what_cannot_have_run_goes_to_the_next_instance() {
    for script in [
        Script::FailOpen(Code::ConnectFailed),
        Script::FailOpen(Code::ConnectTimedOut),
        Script::FailOpen(Code::WrongPeer),
        Script::FailOpen(Code::Version),
        refuses(Code::Draining),
        refuses(Code::Overloaded),
        refuses(Code::UnknownEndpoint),
    ] {
        let asked = fails_over(script.clone(), false).await.unwrap();
        assert_eq!(asked.iter().filter(|id| **id == 1).count(), 1, "{script:?}: {asked:?}");
        assert_eq!(asked.iter().filter(|id| **id == 2).count(), 2, "{script:?}: {asked:?}");
    }
}

#[tokio::test]
async fn what_may_have_run_is_sent_again_only_to_idempotent_instances() {
    let lost = || refuses(Code::ConnectionLost);
    let error = fails_over(lost(), false).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
    assert!(fails_over(lost(), true).await.unwrap().contains(&1));
    for code in [Code::HandlerFailed, Code::HandlerGone, Code::Truncated, Code::TooLarge] {
        let error = fails_over(refuses(code), true).await.unwrap_err();
        assert_eq!(error.code(), code);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_end() {
    for (instances, attempts) in [(1, 3), (2, 3), (5, 5), (40, 16)] {
        let scripts = vec![refuses(Code::Overloaded); instances];
        let world = World::with(&scripts).await;
        let router = world.router(RouterMode::RoundRobin).await;
        let error = router.generate("hi".to_owned()).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
        assert!(error.message().contains(&format!("after {attempts} attempts")), "{error}");
        let asked = world.asked();
        assert_eq!(asked.len(), attempts);
        let mut distinct = asked.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), attempts.min(instances), "everyone once before anyone twice");
    }
    let world = World::with(&[refuses(Code::Overloaded), says(&[])]).await;
    let router = world.router(RouterMode::RoundRobin).await.with_retry(RetryConfig::none());
    let results = [router.generate("a".to_owned()).await, router.generate("b".to_owned()).await];
    assert_eq!(results.iter().filter(|one| one.is_err()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_round_waits_as_long_as_the_server_asks() {
    let busy = Error::new(Code::Overloaded, "full").with_retry_after(Duration::from_secs(3));
    let world = World::with(&[Script::FailStart(busy)]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let before = tokio::time::Instant::now();
    let recovers = async {
        tokio::time::advance(Duration::from_secs(2)).await;
        world.script(1, says(&["better"]));
    };
    let (response, ()) = tokio::join!(router.generate("hi".to_owned()), recovers);
    assert_eq!(response.unwrap().next().await.unwrap().unwrap(), "better");
    assert_eq!(before.elapsed().as_secs(), 3);

    let busy = Error::new(Code::Overloaded, "full").with_retry_after(Duration::from_secs(900));
    world.script(1, Script::FailStart(busy));
    let error = router.generate("hi".to_owned()).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(900)));
    assert_eq!(before.elapsed().as_secs(), 3, "no_instance waits a quarter of an hour unasked");
}

#[tokio::test]
async fn a_named_instance_has_no_substitute() {
    let world = World::with(&[Script::FailOpen(Code::ConnectFailed), says(&[])]).await;
    let router = world.router(RouterMode::Direct(InstanceId(1))).await;
    let error = router.generate("hi".to_owned()).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectFailed);
    assert!(error.message().contains("instance 1 failed as told"), "{error}");
    assert_eq!(world.asked(), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_instance_is_asked_once_a_second_by_all_together() {
    let dead = Script::FailOpen(Code::ConnectFailed);
    let world = World::with(&[dead, says(&[]), says(&[])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    for _ in 0..30 {
        router.generate("hi".to_owned()).await.unwrap();
    }
    let dead_was_asked = || world.asked().iter().filter(|id| **id == 1).count();
    assert_eq!(dead_was_asked(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    world.script(1, says(&[]));
    for _ in 0..30 {
        router.generate("hi".to_owned()).await.unwrap();
    }
    assert!((10..=12).contains(&dead_was_asked()), "it is back in the rotation");
}

#[tokio::test]
async fn the_budget_ends_resending_before_it_ends_the_service() {
    let world = World::with(&[refuses(Code::Overloaded), refuses(Code::Overloaded)]).await;
    let budget = RetryBudgetConfig { percent: 50, per_second: 0 };
    let retry = RetryConfig { budget, ..RetryConfig::default() };
    let router = world.router(RouterMode::RoundRobin).await.with_retry(retry);
    let mut spent = 0;
    for _ in 0..100 {
        let error = router.generate("hi".to_owned()).await.unwrap_err();
        assert_eq!(error.code(), Code::Overloaded);
        spent += usize::from(error.message().contains("the retry budget is spent"));
    }
    assert_eq!(world.asked().len(), 150, "100 requests and half as many resends");
    assert!(spent >= 50, "{spent}");
}

#[tokio::test]
async fn a_replaced_worker_costs_no_error() {
    let world = World::with(&[refuses(Code::Draining)]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let replaced = async {
        tokio::task::yield_now().await;
        world.add(2, says(&["new"])).await;
        world.remove(1).await;
    };
    let (response, ()) = tokio::join!(router.generate("hi".to_owned()), replaced);
    assert_eq!(response.unwrap().next().await.unwrap().unwrap(), "new");
}
