//! Retained responses within an ingress: their places, deadlines and shutdowns.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use sinew_ingress::{EndpointConfig, PushHandler, Retain, ServedEndpoint};
use sinew_plane::{CancelReason, Context, Error, SingleIn, StopKind, Terminal, engine_fn};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::support::{Consumer, Fixture, GUARD, NAME, due_in};

const SECRET: u64 = 7;
const RETAIN: Retain = Retain { items: 2_000, bytes: 1 << 20, time: Duration::from_secs(600) };

/// An endpoint whose handler sends so many items and then waits for `last`.
struct Retained {
    fixture: Fixture,
    handlers: Arc<Mutex<Vec<Context>>>,
    served: ServedEndpoint,
}

impl Retained {
    fn new(items: u32, last: &Arc<Notify>) -> Self {
        let (fixture, handlers) = (Fixture::new(), Arc::new(Mutex::new(Vec::new())));
        let (last, seen) = (Arc::clone(last), Arc::clone(&handlers));
        let engine = engine_fn(move |request: SingleIn<u32>| {
            let last = Arc::clone(&last);
            seen.lock().push(request.context().clone());
            let end = stream::once(async move {
                last.notified().await;
                Ok(items)
            });
            async move { Ok::<_, Error>(stream::iter((0..items).map(Ok)).chain(end)) }
        });
        let config = EndpointConfig { retain: Some(RETAIN), ..EndpointConfig::default() };
        let served = fixture.serve_as(1, config, PushHandler::new(engine));
        Self { fixture, handlers, served }
    }

    fn call(&self, credit: usize, context: Context) -> Arc<Consumer> {
        let consumer = Consumer::new(credit, context);
        self.fixture.send_with_secret((NAME, 1), "1", consumer, SECRET)
    }

    fn handler(&self) -> Context {
        self.handlers.lock()[0].clone()
    }
}

fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_drain_waits_for_the_caller_to_read_what_its_handler_has_finished() {
    let last = Arc::new(Notify::new());
    let world = Retained::new(999, &last);
    let call = world.call(10, Context::new());
    call.until(|state| state.items.len() == 10).await;
    last.notify_one();
    // The handler has ended: its request counts as answered.
    let ended = async {
        while world.fixture.metric("ingress_in_flight_requests", "") > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(GUARD, ended).await.unwrap();
    let ingress = world.fixture.ingress.clone();
    let shutdown = tokio::spawn(async move { ingress.shutdown(Duration::from_secs(30)).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!shutdown.is_finished());
    call.grant(2_000);
    assert!(matches!(call.end().await, Terminal::Complete { items: 1_000 }));
    assert_eq!(call.texts(), numbers(1_000));
    let report = timeout(GUARD, shutdown).await.unwrap().unwrap();
    assert_eq!(report.to_string(), "1 finished, 0 handed over, 0 cut");
    world.fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_within_the_grace_is_cut_and_hears_it() {
    let last = Arc::new(Notify::new());
    let world = Retained::new(20, &last);
    let calls = [world.call(10, Context::new()), world.call(10, Context::new())];
    last.notify_one();
    for call in &calls {
        call.until(|state| state.items.len() == 10).await;
    }
    let start = Instant::now();
    let report = world.fixture.ingress.shutdown(Duration::from_secs(2)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(report.to_string(), "0 finished, 0 handed over, 2 cut");
    for call in calls {
        let end = call.end().await;
        assert!(matches!(end, Terminal::Cancelled { reason: CancelReason::Shutdown }), "{end:?}");
    }
    world.fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_handler_of_a_caller_that_is_lost() {
    let world = Retained::new(20, &Arc::new(Notify::new()));
    let call = world.call(10, Context::new());
    call.until(|state| state.items.len() == 10).await;
    call.context.cancel(StopKind::Kill, CancelReason::Disconnected);
    let handler = world.handler();
    let start = Instant::now();
    let report = world.fixture.ingress.shutdown(Duration::from_secs(2)).await;
    assert_eq!(start.elapsed(), Duration::from_secs(2), "no task has to be waited for");
    assert_eq!(report.to_string(), "0 finished, 0 handed over, 1 cut");
    assert_eq!(handler.reason(), Some(CancelReason::Shutdown));
    world.fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_the_handler_also_without_its_caller() {
    let world = Retained::new(20, &Arc::new(Notify::new()));
    let call = world.call(10, due_in(Duration::from_secs(5)));
    call.until(|state| state.items.len() == 10).await;
    call.context.cancel(StopKind::Kill, CancelReason::Disconnected);
    let (handler, start) = (world.handler(), Instant::now());
    assert!(!handler.is_stopped(), "others may come");
    handler.killed().await;
    assert_eq!(handler.reason(), Some(CancelReason::DeadlineExceeded));
    assert!(start.elapsed() < Duration::from_secs(6));
    timeout(GUARD, world.served.drain()).await.unwrap();
    world.fixture.assert_idle();
}
