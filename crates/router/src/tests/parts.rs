//! A router with parts of the user's own.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use sinew_discovery::Instance;
use sinew_plane::{
    AppCode, Code, Context, Error, Executed, Headers, InstanceId, SingleIn, TransportRequirements,
    header,
};

use super::world::{Script, World, refuses, says};
use crate::{
    AttemptOutcome, AttemptReport, Candidate, LeastLoaded, LoadBalancer, OutgoingAttempt,
    OutlierPolicy, PowerOfTwoChoices, PushRouter, RetryConfig, RetryPolicy, RouterMemory,
    RouterMode, SelectionCriteria, Verdict, Why,
};

/// The instance that a header names, and what became of it.
#[derive(Clone, Default)]
struct ByHeader(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    weights: HashMap<InstanceId, f64>,
    unhealthy: Vec<InstanceId>,
}

impl LoadBalancer for ByHeader {
    fn select_node(&self, criteria: &SelectionCriteria<'_>) -> Option<InstanceId> {
        assert_eq!(criteria.endpoint().unwrap().as_str(), "a/b/c");
        criteria.headers().get("at")?.parse().ok().map(InstanceId)
    }

    fn update_weights(&self, weights: HashMap<InstanceId, f64>) {
        self.0.lock().weights = weights;
    }

    fn remove_unhealthy_node(&self, id: InstanceId) {
        self.0.lock().unhealthy.push(id);
    }

    fn name(&self) -> &'static str {
        "by header"
    }
}

fn at(id: &str) -> SingleIn<String> {
    let mut headers = Headers::new();
    headers.insert("at", id).unwrap();
    SingleIn::with_context("hi".to_owned(), Context::builder().headers(headers).build())
}

#[tokio::test]
async fn a_strategy_chooses_by_what_the_request_says() {
    let world = World::with(&[says(&["1"]), says(&["2"]), refuses(Code::Draining)]).await;
    let strategy = ByHeader::default();
    let router = world.router(RouterMode::RoundRobin).await.with_load_balancer(strategy.clone());
    for id in ["2", "2", "1", "2"] {
        let (mut response, explanation) = router.generate_explained(at(id)).await.unwrap();
        assert_eq!(response.next().await.unwrap().unwrap(), id);
        assert_eq!(explanation.why, Why::Strategy("by header"));
    }
    // What a call names goes before.
    drop(router.direct(at("2"), InstanceId(1)).await.unwrap());
    assert_eq!(world.asked(), [2, 2, 1, 2, 1]);

    let error = router.generate("nowhere".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::NoInstances, Executed::No));
    assert!(error.message().starts_with("by header chose no instance of a/b/c"), "{error}");

    let by_turn = router.clone().with_mode(RouterMode::RoundRobin);
    let (_response, explanation) = by_turn.generate_explained(at("1")).await.unwrap();
    assert_eq!(explanation.why, Why::Turn, "the last that was said counts");

    let weights = HashMap::from([(InstanceId(1), 0.5)]);
    router.update_weights(weights.clone());
    assert_eq!(strategy.0.lock().weights, weights);
}

