//! Calls that never leave the process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use sinew_plane::{
    AsyncEngine, BoxFuture, BoxStream, Code, Context, Error, Executed, IncomingRequest, InstanceId,
    ManyOut, Outcome, Permit, ResponseSink, SingleIn, TransportId, engine_fn,
};
use sinew_registry::{AdmittingEngine, LocalEndpoint, LocalGuard};

use super::world::{World, says};
use crate::{LOCAL, PushRouter, RequestTransport, RouterMode};

/// A value that no format can carry.
#[derive(Debug, PartialEq)]
struct Opaque(u32);

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("was serialised"))
    }
}

impl<'de> Deserialize<'de> for Opaque {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("was deserialised"))
    }
}

fn local<Req: 'static, Resp: 'static>(
    engine: impl AsyncEngine<Req, Resp> + 'static,
) -> LocalEndpoint {
    let handler = |_: IncomingRequest<'_>, sink: ResponseSink| sink.complete();
    LocalEndpoint::new(Arc::new(handler)).with_engine::<Req, Resp>(Arc::new(engine))
}

/// Counts down from the request to 1.
fn countdown() -> LocalEndpoint {
    local(engine_fn(|request: SingleIn<Opaque>| async move {
        let values = (1..=request.data().0).rev().map(|n| Ok(Opaque(n)));
        Ok::<_, Error>(stream::iter(values.collect::<Vec<_>>()))
    }))
}

/// A world whose instance 1 is also served here, as `endpoint`.
async fn world(endpoint: LocalEndpoint) -> (World, LocalGuard) {
    let world = World::with(&[says(&["over the transport"])]).await;
    let guard = world.locals.insert(&world.name, InstanceId(1), endpoint);
    (world, guard)
}

#[tokio::test]
async fn values_pass_without_being_serialised() {
    let (world, guard) = world(countdown()).await;
    let router = world.typed::<Opaque, Opaque>(RouterMode::RoundRobin).await;
    let (mut response, explanation) = router.generate_explained(Opaque(3)).await.unwrap();
    let values: Vec<_> = response.by_ref().map(Result::unwrap).collect().await;
    assert_eq!(values, [Opaque(3), Opaque(2), Opaque(1)]);
    assert!(matches!(response.outcome(), Some(Outcome::Complete { items: 3 })));
    assert_eq!(explanation.transport, LOCAL);
    assert!(world.asked().is_empty());

    drop(guard);
    let error = router.generate(Opaque(3)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::InvalidPayload, Executed::No));
}

#[tokio::test]
async fn other_types_and_a_named_transport_go_over_the_transport() {
    let (world, _guard) = world(countdown()).await;
    let router = world.router(RouterMode::RoundRobin).await;
    let mut response = router.generate("hi".to_owned()).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap(), "over the transport");

    let fake = RequestTransport::Only(TransportId::from_static("fake"));
    let client = world.client().await.with_transport(fake);
    let forced = PushRouter::<Opaque, Opaque>::from_client(client, RouterMode::RoundRobin).await;
    let error = forced.unwrap().generate(Opaque(1)).await.unwrap_err();
    assert!(error.message().contains("cannot encode"), "it is not called directly: {error}");

    let other = RequestTransport::Only(TransportId::from_static("quic"));
    let client = world.client().await.with_transport(other);
    let router = PushRouter::<String, String>::from_client(client, RouterMode::RoundRobin).await;
    let error = router.unwrap().generate("hi".to_owned()).await.unwrap_err();
    assert_eq!(error.code(), Code::NoTransport);
}

/// Has no place for anybody.
struct Closed;

impl AsyncEngine<String, String> for Closed {
    fn generate(&self, _: SingleIn<String>) -> BoxFuture<'_, Result<ManyOut<String>, Error>> {
        Box::pin(async { Err(Error::handler("asked without a place")) })
    }
}

impl AdmittingEngine<String, String> for Closed {
    fn reserve(&self) -> Result<Permit, Error> {
        Err(Error::draining("going away"))
    }

    fn generate_in(
        &self,
        _: Permit,
        request: SingleIn<String>,
    ) -> BoxFuture<'_, Result<ManyOut<String>, Error>> {
        self.generate(request)
    }
}

