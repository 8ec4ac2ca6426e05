//! What a call is told, and what it gives back.

use std::{future::pending, time::Duration};

use futures_util::{StreamExt, stream};
use sinew::{
    Code, Context, Endpoint, Error, Executed, Headers, InstanceId, ManyOut, PayloadFormat,
    RouterMode, SingleIn, engine_fn, layer_fn, layers::plane::TransportRequirements,
};

use crate::support::World;

/// As many numbers as the request says.
const COUNT: Endpoint<u32, u32> = Endpoint::new("demo/numbers/count");
const NEVER: Endpoint<(), ()> = Endpoint::new("demo/numbers/never");

async fn count(to: u32) -> Result<stream::Iter<std::vec::IntoIter<Result<u32, Error>>>, Error> {
    Ok(stream::iter((0..to).map(Ok).collect::<Vec<_>>()))
}

async fn never((): ()) -> Result<(), Error> {
    pending().await
}

#[tokio::test]
async fn a_call_gives_a_stream_one_value_or_all() {
    let world = World::new().await;
    let _served = world.worker.serve(&COUNT, count).await.unwrap();
    let router = world.router(&COUNT).await;
    let mut numbers = router.call(2_u32).await.unwrap();
    assert_eq!(numbers.next().await.unwrap().unwrap(), 0);
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    assert!(numbers.next().await.is_none());
    assert_eq!(router.call(1_u32).unary().await.unwrap(), 0);
    assert_eq!(router.call(3_u32).collect().await.unwrap(), [0, 1, 2]);
    for (to, what) in [(0_u32, "no value"), (2, "more than one")] {
        let error = router.call(to).unary().await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::InvalidPayload, Executed::Yes));
        assert!(error.message().contains(what), "{error}");
    }
    world.end().await;
}

/// Counts, with a head and facts that say how far.
fn told(to: u32, context: Context) -> ManyOut<u32> {
    let named = |name: &str| {
        let mut headers = Headers::new();
        headers.insert(name, &to.to_string()).unwrap();
        headers
    };
    let facts = named("made");
    let values = stream::iter((0..to).map(Ok).collect::<Vec<_>>());
    ManyOut::new(values, context).with_head(named("to")).with_facts(|| facts)
}

#[tokio::test]
async fn a_whole_response_has_its_head_and_its_facts() {
    let world = World::new().await;
    let engine = engine_fn(|request: SingleIn<u32>| async move {
        let (to, context) = request.into_parts();
        Ok::<_, Error>(told(to, context))
    });
    let served = world.worker.serve(&COUNT, engine).await.unwrap();
    let far = world.router(&COUNT).await;
    let near = world.worker.router(&COUNT);
    near.wait_for_instances(crate::support::GUARD).await.unwrap();
    for router in [far, near] {
        let one = router.call(1_u32).unary_response().await.unwrap();
        assert_eq!((one.head.get("to"), one.facts.get("made")), (Some("1"), Some("1")));
        assert_eq!(one.map(|value| value + 1).into_inner(), 1);
        let all = router.call(2_u32).collect_response().await.unwrap();
        assert_eq!((all.head.get("to"), all.facts.get("made")), (Some("2"), Some("2")));
        assert_eq!(all.value, [0, 1]);
        let error = router.call(2_u32).unary_response().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidPayload);
    }
    drop(served);
    world.end().await;
}

#[tokio::test]
async fn a_call_ends_at_its_timeout_and_with_a_bad_header_before_it_begins() {
    let world = World::new().await;
    let served = world.worker.serve(&NEVER, never).await.unwrap();
    let router = world.router(&NEVER).await;
    let call = router.call(()).timeout(Duration::from_millis(50));
    assert_eq!(call.unary().await.unwrap_err().code(), Code::DeadlineExceeded);
    let call = router.call(()).first_item_timeout(Duration::from_millis(50));
    assert_eq!(call.unary().await.unwrap_err().code(), Code::FirstItemTimedOut);
    let call = router.call(()).header("not a name", "x").header("fine", "y");
    let error = call.unary().await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::InvalidPayload, Executed::No));
    drop(served);
    world.end().await;
}

#[tokio::test]
async fn a_router_goes_by_what_it_was_told() {
    let world = World::new().await;
    let one = world.worker.serve(&COUNT, count).instance(InstanceId(1)).await.unwrap();
    let router = world.router(&COUNT).await.format(PayloadFormat::Json).mode(RouterMode::Random);
    assert_eq!(router.push_router().mode(), RouterMode::Random);
    assert_eq!(router.call(1_u32).instance(InstanceId(1)).unary().await.unwrap(), 0);
    let elsewhere = router.clone().retry(sinew::RetryConfig::none());
    let error = elsewhere.call(1_u32).instance(InstanceId(2)).unary().await.unwrap_err();
    assert_eq!(error.code(), Code::NoInstances, "{error}");

    let required = TransportRequirements { encrypted: true, ..TransportRequirements::default() };
    let encrypted = router.requirements(required).retry(sinew::RetryConfig::none());
    let error = encrypted.call(1_u32).unary().await.unwrap_err();
    assert_eq!(error.code(), Code::NoTransport, "{error}");
    drop(one);
    world.end().await;
}

#[tokio::test]
async fn a_timeout_holds_while_a_layer_waits() {
    let world = World::new().await;
    let served = world.worker.serve(&NEVER, never).await.unwrap();
    let waits = layer_fn(|_| {
        engine_fn(|_: SingleIn<()>| async {
            pending::<()>().await;
            Err::<ManyOut<()>, _>(Error::handler("not reached"))
        })
    });
    let router = world.router(&NEVER).await.layer(waits);
    for instance in [None, Some(served.instance())] {
        let call = router.call(()).timeout(Duration::from_millis(50));
        let call = match instance {
            Some(id) => call.instance(id),
            None => call,
        };
        assert_eq!(call.unary().await.unwrap_err().code(), Code::DeadlineExceeded);
    }
    drop(served);
    world.end().await;
}
