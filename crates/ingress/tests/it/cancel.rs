//! Stop, kill and deadline, before the first item and after it.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use sinew_ingress::PushHandler;
use sinew_plane::{
    AsyncEngine, CancelReason, Code, Context, Error, Executed, SingleIn, Terminal, engine_fn,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::support::{Consumer, Fixture, GUARD, NAME, due_in};

/// Says on a channel when it is dropped.
struct Trace(mpsc::UnboundedSender<()>);

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// An engine that emits one item for each permit, without end, and tells when its stream is
/// dropped.
fn stepped(
    steps: &Arc<Semaphore>,
) -> (impl AsyncEngine<u32, u32> + use<>, mpsc::UnboundedReceiver<()>) {
    let (dropped, drops) = mpsc::unbounded_channel();
    let steps = Arc::clone(steps);
    let engine = engine_fn(move |_: SingleIn<u32>| {
        let (steps, trace) = (Arc::clone(&steps), Trace(dropped.clone()));
        async move {
            Ok::<_, Error>(stream::unfold((0, steps, trace), |(n, steps, trace)| async move {
                steps.acquire().await.ok()?.forget();
                Some((Ok(n), (n + 1, steps, trace)))
            }))
        }
    });
    (engine, drops)
}

#[track_caller]
fn assert_cancelled(terminal: &Terminal, expected: CancelReason) {
    match terminal {
        Terminal::Cancelled { reason } if *reason == expected => {}
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

async fn dropped(drops: &mut mpsc::UnboundedReceiver<()>) {
    timeout(GUARD, drops.recv()).await.expect("the engine's stream is dropped");
}

#[tokio::test]
async fn a_kill_drops_the_stream_before_and_after_the_first_item() {
    for items in [0, 2] {
        let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(items)));
        let (engine, mut drops) = stepped(&steps);
        let _served = fixture.serve(PushHandler::new(engine));
        let call = fixture.call("1");
        call.until(|state| state.seen == items && (items > 0 || state.accepted)).await;
        call.context.kill();
        assert_cancelled(&call.end().await, CancelReason::Caller);
        dropped(&mut drops).await;
        assert_eq!(call.with(|state| state.items.len()), items);
        fixture.assert_idle();
        assert_eq!(fixture.errors("application"), 0, "a caller that changed its mind is no error");
    }
}

#[tokio::test]
async fn a_kill_ends_an_engine_that_never_begins() {
    let fixture = Fixture::new();
    let engine = engine_fn(|_: SingleIn<u32>| async {
        std::future::pending::<()>().await;
        Ok::<_, Error>(stream::empty::<Result<u32, Error>>())
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call("1");
    tokio::task::yield_now().await;
    call.context.kill();
    assert_cancelled(&call.end().await, CancelReason::Caller);
    fixture.assert_idle();
}

#[tokio::test]
async fn a_kill_ends_a_request_that_waits_for_credit() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(10)));
    let (engine, mut drops) = stepped(&steps);
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.send(NAME, 1, "1", Consumer::new(3, Context::new()));
    call.until(|state| state.seen == 3).await;
    call.context.kill();
    assert_cancelled(&call.end().await, CancelReason::Caller);
    dropped(&mut drops).await;
    fixture.assert_idle();
}

#[tokio::test]
async fn a_kill_is_seen_by_an_engine_that_is_always_ready() {
    let fixture = Fixture::new();
    let engine = engine_fn(|_: SingleIn<u32>| async {
        Ok::<_, Error>(stream::iter((0..200_000_u32).map(Ok)))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    // On this one thread the kill comes before the end only if the engine's task yields.
    let call = fixture.call("1");
    call.until(|state| !state.items.is_empty()).await;
    call.context.kill();
    assert_cancelled(&call.end().await, CancelReason::Caller);
}

#[tokio::test]
async fn a_stop_sends_the_item_in_hand_and_no_other() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(1)));
    let (engine, mut drops) = stepped(&steps);
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call("1");
    call.until(|state| state.seen == 1).await;
    call.context.stop();
    // The engine works on the second item; the stop lets it.
    tokio::task::yield_now().await;
    assert!(!call.has_ended());
    steps.add_permits(5);
    assert_cancelled(&call.end().await, CancelReason::Caller);
    assert_eq!(call.texts(), ["0", "1"]);
    dropped(&mut drops).await;
    assert_eq!(steps.available_permits(), 4, "the third item was not asked for");
    fixture.assert_idle();
}

