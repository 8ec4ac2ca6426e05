//! Drain and shutdown.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use sinew_ingress::{Drained, EndpointConfig, PushEngineHandler, PushHandler};
use sinew_plane::{
    AsyncEngine, CancelReason, Code, Context, Error, Executed, ResponseSink, SingleIn, Terminal,
    engine_fn, push_engine_fn,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::support::{Consumer, Fixture, GUARD, NAME, due_in};

/// Each request takes a permit, then answers with one item.
fn permitted(permits: &Arc<Semaphore>) -> impl AsyncEngine<u32, u32> + use<> {
    let permits = Arc::clone(permits);
    engine_fn(move |_: SingleIn<u32>| {
        let permits = Arc::clone(&permits);
        async move {
            permits.acquire().await.expect("the test holds it").forget();
            Ok::<_, Error>(stream::iter([Ok(1_u32)]))
        }
    })
}

#[tokio::test]
async fn an_endpoint_that_drains_refuses_the_new_and_finishes_the_old() {
    let (fixture, permits) = (Fixture::new(), Arc::new(Semaphore::new(0)));
    let served = Arc::new(fixture.serve(PushHandler::new(permitted(&permits))));
    let other =
        fixture.serve_as(2, EndpointConfig::default(), PushHandler::new(permitted(&permits)));
    let old = fixture.call("1");
    let draining = tokio::spawn({
        let served = Arc::clone(&served);
        async move { served.drain().await }
    });
    tokio::task::yield_now().await;
    assert_eq!(fixture.call("1").failure().await, (Code::Draining, Executed::No));
    assert!(!draining.is_finished());
    permits.add_permits(2);
    timeout(GUARD, draining).await.unwrap().unwrap();
    assert!(matches!(old.end().await, Terminal::Complete { items: 1 }));

    let call = fixture.send(NAME, 2, "1", Consumer::new(9, Context::new()));
    assert!(matches!(call.end().await, Terminal::Complete { .. }), "others go on");
    drop(other);
}

#[tokio::test]
async fn a_shutdown_within_its_grace_cuts_nothing() {
    let (fixture, permits) = (Fixture::new(), Arc::new(Semaphore::new(0)));
    let _served = fixture.serve(PushHandler::new(permitted(&permits)));
    let calls: Vec<_> = (0..50).map(|_| fixture.call("1")).collect();
    let ingress = fixture.ingress.clone();
    let shutdown = tokio::spawn(async move { ingress.shutdown(GUARD).await });
    tokio::task::yield_now().await;
    assert_eq!(fixture.call("1").failure().await, (Code::Draining, Executed::No));
    permits.add_permits(50);
    let report = timeout(GUARD, shutdown).await.unwrap().unwrap();
    assert_eq!(report.to_string(), "50 finished, 0 handed over, 0 cut");
    assert!(report.is_clean());
    for call in calls {
        assert!(matches!(call.end().await, Terminal::Complete { items: 1 }));
    }
    fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_what_outlives_the_grace_and_counts_it() {
    let (fixture, permits) = (Fixture::new(), Arc::new(Semaphore::new(1)));
    let _pull = fixture.serve(PushHandler::new(permitted(&permits)));
    // An engine that keeps its sinks and never looks at them again.
    let kept = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let engine = push_engine_fn(move |_, sink: ResponseSink| {
        keep.lock().push(sink);
        Ok(())
    });
    let _push = fixture.serve_as(2, EndpointConfig::default(), PushEngineHandler::new(engine));

    let mut calls: Vec<_> = (0..3).map(|_| fixture.call("1")).collect();
    let deadline = due_in(Duration::from_secs(3600));
    calls.push(fixture.send(NAME, 2, "1", Consumer::new(9, deadline)));
    let start = Instant::now();
    let report = fixture.ingress.shutdown(Duration::from_secs(2)).await;
    assert_eq!(report.to_string(), "1 finished, 0 handed over, 3 cut");
    assert!(!report.is_clean());
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    let mut cut = 0;
    for call in calls {
        match call.end().await {
            Terminal::Complete { .. } => {}
            Terminal::Cancelled { reason: CancelReason::Shutdown } => cut += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cut, 3);
    fixture.assert_idle();
}

#[tokio::test]
async fn an_idle_ingress_shuts_down_at_once_and_twice() {
    let fixture = Fixture::new();
    for _ in 0..2 {
        let report = timeout(GUARD, fixture.ingress.shutdown(Duration::MAX)).await.unwrap();
        assert_eq!(report, Drained::default());
    }
    assert!(fixture.ingress.is_draining());
}

/// The place of an instance was taken by a later one while it had a request in flight.
#[tokio::test(start_paused = true)]
async fn a_shutdown_cuts_the_requests_of_a_replaced_instance_too() {
    let (fixture, none) = (Fixture::new(), Arc::new(Semaphore::new(0)));
    let _first = fixture.serve(PushHandler::new(permitted(&none)));
    let call = fixture.call("1");
    let _second = fixture.serve(PushHandler::new(permitted(&none)));
    let start = Instant::now();
    let report = fixture.ingress.shutdown(Duration::from_secs(1)).await;
    assert_eq!(report.to_string(), "0 finished, 0 handed over, 1 cut");
    assert_eq!(start.elapsed(), Duration::from_secs(1), "nothing is waited for beyond the grace");
    let end = call.end().await;
    assert!(matches!(end, Terminal::Cancelled { reason: CancelReason::Shutdown }), "{end:?}");
}