#[tokio::test]
async fn a_closed_gate_sends_the_request_elsewhere() {
    let handler = |_: IncomingRequest<'_>, sink: ResponseSink| sink.complete();
    let closed = LocalEndpoint::new(Arc::new(handler));
    let closed = closed.with_admitting_engine::<String, String>(Arc::new(Closed));
    let (world, _guard) = world(closed).await;
    world.add(2, says(&["two"])).await;
    let router = world.router(RouterMode::RoundRobin).await;
    for _ in 0..4 {
        let mut response = router.generate("hi".to_owned()).await.unwrap();
        assert_eq!(response.next().await.unwrap().unwrap(), "two");
    }
    assert_eq!(world.asked(), [2; 4]);
}

#[tokio::test]
async fn local_instances_can_be_preferred() {
    let (world, _guard) = world(countdown()).await;
    world.add(2, says(&[])).await;
    let router = world.typed::<Opaque, Opaque>(RouterMode::Random).await.with_prefer_local(true);
    for _ in 0..20 {
        router.generate(Opaque(1)).await.unwrap();
    }
    assert!(world.asked().is_empty());
}

/// An engine whose stream never yields, and that shows when the stream is dropped.
fn silent() -> (LocalEndpoint, Arc<AtomicBool>) {
    struct OnDrop(Arc<AtomicBool>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let shown = Arc::clone(&dropped);
    let engine = engine_fn(move |_: SingleIn<Opaque>| {
        let guard = OnDrop(Arc::clone(&dropped));
        async move {
            let values = stream::pending::<Result<Opaque, Error>>().map(move |value| {
                let _held = &guard;
                value
            });
            Ok::<_, Error>(values)
        }
    });
    (local(engine), shown)
}

#[tokio::test]
async fn a_kill_and_a_drop_end_the_engine() {
    let (endpoint, dropped) = silent();
    let (world, _guard) = world(endpoint).await;
    let router = world.typed::<Opaque, Opaque>(RouterMode::RoundRobin).await;
    let mut response = router.generate(Opaque(1)).await.unwrap();
    let context = response.context().clone();
    let kill = async {
        tokio::task::yield_now().await;
        context.kill();
    };
    let (end, ()) = tokio::join!(response.next(), kill);
    assert_eq!(end.unwrap().unwrap_err().code(), Code::Cancelled);
    assert!(matches!(response.outcome(), Some(Outcome::Cancelled { .. })));
    assert!(dropped.swap(false, Ordering::Relaxed), "the engine's stream is gone at once");

    let response = router.generate(Opaque(1)).await.unwrap();
    let context = response.context().clone();
    drop(response);
    assert!(context.is_killed() && dropped.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_the_engine() {
    let (endpoint, dropped) = silent();
    let (world, _guard) = world(endpoint).await;
    let router = world.typed::<Opaque, Opaque>(RouterMode::RoundRobin).await;
    let context = Context::builder().timeout(Duration::from_millis(300)).build();
    let request = SingleIn::with_context(Opaque(1), context);
    let mut response = router.generate(request).await.unwrap();
    assert_eq!(response.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert!(dropped.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_panic_of_the_engine_is_an_error_of_the_request() {
    let at_once = engine_fn(|_: SingleIn<Opaque>| async move {
        panic!("handler bug");
        #[expect(unreachable_code, reason = "gives the closure its type")]
        Ok::<BoxStream<'static, Result<Opaque, Error>>, Error>(Box::pin(stream::empty()))
    });
    let later = engine_fn(|_: SingleIn<Opaque>| async move {
        let values = stream::iter([1, 2]).map(|n| {
            assert!(n < 2, "handler bug");
            Ok(Opaque(n))
        });
        Ok::<_, Error>(values)
    });
    let (at_once, later) = (local(at_once), local(later));

    let (first, _guard) = world(at_once).await;
    let router = first.typed::<Opaque, Opaque>(RouterMode::RoundRobin).await;
    let error = router.generate(Opaque(1)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::HandlerGone, Executed::Yes));

    let (second, _guard) = world(later).await;
    let router = second.typed::<Opaque, Opaque>(RouterMode::RoundRobin).await;
    let mut response = router.generate(Opaque(1)).await.unwrap();
    assert!(response.next().await.unwrap().is_ok());
    assert_eq!(response.next().await.unwrap().unwrap_err().code(), Code::HandlerGone);
    assert!(response.next().await.is_none());
}