#[tokio::test]
async fn an_interceptor_changes_the_headers_of_each_attempt() {
    let world = World::with(&[refuses(Code::Draining), says(&["2"])]).await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&attempts);
    let audience = move |attempt: &OutgoingAttempt<'_>, headers: &mut Headers| {
        noted.lock().push((attempt.instance.id.0, attempt.number));
        assert_eq!(headers.get(header::CONTENT_TYPE), Some(attempt.format.content_type()));
        assert_eq!(attempt.context.headers().get("at"), Some("x"));
        headers.insert("audience", &attempt.instance.id.to_string()).unwrap();
        Ok(())
    };
    let second = |_: &OutgoingAttempt<'_>, headers: &mut Headers| {
        let audience = headers.get("audience").unwrap().to_owned();
        headers.insert("seen", &audience).unwrap();
        Ok(())
    };
    let router = world.router(RouterMode::RoundRobin).await;
    let intercepted = router.clone().with_interceptor(audience).with_interceptor(second);
    // In rotation, so that one of the two begins at the instance that refuses.
    for _ in 0..2 {
        let mut response = intercepted.generate(at("x")).await.unwrap();
        assert_eq!(response.next().await.unwrap().unwrap(), "2");
    }
    let expected = attempts.lock().clone();
    assert!(expected.windows(2).any(|pair| pair == [(1, 0), (2, 1)]), "{expected:?}");
    let sent: Vec<_> = world.seen().into_iter().map(|seen| seen.request).collect();
    assert_eq!(sent.len(), expected.len());
    for (request, (id, number)) in sent.iter().zip(&expected) {
        assert_eq!(u64::from(request.attempt), *number as u64);
        for name in ["audience", "seen"] {
            assert_eq!(request.headers.get(name), Some(id.to_string().as_str()));
        }
    }

    // The router that it was made from has none, and one that fails sends nothing.
    drop(router.direct(at("x"), InstanceId(2)).await.unwrap());
    assert_eq!(world.seen().last().unwrap().request.headers.get("audience"), None);
    let before = world.asked().len();
    let refuses = |_: &OutgoingAttempt<'_>, _: &mut Headers| {
        Err(Error::application(AppCode::UNAUTHENTICATED, "no key"))
    };
    let error = router.with_interceptor(refuses).generate(at("x")).await.unwrap_err();
    let expected = (Some(AppCode::UNAUTHENTICATED), Executed::No);
    assert_eq!((error.app_code(), error.executed()), expected);
    assert_eq!(world.asked().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_strategy_hears_of_an_instance_that_is_left_out() {
    let world = World::with(&[says(&["1"]), refuses(Code::Draining)]).await;
    let strategy = ByHeader::default();
    let router = world.router(RouterMode::RoundRobin).await.with_load_balancer(strategy.clone());
    let error = router.generate(at("2")).await.unwrap_err();
    assert_eq!(error.code(), Code::Draining);
    let unhealthy = strategy.0.lock().unhealthy.clone();
    assert!(!unhealthy.is_empty() && unhealthy.iter().all(|id| id.0 == 2), "{unhealthy:?}");
    assert!(world.asked().iter().all(|id| *id == 2), "{:?}", world.asked());
}

#[tokio::test]
async fn weights_that_are_set_replace_those_of_discovery_until_they_are_taken_back() {
    let world = World::with(&[says(&["1"]), says(&["2"])]).await;
    for mode in [RouterMode::RoundRobin, RouterMode::Random] {
        let router = world.router(mode).await;
        let share = async || {
            let before = world.asked().len();
            for _ in 0..400 {
                drop(router.generate("hi".to_owned()).await.unwrap());
            }
            world.asked()[before..].iter().filter(|id| **id == 1).count()
        };
        assert!(share().await.abs_diff(200) < 50, "{mode}");
        router.update_weights(HashMap::from([(InstanceId(1), 0.9), (InstanceId(2), 0.1)]));
        assert!(share().await.abs_diff(360) < 25, "{mode}");
        router.update_weights(HashMap::new());
        assert!(share().await.abs_diff(200) < 50, "{mode}");
    }
}

#[tokio::test]
async fn a_load_of_the_users_own_decides_and_stands_in_the_explanation() {
    let world = World::with(&[says(&["1"]), says(&["2"])]).await;
    let queue = |one: &Candidate<'_>| if one.instance.id.0 == 1 { 7.5 } else { 0.5 };
    let two = world.router(RouterMode::RoundRobin).await;
    let two = two.with_load_balancer(PowerOfTwoChoices::by(queue));
    let least = world.router(RouterMode::RoundRobin).await;
    let least = least.with_load_balancer(LeastLoaded::by(queue));
    for router in [two, least] {
        let (_response, explanation) = router.generate_explained("hi".to_owned()).await.unwrap();
        let why = explanation.why.to_string();
        assert!(why.ends_with("2 with a load of 0.5 against 1 with a load of 7.5"), "{why}");
    }
}

/// Sends everything again that failed, a second later, up to a number of attempts.
struct Stubborn(usize);

impl RetryPolicy for Stubborn {
    fn classify(&self, report: &AttemptReport<'_>) -> Verdict {
        if report.attempts < self.0 {
            return Verdict::Again(Duration::from_secs(1));
        }
        Verdict::GiveUp
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_policy_decides_what_is_sent_again_and_when() {
    let world = World::with(&[]).await;
    world.add_with(1, refuses(Code::HandlerFailed), |one| one.idempotent = true).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let stubborn = router.with_retry_policy(Stubborn(4));
    let start = tokio::time::Instant::now();
    let error = stubborn.generate("hi".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), world.asked().len()), (Code::HandlerFailed, 4));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_policy_runs_a_handler_twice_that_is_not_idempotent_nor_tries_for_ever() {
    let world = World::with(&[refuses(Code::HandlerFailed)]).await;
    let router = world.router(RouterMode::RoundRobin).await.with_retry_policy(Stubborn(4));
    let error = router.generate("hi".to_owned()).await.unwrap_err();
    assert_eq!((error.code(), world.asked().len()), (Code::HandlerFailed, 1));
    assert!(error.message().contains("not idempotent"), "{error}");

    let world = World::with(&[refuses(Code::Draining)]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let router = router.with_retry_policy(Stubborn(usize::MAX));
    router.generate("hi".to_owned()).await.unwrap_err();
    assert_eq!(world.asked().len(), 64);
}

/// Leaves out who has failed twice.
#[derive(Default)]
struct Twice(Mutex<HashMap<InstanceId, usize>>);

impl OutlierPolicy for Twice {
    fn is_ejected(&self, instance: &Instance, _: Instant) -> bool {
        self.0.lock().get(&instance.id).is_some_and(|failures| *failures >= 2)
    }

    fn record(&self, instance: &Instance, outcome: AttemptOutcome<'_>, _: Instant) {
        match outcome {
            AttemptOutcome::Failed(_) => *self.0.lock().entry(instance.id).or_default() += 1,
            _ => drop(self.0.lock().remove(&instance.id)),
        }
    }
}

#[tokio::test]
async fn an_outlier_policy_decides_who_is_left_out() {
    let world = World::with(&[refuses(Code::Draining), says(&["2"])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let router = router.with_outlier_policy(Twice::default());
    for _ in 0..12 {
        drop(router.generate("hi".to_owned()).await.unwrap());
    }
    let first = world.asked().iter().filter(|id| **id == 1).count();
    assert_eq!((first, world.asked().len()), (2, 14));
}

#[tokio::test]
async fn an_outlier_policy_hears_nothing_of_what_is_the_callers_own() {
    for code in [Code::InvalidPayload, Code::TooLarge] {
        let world = World::with(&[refuses(code)]).await;
        let heard = Arc::new(Twice::default());
        let router = world.router(RouterMode::RoundRobin).await;
        let router = router.with_outlier_policy(Arc::clone(&heard));
        for _ in 0..3 {
            assert_eq!(router.generate("hi".to_owned()).await.unwrap_err().code(), code);
        }
        assert!(heard.0.lock().is_empty(), "{code}");
    }
    let world = World::with(&[Script::StartThenSilence]).await;
    let heard = Arc::new(Twice::default());
    let router = world.router(RouterMode::RoundRobin).await;
    let router = router.with_outlier_policy(Arc::clone(&heard));
    let context = Context::new();
    context.kill();
    let request = SingleIn::with_context("hi".to_owned(), context);
    assert_eq!(router.generate(request).await.unwrap_err().code(), Code::Cancelled);
    assert!(heard.0.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_the_users_own_stays_when_the_retry_rules_change() {
    let world = World::with(&[refuses(Code::Draining), says(&["2"])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let router = router.with_outlier_policy(Twice::default()).with_retry(RetryConfig::default());
    for _ in 0..12 {
        drop(router.generate("hi".to_owned()).await.unwrap());
    }
    let first = world.asked().iter().filter(|id| **id == 1).count();
    assert_eq!(first, 2, "the rules themselves leave it out after one failure");

    let world = World::with(&[]).await;
    world.add_with(1, refuses(Code::HandlerFailed), |one| one.idempotent = true).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let router = router.with_retry_policy(Stubborn(4)).with_retry(RetryConfig::none());
    router.generate("hi".to_owned()).await.unwrap_err();
    assert_eq!(world.asked().len(), 4);
}

#[tokio::test]
async fn an_interceptor_that_fails_says_nothing_of_the_instance() {
    let world = World::with(&[says(&["1"])]).await;
    let heard = Arc::new(Twice::default());
    let router = world.router(RouterMode::RoundRobin).await;
    let router = router.with_outlier_policy(Arc::clone(&heard)).with_retry(RetryConfig::none());
    let busy = router.clone().with_interceptor(|_: &OutgoingAttempt<'_>, _: &mut Headers| {
        Err(Error::new(Code::Overloaded, "the source of tokens is busy"))
    });
    assert_eq!(busy.generate("hi".to_owned()).await.unwrap_err().code(), Code::Overloaded);
    assert!(heard.0.lock().is_empty() && world.asked().is_empty());
    drop(router.generate("hi".to_owned()).await.unwrap());
}

#[tokio::test]
async fn a_router_that_requires_more_leaves_the_instances_of_others_alone() {
    let world = World::with(&[says(&["1"])]).await;
    let memory = RouterMemory::new();
    let client = world.router(RouterMode::RoundRobin).await.client().clone();
    let router = PushRouter::<String, String>::with_memory(client, RouterMode::RoundRobin, &memory);
    let encrypted = TransportRequirements { encrypted: true, ..TransportRequirements::default() };
    let strict = router.clone().with_requirements(encrypted);
    assert_eq!(strict.generate("hi".to_owned()).await.unwrap_err().code(), Code::NoTransport);
    let instance = &router.client().instances()[0];
    assert!(!router.shared().state.is_ejected(instance, Instant::now()));
    drop(router);
    assert!(memory.is_shared(), "a router with rules of its own has its counts");
    drop(strict);
    assert!(!memory.is_shared());
}