#[tokio::test]
async fn a_stop_between_two_items_ends_at_once() {
    let fixture = Fixture::new();
    // Never pending, so at the time of the stop no item is in hand.
    let engine = engine_fn(|request: SingleIn<u32>| async move {
        let context = request.context().clone();
        Ok::<_, Error>(stream::iter(0..100_u32).map(move |n| {
            if n == 2 {
                context.stop();
            }
            Ok(n)
        }))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call("1");
    assert_cancelled(&call.end().await, CancelReason::Caller);
    assert_eq!(call.texts(), ["0", "1", "2"]);
}

#[tokio::test]
async fn an_engine_that_heeds_the_stop_ends_as_cancelled_too() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<u32>| async move {
        let context = request.context().clone();
        let end = async move {
            context.stopped().await;
            stream::empty()
        };
        Ok::<_, Error>(stream::iter([Ok(1_u32)]).chain(stream::once(end).flatten()))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call("1");
    call.until(|state| state.seen == 1).await;
    call.context.stop();
    assert_cancelled(&call.end().await, CancelReason::Caller);
}

#[tokio::test]
async fn a_kill_behind_a_stop_does_not_wait_for_the_item_in_hand() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(0)));
    let (engine, mut drops) = stepped(&steps);
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call("1");
    call.until(|state| state.accepted).await;
    call.context.stop();
    call.context.kill();
    assert_cancelled(&call.end().await, CancelReason::Caller);
    dropped(&mut drops).await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_before_and_after_the_first_item() {
    for items in [0, 3] {
        let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(items)));
        let (engine, mut drops) = stepped(&steps);
        let _served = fixture.serve(PushHandler::new(engine));
        let start = tokio::time::Instant::now();
        let context = due_in(Duration::from_secs(5));
        let call = fixture.call_with("1", context);
        assert_cancelled(&call.end().await, CancelReason::DeadlineExceeded);
        let waited = start.elapsed();
        assert!(waited < Duration::from_millis(5_250), "ended {waited:?} behind the start");
        dropped(&mut drops).await;
        assert_eq!(call.with(|state| (state.items.len(), state.seen)), (items, items));
        assert_eq!(call.context.reason(), Some(CancelReason::DeadlineExceeded));
        assert_eq!(fixture.errors("application"), 1);
        fixture.assert_idle();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_too_late_is_refused_unexecuted() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(1)));
    let _served = fixture.serve(PushHandler::new(stepped(&steps).0));
    let context = due_in(Duration::from_secs(1));
    tokio::time::advance(Duration::from_secs(2)).await;
    let call = fixture.call_with("1", context);
    assert!(call.has_ended(), "refused on the spot");
    assert_eq!(call.failure().await, (Code::DeadlineExceeded, Executed::No));
    assert_eq!(steps.available_permits(), 1);
    fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_ended_is_forgotten_by_the_timer() {
    let fixture = Fixture::new();
    let engine = engine_fn(|_: SingleIn<u32>| async { Ok::<_, Error>(stream::iter([Ok(1_u32)])) });
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call_with("1", due_in(Duration::from_secs(5)));
    assert!(matches!(call.end().await, Terminal::Complete { .. }));
    // Ended later than the first's deadline, by the same timer.
    let never = engine_fn(|_: SingleIn<u32>| async {
        std::future::pending::<()>().await;
        Ok::<_, Error>(stream::empty::<Result<u32, Error>>())
    });
    let _served = fixture.serve(PushHandler::new(never));
    let late = fixture.call_with("1", due_in(Duration::from_secs(6)));
    assert_cancelled(&late.end().await, CancelReason::DeadlineExceeded);
    assert!(!call.context.is_stopped());
}
