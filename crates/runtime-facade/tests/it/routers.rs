//! Routers: what they share, what they pass on, and settings that contradict each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use sinew::{
    AppCode, AsyncEngine, AttemptOutcome, AttemptReport, Code, Context, Endpoint, EngineLayer,
    Error, Executed, HandlerResult, Instance, InstanceId, LeastLoaded, OutlierPolicy, RetryConfig,
    RetryPolicy, RouterMode, SingleIn, Verdict, engine_fn, handler_layer_fn, layer_fn,
};

use crate::support::World;

const NAME: Endpoint<String, String> = Endpoint::new("text/names/own");

/// What the request shows of itself.
async fn shown(text: String, context: Context) -> HandlerResult<String> {
    let shown = |name| context.headers().get(name).unwrap_or("none").to_owned();
    Ok(format!("{text} {} {}", shown("authorization"), shown("tenant")))
}

#[tokio::test]
async fn a_served_router_passes_on_headers_and_credentials_only_if_it_is_told_to() {
    let world = World::new().await;
    let inner = Endpoint::<String, String>::new("text/names/inner");
    let _inner = world.worker.serve(&inner, shown).await.unwrap();
    for (forward, expected) in [(false, "hi none red"), (true, "hi token red")] {
        let name = format!("text/names/outer-{forward}").parse().unwrap();
        let outer = Endpoint::<String, String>::named(&name);
        let onward = world.router(&inner).await.forward_credentials(forward);
        let _outer = world.worker.serve(&outer, onward.clone()).await.unwrap();
        let router = world.router(&outer).await;
        let call = router.call("hi").header("authorization", "token").header("tenant", "red");
        assert_eq!(call.unary().await.unwrap(), expected);
        // Within the process that serves it, too.
        let here = world.worker.router(&outer);
        let call = here.call("hi").header("authorization", "token").header("tenant", "red");
        assert_eq!(call.unary().await.unwrap(), expected);
        // The router is the caller's own here.
        let call = onward.call("hi").header("authorization", "token").header("tenant", "red");
        assert_eq!(call.unary().await.unwrap(), "hi token red");
    }
    world.end().await;
}

#[tokio::test]
async fn a_served_router_shows_a_token_of_its_own() {
    let world = World::new().await;
    let inner = Endpoint::<String, String>::new("text/names/inner-own");
    let _inner = world.worker.serve(&inner, shown).await.unwrap();
    let outer = Endpoint::<String, String>::new("text/names/outer-own");
    let with_token = layer_fn(|inner: Arc<dyn AsyncEngine<String, String>>| {
        engine_fn(move |request: SingleIn<String>| {
            let inner = Arc::clone(&inner);
            let request = request.with_header("authorization", "of-the-service");
            async move { inner.generate(request.map_err(|e| Error::handler(e.to_string()))?).await }
        })
    });
    let onward = world.router(&inner).await.layer(with_token);
    let _outer = world.worker.serve(&outer, onward).await.unwrap();
    let router = world.router(&outer).await;
    for token in ["of-the-caller", "another"] {
        let call = router.call("hi").header("authorization", token);
        assert_eq!(call.unary().await.unwrap(), "hi of-the-service none");
    }
    world.end().await;
}

/// Counts how often it is put around an engine, and the requests that pass.
fn counted(
    made: &Arc<AtomicUsize>,
    passed: &Arc<AtomicUsize>,
) -> impl EngineLayer<String, String> + use<> {
    let (made, passed) = (Arc::clone(made), Arc::clone(passed));
    layer_fn(move |inner: Arc<dyn AsyncEngine<String, String>>| {
        made.fetch_add(1, Ordering::Relaxed);
        let passed = Arc::clone(&passed);
        engine_fn(move |request: SingleIn<String>| {
            passed.fetch_add(1, Ordering::Relaxed);
            let inner = Arc::clone(&inner);
            async move { inner.generate(request).await }
        })
    })
}

#[tokio::test]
async fn layers_are_made_once_and_calls_to_one_instance_pass_them_too() {
    let world = World::new().await;
    let named =
        |name: &'static str| move |_: String| async move { Ok::<_, Error>(name.to_owned()) };
    let _one = world.worker.serve(&NAME, named("one")).instance(InstanceId(1)).await.unwrap();
    let _two = world.worker.serve(&NAME, named("two")).instance(InstanceId(2)).await.unwrap();
    let (made, passed) = (Arc::default(), Arc::default());
    let router = world.router(&NAME).await.layer(counted(&made, &passed));
    let router = router.mode(RouterMode::Random).prefer_local(false);
    for number in 1..=10_u64 {
        let id = InstanceId(1 + number % 2);
        let call = router.clone();
        let answer = call.call("hi").instance(id).unary().await.unwrap();
        assert_eq!(answer, if id.0 == 1 { "one" } else { "two" });
        router.call("hi").unary().await.unwrap();
    }
    assert_eq!((made.load(Ordering::Relaxed), passed.load(Ordering::Relaxed)), (1, 20));
    world.end().await;
}

