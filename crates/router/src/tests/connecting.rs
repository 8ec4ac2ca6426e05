//! Instances that do not answer while they are connected to.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt;
use sinew_plane::{Code, Context, Executed, InstanceId, SingleIn};
use tokio::time::{Instant, timeout};

use super::world::{Script, World, says};
use crate::{AttemptReport, RetryConfig, RetryPolicy, RouterMode, Verdict};

const SLOW: Duration = Duration::from_millis(250);

#[tokio::test(start_paused = true)]
async fn a_stopped_instance_costs_a_quarter_of_a_second_and_the_request_is_sent_once() {
    let world = World::with(&[Script::NeverConnect, says(&["hi"]), Script::NeverConnect]).await;
    let mut waits = Vec::new();
    for _ in 0..40 {
        let router = world.router(RouterMode::RoundRobin).await;
        let begun = Instant::now();
        let (mut response, why) = router.generate_explained("x".to_owned()).await.unwrap();
        waits.push(begun.elapsed());
        assert_eq!(response.next().await.unwrap().unwrap(), "hi");
        assert_eq!(why.instance, InstanceId(2));
        let slow: Vec<_> = why.attempts.iter().map(|(_, error)| error.code()).collect();
        assert_eq!(slow.len(), (waits.last().unwrap().as_millis() / 250) as usize, "{slow:?}");
        assert!(slow.iter().all(|code| *code == Code::ConnectTimedOut));
    }
    assert_eq!(world.asked(), [2; 40], "nothing was sent elsewhere, nothing twice");
    assert!(waits.contains(&SLOW) && *waits.iter().max().unwrap() <= 2 * SLOW, "{waits:?}");
}

/// An instance that was slow has had no request, so it uses up no attempt.
#[tokio::test(start_paused = true)]
async fn those_that_were_passed_by_do_not_count_as_attempts() {
    let lost = || Script::FailStart(sinew_plane::Error::new(Code::ConnectionLost, "as told"));
    for _ in 0..20 {
        let world = World::new();
        for id in [1, 2] {
            world.add(id, Script::NeverConnect).await;
        }
        for (id, script) in [(3, lost()), (4, lost()), (5, says(&["hi"]))] {
            world.add_with(id, script, |one| one.idempotent = true).await;
        }
        let router = world.router(RouterMode::RoundRobin).await;
        router.generate("x".to_owned()).await.unwrap();
        assert!(world.asked().len() <= 3, "{:?}", world.asked());
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_requests_of_a_router_do_not_wait_for_it_again() {
    let world = World::with(&[Script::NeverConnect, says(&["hi"])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    for _ in 0..2 {
        router.generate("x".to_owned()).await.unwrap();
    }
    let begun = Instant::now();
    for _ in 0..20 {
        router.generate("x".to_owned()).await.unwrap();
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(router.in_flight(InstanceId(1)), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_slow_and_alone_is_waited_for() {
    let world = World::with(&[Script::Connect(3_000)]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let begun = Instant::now();
    router.generate("x".to_owned()).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(3));

    // With others that are dead, too.
    let world = World::with(&[Script::Connect(3_000), Script::FailConnect(100)]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    router.generate("x".to_owned()).await.unwrap();
    assert_eq!(world.asked(), [1]);
}

#[tokio::test(start_paused = true)]
async fn the_one_that_answers_first_gets_it() {
    let world = World::with(&[Script::Connect(2_000), Script::Connect(400)]).await;
    let begun = Instant::now();
    world.router(RouterMode::RoundRobin).await.generate("x".to_owned()).await.unwrap();
    let waited = begun.elapsed();
    assert!([400, 650].contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(world.asked(), [2]);
}

#[tokio::test(start_paused = true)]
async fn when_none_answers_the_deadline_says_that_nothing_ran() {
    let world = World::with(&[Script::NeverConnect, Script::NeverConnect]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let context = Context::builder().timeout(Duration::from_secs(2)).build();
    let error = router.generate(SingleIn::with_context("x".to_owned(), context)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::No));

    let context = Context::new();
    let request = SingleIn::with_context("x".to_owned(), context.clone());
    let (ended, ()) = tokio::join!(router.generate(request), async {
        // tidy-allow: sleep, of paused time: the moment of the stop is what is tested
        tokio::time::sleep(SLOW / 2).await;
        context.stop();
    });
    let error = ended.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::No));
    assert!(world.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_request_fails_with_what_was_tried() {
    let scripts = [Script::FailConnect(900), Script::FailConnect(900), Script::FailConnect(900)];
    let world = World::with(&scripts).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let error = router.generate("x".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));
    assert!(error.message().contains("after 3 attempts"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_named_instance_and_a_request_that_goes_once_wait_for_their_own() {
    let world = World::with(&[Script::NeverConnect, says(&["hi"])]).await;
    let direct = world.router(RouterMode::Direct(InstanceId(1))).await;
    let long = Duration::from_secs(60);
    timeout(long, direct.generate("x".to_owned())).await.unwrap_err();

    let world = World::with(&[Script::Connect(1_000), Script::Connect(1_000)]).await;
    let once = world.router(RouterMode::RoundRobin).await.with_retry(RetryConfig::none());
    let begun = Instant::now();
    once.generate("x".to_owned()).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}

/// What follows a connection that takes too long.
struct AfterSlow(Verdict);

impl RetryPolicy for AfterSlow {
    fn classify(&self, report: &AttemptReport<'_>) -> Verdict {
        assert_eq!(report.error.code(), Code::ConnectTimedOut);
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_policy_says_whether_another_is_connected_to_beside_a_slow_one() {
    for (verdict, rules, longest) in [
        (Verdict::GiveUp, RetryConfig::default(), 1_000),
        (Verdict::Again(Duration::ZERO), RetryConfig::none(), 750),
    ] {
        let mut waits = BTreeSet::new();
        // The rotation of each router begins with one of the two, by lot.
        for _ in 0..40 {
            let world = World::with(&[Script::Connect(1_000), Script::Connect(500)]).await;
            let one = world.router(RouterMode::RoundRobin).await.with_retry(rules.clone());
            let router = one.with_retry_policy(AfterSlow(verdict));
            let begun = Instant::now();
            drop(router.generate("x".to_owned()).await.unwrap());
            waits.insert(begun.elapsed().as_millis());
        }
        assert_eq!(waits, BTreeSet::from([500, longest]), "{verdict:?}");
    }
}
