//! A router that stands where an engine is expected.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{AsyncEngine, Code, Context, Executed, Headers, Outcome, SingleIn};

use super::world::{Script, World, refuses, says};
use crate::RouterMode;

async fn engine(world: &World) -> Arc<dyn AsyncEngine<String, String>> {
    Arc::new(world.router(RouterMode::RoundRobin).await)
}

#[tokio::test]
async fn a_call_through_it_retries_and_answers_as_the_router_does() {
    let world = World::with(&[refuses(Code::Draining), says(&["a", "b"])]).await;
    let engine = engine(&world).await;
    let mut headers = Headers::new();
    headers.insert("authorization", "token").unwrap();
    let context = Context::builder().headers(headers).build();
    // Two, as the rotation may begin with either instance.
    for _ in 0..2 {
        let request = SingleIn::with_context("hi".to_owned(), context.clone());
        let response = engine.generate(request).await.unwrap();
        let words: Vec<_> = response.map(Result::unwrap).collect().await;
        assert_eq!(words, ["a", "b"]);
    }
    assert_eq!(world.asked().iter().filter(|id| **id == 1).count(), 1, "{:?}", world.asked());
    for seen in world.seen() {
        assert_eq!(seen.request.headers.get("authorization"), Some("token"));
        assert_ne!(seen.request.context.id(), context.id(), "a stream id of its own");
    }

    world.script(2, refuses(Code::Draining));
    let error = engine.generate("hi".to_owned().into()).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Draining, Executed::No));
}

#[tokio::test]
async fn a_cancel_goes_on_and_a_dropped_response_does_not_come_back() {
    let world = World::with(&[Script::StartThenSilence]).await;
    let engine = engine(&world).await;
    let context = Context::new();
    let request = || SingleIn::with_context("hi".to_owned(), context.clone());
    drop(engine.generate(request()).await.unwrap());
    assert_eq!(world.abandoned(), 1);
    assert!(!context.is_stopped(), "the request that it is part of goes on");

    let _response = engine.generate(request()).await.unwrap();
    assert!(!world.seen()[1].request.context.is_stopped());
    context.kill();
    assert!(world.seen()[1].request.context.is_killed());
}

#[tokio::test]
async fn a_function_hands_on_the_response_of_a_router_as_it_is() {
    let world = World::with(&[Script::Break(vec![Bytes::from("\"a\"")])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let engine = sinew_plane::engine_fn(move |request: SingleIn<String>| {
        let router = router.clone();
        async move { router.generate(request).await }
    });
    let mut response = engine.generate("hi".to_owned().into()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "a");
    response.next().await.unwrap().unwrap_err();
    // Of a response in a response, the outer one would know the error alone.
    assert!(matches!(response.outcome(), Some(Outcome::Truncated { .. })));
}

#[tokio::test]
async fn the_credentials_of_a_request_that_is_served_go_on_only_if_that_is_asked_for() {
    let world = World::with(&[says(&["a"])]).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let mut headers = Headers::new();
    for (name, value) in [("authorization", "token"), ("cookie", "id"), ("tenant", "red")] {
        headers.insert(name, value).unwrap();
    }
    let own = Context::builder().headers(headers).build();
    let received = own.clone().received();
    let forwarding = router.clone().with_forward_credentials(true);
    for (router, context, shown) in [
        (&router, &own, true),
        (&router, &received, false),
        (&router, &received.child(), false),
        (&forwarding, &received, true),
    ] {
        let request = || SingleIn::with_context("hi".to_owned(), context.clone());
        drop(router.generate(request()).await.unwrap());
        drop(AsyncEngine::generate(router, request()).await.unwrap());
        for seen in world.seen().iter().rev().take(2) {
            let headers = &seen.request.headers;
            assert_eq!(headers.get("authorization").is_some(), shown);
            assert_eq!(headers.get("cookie").is_some(), shown);
            assert_eq!(headers.get("tenant"), Some("red"));
        }
    }
    // What a service sets itself goes on.
    let mut own = Headers::new();
    own.insert("authorization", "of the service").unwrap();
    let request = SingleIn::with_context("hi".to_owned(), received.child_with(own));
    drop(router.generate(request).await.unwrap());
    let request = SingleIn::with_context("hi".to_owned(), received.clone());
    let request = request.with_header("authorization", "of the service").unwrap();
    drop(AsyncEngine::generate(&router, request).await.unwrap());
    for seen in world.seen().iter().rev().take(2) {
        let headers = &seen.request.headers;
        assert_eq!(headers.get("authorization"), Some("of the service"));
        assert_eq!(headers.get("cookie"), None);
    }
}
