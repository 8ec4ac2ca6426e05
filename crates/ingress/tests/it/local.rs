//! Calls within the process: nothing is encoded, everything else holds as over a transport.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use sinew_ingress::{EndpointConfig, Ingress, IngressConfig, PushHandler, RawHandler};
use sinew_plane::{
    AsyncEngine, CancelReason, Code, Context, Error, Executed, InstanceId, SingleIn, engine_fn,
};
use sinew_registry::LocalEndpoints;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::support::{Fixture, GUARD, NAME, due_in};

/// A value that would not survive being encoded.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Opaque {
    #[serde(skip)]
    inside: Option<Arc<u32>>,
}

/// One item for each permit.
fn stepped(steps: &Arc<Semaphore>) -> impl AsyncEngine<u32, u32> + use<> {
    let steps = Arc::clone(steps);
    engine_fn(move |_: SingleIn<u32>| {
        let steps = Arc::clone(&steps);
        async move {
            Ok::<_, Error>(stream::unfold((0, steps), |(n, steps)| async move {
                steps.acquire().await.ok()?.forget();
                Some((Ok(n), (n + 1, steps)))
            }))
        }
    })
}

#[tokio::test]
async fn values_pass_as_they_are_and_are_counted() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<Opaque>| async move {
        Ok::<_, Error>(stream::iter([Ok(request.into_parts().0)]))
    });
    let served = fixture.serve(PushHandler::new(engine));
    let engine = served.local_engine::<Opaque, Opaque>().unwrap();
    let value = Arc::new(7);
    let request = SingleIn::new(Opaque { inside: Some(Arc::clone(&value)) });
    let answer: Vec<_> = engine.generate(request).await.unwrap().collect().await;
    let Ok(Opaque { inside: Some(same) }) = &answer[0] else { panic!("{answer:?}") };
    assert!(Arc::ptr_eq(same, &value));
    assert_eq!(fixture.metric("ingress_requests_total", ""), 1);
    assert_eq!(fixture.metric("ingress_request_duration_seconds_count", ""), 1);
    assert_eq!(fixture.errors("application"), 0);
    fixture.assert_idle();
    assert!(served.local_engine::<Opaque, u32>().is_none());
}

#[tokio::test]
async fn limits_drain_and_lateness_refuse_as_over_a_transport() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(0)));
    let config = EndpointConfig { max_in_flight: 1, ..EndpointConfig::default() };
    let served = fixture.serve_as(1, config, PushHandler::new(stepped(&steps)));
    let engine = served.local_engine::<u32, u32>().unwrap();
    let refused = |request| {
        let engine = Arc::clone(&engine);
        async move {
            let error = engine.generate(request).await.expect_err("a refusal");
            (error.code(), error.executed())
        }
    };
    let late = due_in(Duration::ZERO);
    let late = refused(SingleIn::with_context(1, late)).await;
    assert_eq!(late, (Code::DeadlineExceeded, Executed::No));

    let running = engine.generate(SingleIn::new(1)).await.unwrap();
    assert_eq!(fixture.metric("ingress_in_flight_requests", ""), 1);
    assert_eq!(refused(SingleIn::new(1)).await, (Code::Overloaded, Executed::No));
    drop(running);
    served.drain().await;
    assert_eq!(refused(SingleIn::new(1)).await, (Code::Draining, Executed::No));
    fixture.assert_idle();
}