#[tokio::test]
async fn a_handler_does_not_see_at_which_instance_a_call_was_and_a_request_does_not_say_it() {
    let world = World::new().await;
    let names = |_: String, context: Context| async move {
        let names: Vec<_> = context.headers().iter().map(|(name, _)| name.to_owned()).collect();
        Ok::<_, Error>(names.join(","))
    };
    let inner = Endpoint::<String, String>::new("text/names/inner");
    let _one = world.worker.serve(&inner, names).instance(InstanceId(1)).await.unwrap();
    let (made, passed) = (Arc::default(), Arc::default());
    let router = world.router(&inner).await.layer(counted(&made, &passed));
    let call = router.call("hi").instance(InstanceId(1));
    assert!(!call.unary().await.unwrap().contains("sinew-call-at"));
    // A request that is passed on goes where the router chooses.
    let _outer = world.worker.serve(&NAME, router).await.unwrap();
    let call = world.router(&NAME).await;
    let names = call.call("hi").header("sinew-call-at", "9").unary().await.unwrap();
    assert!(!names.contains("sinew-call-at"), "{names}");
    world.end().await;
}

#[tokio::test]
async fn a_function_that_is_served_takes_engine_layers() {
    let world = World::new().await;
    let (made, passed) = (Arc::default(), Arc::default());
    let layer = counted(&made, &passed);
    let words = |text: String| async move { Ok::<_, Error>(stream::iter([Ok::<_, Error>(text)])) };
    let _served = world.worker.serve(&NAME, words).weight(2).layer(layer).weight(3).await.unwrap();
    for router in [world.router(&NAME).await, world.worker.router(&NAME)] {
        assert_eq!(router.call("hi").unary().await.unwrap(), "hi");
    }
    assert_eq!((made.load(Ordering::Relaxed), passed.load(Ordering::Relaxed)), (1, 2));
    let refuses = layer_fn(|_| {
        engine_fn(|_: SingleIn<String>| async {
            let error = Error::application(AppCode::UNAUTHENTICATED, "who is there?");
            Err::<sinew::ManyOut<String>, _>(error)
        })
    });
    let other = Endpoint::<String, String>::new("text/names/other");
    let _other = world.worker.serve(&other, words).layer(refuses).await.unwrap();
    let error = world.router(&other).await.call("hi").unary().await.unwrap_err();
    assert_eq!(error.app_code(), Some(AppCode::UNAUTHENTICATED));
    world.end().await;
}

#[tokio::test]
async fn routers_of_one_endpoint_remember_the_same_instances() {
    let world = World::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&asked);
    let drains = handler_layer_fn(move |request, sink, _| {
        counts.fetch_add(1, Ordering::Relaxed);
        request.refuse(sink, Error::draining("going away"));
    });
    let serves = |text: String| async move { Ok::<_, Error>(text) };
    let one = world.worker.serve(&NAME, serves).instance(InstanceId(1)).handler_layer(drains);
    let _one = one.await.unwrap();
    let _two = world.worker.serve(&NAME, serves).instance(InstanceId(2)).await.unwrap();
    let _known = world.router(&NAME).await;
    for _ in 0..60 {
        assert_eq!(world.caller.router(&NAME).call("hi").unary().await.unwrap(), "hi");
    }
    // A router of its own for each call would ask it in every other call; an ejection lasts a second.
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..20).contains(&asked), "{asked}");
    world.end().await;
}

struct Never;

impl RetryPolicy for Never {
    fn classify(&self, _: &AttemptReport<'_>) -> Verdict {
        Verdict::GiveUp
    }
}

impl OutlierPolicy for Never {
    fn is_ejected(&self, _: &Instance, _: Instant) -> bool {
        false
    }

    fn record(&self, _: &Instance, _: AttemptOutcome<'_>, _: Instant) {}
}

#[tokio::test]
async fn settings_of_a_router_that_contradict_each_other_fail_its_calls() {
    let world = World::new().await;
    let _served = world.worker.serve(&NAME, shown).await.unwrap();
    let router = || async { world.router(&NAME).await };
    let strategy = || LeastLoaded::new();
    let attempts = || RetryConfig { max_attempts: 9, ..RetryConfig::default() };
    let budget = || RetryConfig { budget: Default::default(), ..RetryConfig::default() };
    let ejection = || RetryConfig { ejection: Duration::ZERO, ..RetryConfig::default() };
    for (router, named) in [
        (router().await.mode(RouterMode::Random).load_balancer(strategy()), "`load_balancer`"),
        (router().await.load_balancer(strategy()).mode(RouterMode::Random), "`mode`"),
        (router().await.retry_policy(Never).retry(attempts()), "`max_attempts`"),
        (router().await.retry(attempts()).retry_policy(Never), "`retry_policy`"),
        (router().await.outlier_policy(Never).retry(ejection()), "`ejection`"),
    ] {
        let error = router.call("hi").unary().await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::InvalidPayload, Executed::No));
        assert!(error.message().contains(named), "{error}");
    }
    for router in [
        router().await.retry_policy(Never).retry(budget()),
        router().await.retry(ejection()).retry_policy(Never),
        router().await.load_balancer(strategy()).outlier_policy(Never),
        router().await.mode(RouterMode::Random).mode(RouterMode::RoundRobin),
    ] {
        let words: Vec<_> = router.call("hi").await.unwrap().collect().await;
        assert_eq!(words.len(), 1);
    }
    world.end().await;
}
