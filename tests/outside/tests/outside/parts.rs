//! The strategy, the layers and the adapter at work, between runtimes over sockets.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use sinew::{
    AppCode, AsyncEngine, Context, DiscoverySource, Endpoint, EngineService, Error, Executed,
    InstanceId, Outcome, PushRouter, RouterMode, Runtime, SingleIn, engine_fn,
};
use sinew_outside::{
    authentication::{RequireToken, with_token},
    limited::{at_most, engine_of},
    sticky::{SESSION, Sticky},
};
use sinew_testkit::within;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tower::{ServiceBuilder, timeout::TimeoutLayer};

use crate::fixture::endpoint;

/// The endpoint of the fixture, for both ends.
const TYPED: Endpoint<String, String> = Endpoint::new("text/words/split");

/// Runtimes that find each other through files, and speak over sockets.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    async fn runtime(&self) -> Runtime {
        let source = DiscoverySource::File(self.0.path().to_path_buf());
        Runtime::builder().discovery(source).build().await.unwrap()
    }

    /// A router that knows so many instances.
    async fn router(&self, instances: usize) -> (Runtime, PushRouter<String, String>) {
        let runtime = self.runtime().await;
        let client = runtime.client(endpoint());
        let known = async {
            while client.instances().len() < instances {
                client.wait_for_instances(Duration::from_secs(20)).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        within("the instances", known).await;
        let router = PushRouter::from_client(client, RouterMode::RoundRobin).await.unwrap();
        (runtime, router)
    }
}

/// Answers with its id, the text, and the words of the text.
fn words(id: u64) -> impl AsyncEngine<String, String> {
    engine_fn(move |request: SingleIn<String>| async move {
        let words: Vec<_> = request.data().split(' ').map(|word| Ok(word.to_owned())).collect();
        Ok::<_, Error>(stream::iter([Ok(id.to_string())]).chain(stream::iter(words)))
    })
}

fn of_session(name: &str) -> SingleIn<String> {
    SingleIn::new("hi".to_owned()).with_header(SESSION, name).unwrap()
}

#[tokio::test]
async fn requests_of_a_session_stay_at_one_instance_until_that_is_gone() {
    let place = Place::new();
    let mut workers = Vec::new();
    for id in 1..=3 {
        let runtime = place.runtime().await;
        let served = runtime.serve_named(endpoint()).instance(InstanceId(id)).engine(words(id));
        let served = served.await.unwrap();
        workers.push((id, runtime, served));
    }
    let (_caller, router) = place.router(3).await;
    let router = router.with_load_balancer(Sticky::default());
    let at = async |request: SingleIn<String>| {
        let (words, why) = within("a response", router.generate_explained(request)).await.unwrap();
        assert_ne!(why.transport.as_str(), "local");
        let words: Vec<_> = within("its end", words.try_collect()).await.unwrap();
        assert_eq!(words, [why.instance.0.to_string(), "hi".to_owned()]);
        why.instance
    };

    let mut used = HashSet::new();
    for session in 0..20 {
        let first = at(of_session(&session.to_string())).await;
        for _ in 0..3 {
            assert_eq!(at(of_session(&session.to_string())).await, first);
        }
        used.insert(first);
    }
    assert!(used.len() > 1, "sessions spread over the instances");

    let first = at(of_session("leaving")).await;
    let gone = workers.iter().position(|(id, ..)| *id == first.0).unwrap();
    let (_, runtime, served) = workers.swap_remove(gone);
    served.drain().await;
    runtime.shutdown(Duration::from_secs(1)).await;
    let second = at(of_session("leaving")).await;
    assert_ne!(second, first);
    assert_eq!(at(of_session("leaving")).await, second, "and stays there");
}

#[tokio::test]
async fn a_worker_asks_for_a_token_and_a_caller_shows_it() {
    let place = Place::new();
    let worker = place.runtime().await;
    let ran = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ran);
    let engine = engine_fn(move |request: SingleIn<String>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, Error>(stream::iter([Ok(request.data().clone())])) }
    });
    let guarded = worker.serve_named(endpoint()).handler_layer(RequireToken::new("secret"));
    let served = guarded.engine(engine).await.unwrap();
    let (caller, router) = place.router(1).await;

    let without = router.generate("hi".to_owned());
    let wrong = router.clone().with_layer(with_token("guess"));
    let wrong = wrong.generate("hi".to_owned());
    for (error, code) in [
        (within("a refusal", without).await.unwrap_err(), AppCode::UNAUTHENTICATED),
        (within("a refusal", wrong).await.unwrap_err(), AppCode::PERMISSION_DENIED),
    ] {
        assert_eq!((error.app_code(), error.executed()), (Some(code), Executed::No));
    }
    assert_eq!(ran.load(Ordering::Relaxed), 0);

    // A layer does not stand between a request and its context.
    let router = router.with_layer(with_token("secret"));
    let context = Context::builder().timeout(Duration::from_secs(20)).build();
    let request = SingleIn::with_context("hi".to_owned(), context);
    let mut response = within("a response", router.generate(request)).await.unwrap();
    assert!(response.context().remaining().is_some());
    assert_eq!(within("an item", response.next()).await.unwrap().unwrap(), "hi");
    assert!(within("the end", response.next()).await.is_none());
    assert!(matches!(response.outcome(), Some(Outcome::Complete { items: 1 })));

    // The same at the typed router, also for calls that name an instance.
    let typed = caller.router(&TYPED).layer(with_token("secret"));
    assert_eq!(within("a response", typed.call("hi").unary()).await.unwrap(), "hi");
    let named = typed.call("hi").instance(served.instance()).unary();
    assert_eq!(within("a response", named).await.unwrap(), "hi");
    let bare = caller.router(&TYPED).call("hi").unary().await.unwrap_err();
    assert_eq!(bare.app_code(), Some(AppCode::UNAUTHENTICATED));
    let before = ran.swap(1, Ordering::Relaxed);
    assert_eq!(before, 3);

    // Nor does it leave callers in the process of the worker a way around it.
    let client = worker.client(endpoint());
    let inside = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin);
    let inside = inside.await.unwrap();
    let error = within("a refusal", inside.generate("hi".to_owned())).await.unwrap_err();
    assert_eq!(error.app_code(), Some(AppCode::UNAUTHENTICATED));
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_limit_of_tower_holds_requests_back_and_a_cancelled_one_leaves_the_line() {
    let place = Place::new();
    let worker = place.runtime().await;
    let (go, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (wait, began) = (Arc::clone(&go), Arc::clone(&begun));
    let engine = engine_fn(move |request: SingleIn<String>| {
        let (wait, began) = (Arc::clone(&wait), Arc::clone(&began));
        async move {
            began.add_permits(1);
            wait.acquire().await.unwrap().forget();
            Ok::<_, Error>(stream::iter([Ok(request.data().clone())]))
        }
    });
    // A service of tower that is served, with the limit as a layer around it.
    let service = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_secs(60)));
    let engine = engine_of(service.service(EngineService::new(engine)));
    let _served =
        worker.serve_named(endpoint()).engine(engine.with_layer(at_most(1))).await.unwrap();
    let (_caller, router) = place.router(1).await;

    let call = |text: &str, context: &Context| {
        let (router, context) = (router.clone(), context.clone());
        let request = SingleIn::with_context(text.to_owned(), context);
        tokio::spawn(async move { router.generate(request).await?.try_collect::<Vec<_>>().await })
    };
    let (one, two) = (Context::new(), Context::new());
    let first = call("one", &one);
    within("the first", begun.acquire()).await.unwrap().forget();
    let second = call("two", &two);
    let third = call("three", &Context::new());
    two.kill();
    within("the cancel", second).await.unwrap().unwrap_err();
    assert_eq!(begun.available_permits(), 0, "the limit holds them back");
    go.add_permits(1);
    assert_eq!(within("the first", first).await.unwrap().unwrap(), ["one"]);
    within("the third", begun.acquire()).await.unwrap().forget();
    go.add_permits(1);
    assert_eq!(within("the third", third).await.unwrap().unwrap(), ["three"]);
    assert_eq!(begun.available_permits(), 0, "the cancelled one never began");
}