#[tokio::test]
async fn dropping_the_stream_or_the_call_kills_the_request() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(1)));
    let served = fixture.serve(PushHandler::new(stepped(&steps)));
    let engine = served.local_engine::<u32, u32>().unwrap();
    let context = Context::new();
    let request = SingleIn::with_context(1, context.clone());
    let mut answer = engine.generate(request).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), 0);
    drop(answer);
    assert!(context.is_killed());

    let never = fixture.serve_as(
        2,
        EndpointConfig::default(),
        PushHandler::new(engine_fn(|_: SingleIn<u32>| async {
            std::future::pending::<()>().await;
            Ok::<_, Error>(stream::empty::<Result<u32, Error>>())
        })),
    );
    let engine = never.local_engine::<u32, u32>().unwrap();
    let context = Context::new();
    let mut call = engine.generate(SingleIn::with_context(1, context.clone()));
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    assert!(context.is_killed());
    assert_eq!(fixture.errors("application"), 0);
    fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_a_kill_end_a_stream_that_waits() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(2)));
    let served = fixture.serve(PushHandler::new(stepped(&steps)));
    let engine = served.local_engine::<u32, u32>().unwrap();
    let context = due_in(Duration::from_secs(5));
    let answer = engine.generate(SingleIn::with_context(1, context)).await.unwrap();
    let start = Instant::now();
    let items: Vec<_> = timeout(GUARD, answer.collect()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(6), "woken by the deadline, not by the guard");
    let items: Vec<_> = items.into_iter().map(|item| item.map_err(|error| error.code())).collect();
    assert_eq!(items, [Ok(0), Ok(1), Err(Code::DeadlineExceeded)]);

    let context = Context::new();
    let request = SingleIn::with_context(1, context.clone());
    let mut answer = engine.generate(request).await.unwrap();
    let mut next = answer.next();
    assert!(futures_util::poll!(&mut next).is_pending());
    context.kill();
    let start = Instant::now();
    let error = timeout(GUARD, next).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert_eq!(start.elapsed(), Duration::ZERO, "woken by the kill, not by the guard");
    assert!(answer.next().await.is_none(), "nothing follows the end");
    fixture.assert_idle();
}

#[tokio::test]
async fn a_stop_lets_the_item_in_hand_through() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(1)));
    let served = fixture.serve(PushHandler::new(stepped(&steps)));
    let engine = served.local_engine::<u32, u32>().unwrap();
    let context = Context::new();
    let request = SingleIn::with_context(1, context.clone());
    let mut answer = engine.generate(request).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), 0);
    assert!(futures_util::poll!(answer.next()).is_pending());
    context.stop();
    steps.add_permits(9);
    let rest: Vec<_> = answer.map(|item| item.map_err(|error| error.code())).collect().await;
    assert_eq!(rest, [Ok(1), Err(Code::Cancelled)]);
    assert_eq!(steps.available_permits(), 8);
    fixture.assert_idle();
}

#[tokio::test]
async fn an_error_of_the_engine_counts_as_executed() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<bool>| async move {
        let refusal = Error::new(Code::Overloaded, "somebody it called");
        if *request.data() { Err(refusal) } else { Ok(stream::iter([Err::<u32, _>(refusal)])) }
    });
    let served = fixture.serve(PushHandler::new(engine));
    let engine = served.local_engine::<bool, u32>().unwrap();
    let early = engine.generate(SingleIn::new(true)).await.err().unwrap();
    let mut answer = engine.generate(SingleIn::new(false)).await.unwrap();
    let late = answer.next().await.unwrap().unwrap_err();
    for error in [early, late] {
        assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::Yes));
    }
    assert_eq!(fixture.errors("resource"), 2);
    fixture.assert_idle();
}

#[tokio::test]
async fn an_ingress_announces_what_it_serves_while_it_does() {
    let table = LocalEndpoints::new();
    let shared = table.clone();
    let fixture = Fixture::build(|| Ingress::with_local(IngressConfig::default(), shared));
    let name = NAME.parse().unwrap();
    let steps = Arc::new(Semaphore::new(0));
    let typed = fixture.serve(PushHandler::new(stepped(&steps)));
    let raw = RawHandler::new(|_, _| async {});
    let raw = fixture.serve_as(2, EndpointConfig::default(), raw);
    let found = table.get(&name, InstanceId(1)).unwrap();
    let engine = found.engine::<u32, u32>().unwrap();
    assert!(table.get(&name, InstanceId(2)).unwrap().engine::<u32, u32>().is_none());

    let context = Context::new();
    let request = SingleIn::with_context(1, context.clone());
    let mut answer = engine.generate(request).await.unwrap();
    drop(typed);
    assert!(table.get(&name, InstanceId(1)).is_none());
    assert_eq!(context.reason(), Some(CancelReason::Shutdown));
    assert_eq!(answer.next().await.unwrap().unwrap_err().code(), Code::Cancelled);
    let error = engine.generate(SingleIn::new(1)).await.err().unwrap();
    assert_eq!(error.code(), Code::Draining, "an engine that somebody kept");
    drop(raw);
    assert!(!table.contains(&name, InstanceId(2)));
}
