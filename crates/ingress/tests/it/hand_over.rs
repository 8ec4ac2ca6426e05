//! Responses that a drain hands over to other instances.

use std::time::Duration;

use sinew_ingress::{EndpointConfig, Ingress, RawHandler};
use sinew_plane::{Code, Context, Continuation, Executed, ResponseSink, Terminal};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use crate::support::Fixture;

const GUARD: Duration = Duration::from_secs(20);

fn declares(continuation: Continuation) -> EndpointConfig {
    EndpointConfig { continuation, ..EndpointConfig::default() }
}

/// What the handler of a test has in its hands.
type Running = (Context, ResponseSink);

/// A handler that hands each request to the test.
fn handing(
    to: UnboundedSender<Running>,
) -> RawHandler<impl Fn(sinew_ingress::IncomingOwned, ResponseSink) -> std::future::Ready<()>> {
    RawHandler::new(move |request, sink| {
        to.send((request.context, sink)).unwrap();
        std::future::ready(())
    })
}

async fn next(running: &mut UnboundedReceiver<Running>) -> Running {
    timeout(GUARD, running.recv()).await.unwrap().unwrap()
}

fn is_handed_over(end: &Terminal) -> bool {
    matches!(end, Terminal::Failed { error }
        if error.code() == Code::HandedOver && error.executed() == Executed::Yes)
}

#[tokio::test]
async fn a_response_that_can_be_made_again_is_handed_over_at_once() {
    let fixture = Fixture::new();
    let (to, mut running) = unbounded_channel();
    let served = fixture.serve_as(1, declares(Continuation::Replayable), handing(to));
    let call = fixture.call("1");
    let (context, mut sink) = next(&mut running).await;
    sink.send("a".into()).await.unwrap();
    let drained = tokio::spawn(async move { served.drain_within(GUARD).await });
    assert!(is_handed_over(&call.end().await));
    assert_eq!(call.texts(), ["a"], "what was sent has come");
    timeout(GUARD, context.killed()).await.unwrap();
    assert!(sink.send("b".into()).await.is_err());
    drop(sink);
    let drained = timeout(GUARD, drained).await.unwrap().unwrap();
    assert_eq!(drained.to_string(), "0 finished, 1 handed over, 0 cut");
    fixture.assert_idle();
}

#[tokio::test]
async fn a_handler_with_checkpoints_is_asked_for_one_and_handed_over_behind_it() {
    let fixture = Fixture::new();
    let (to, mut running) = unbounded_channel();
    let served = fixture.serve_as(1, declares(Continuation::Checkpoint), handing(to));
    let (covered, asked) = (fixture.call("1"), fixture.call("2"));
    let (_, mut sink) = next(&mut running).await;
    sink.checkpoint("state").unwrap();
    sink.send("a".into()).await.unwrap();
    let (context, mut slow) = next(&mut running).await;
    slow.checkpoint("state").unwrap();
    slow.send("a".into()).await.unwrap();
    slow.send("b".into()).await.unwrap();
    let drained = tokio::spawn(async move { served.drain_within(GUARD).await });
    assert!(is_handed_over(&covered.end().await), "its checkpoint covers all");
    timeout(GUARD, context.checkpoint_wanted()).await.unwrap();
    slow.send("c".into()).await.unwrap();
    assert!(!context.is_killed());
    context.checkpoint("state behind d").unwrap();
    slow.send("d".into()).await.unwrap();
    assert!(is_handed_over(&asked.end().await));
    assert_eq!(asked.texts(), ["a", "b", "c", "d"]);
    let newest = asked.with(|state| state.checkpoints.last().unwrap().0.clone());
    assert_eq!((newest.items, &newest.state[..]), (4, &b"state behind d"[..]));
    timeout(GUARD, context.killed()).await.unwrap();
    drop((sink, slow));
    let drained = timeout(GUARD, drained).await.unwrap().unwrap();
    assert_eq!(drained.to_string(), "0 finished, 2 handed over, 0 cut");
    fixture.assert_idle();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_no_checkpoint_in_time_is_handed_over_all_the_same() {
    let fixture = Fixture::new();
    let (to, mut running) = unbounded_channel();
    let config = EndpointConfig {
        checkpoint_wait: Duration::from_secs(3),
        ..declares(Continuation::Checkpoint)
    };
    let served = fixture.serve_as(1, config, handing(to));
    let call = fixture.call("1");
    let (context, mut sink) = next(&mut running).await;
    sink.send("a".into()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let drained = tokio::spawn(async move { served.drain_within(GUARD).await });
    assert!(is_handed_over(&call.end().await));
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    assert!(context.is_killed());
    drop(sink);
    let drained = drained.await.unwrap();
    assert_eq!(drained.to_string(), "0 finished, 1 handed over, 0 cut");
}

#[tokio::test]
async fn what_declares_nothing_finishes_and_what_has_ended_is_not_handed_over() {
    let fixture = Fixture::new();
    let (to, mut running) = unbounded_channel();
    let served = fixture.serve_as(1, declares(Continuation::None), handing(to.clone()));
    let other = fixture.serve_as(2, declares(Continuation::Replayable), handing(to));
    let call = fixture.call("1");
    let (context, mut sink) = next(&mut running).await;
    let ended = fixture.send(
        crate::support::NAME,
        2,
        "1",
        crate::support::Consumer::new(9, Context::new()),
    );
    let (over, done) = next(&mut running).await;
    done.complete();
    assert!(matches!(ended.end().await, Terminal::Complete { items: 0 }));
    assert_eq!(other.drain_within(GUARD).await, sinew_ingress::Drained::default());
    assert!(!over.is_stopped(), "its context is its own affair");
    let drained = tokio::spawn(async move { served.drain_within(GUARD).await });
    tokio::task::yield_now().await;
    assert!(!context.is_stopped());
    sink.send("a".into()).await.unwrap();
    sink.complete();
    assert!(matches!(call.end().await, Terminal::Complete { items: 1 }));
    let drained = timeout(GUARD, drained).await.unwrap().unwrap();
    assert_eq!(drained.to_string(), "1 finished, 0 handed over, 0 cut");
}

#[tokio::test]
async fn the_shutdown_of_a_process_hands_over_too() {
    let fixture = Fixture::new();
    let (to, mut running) = unbounded_channel();
    let _served = fixture.serve_as(1, declares(Continuation::Replayable), handing(to));
    let call = fixture.call("1");
    let (context, sink) = next(&mut running).await;
    let ingress: Ingress = fixture.ingress.clone();
    let drained = tokio::spawn(async move { ingress.shutdown(GUARD).await });
    assert!(is_handed_over(&call.end().await));
    timeout(GUARD, context.killed()).await.unwrap();
    drop(sink);
    let drained = timeout(GUARD, drained).await.unwrap().unwrap();
    assert_eq!(drained.to_string(), "0 finished, 1 handed over, 0 cut");
}

#[tokio::test(start_paused = true)]
async fn a_short_grace_hands_over_too_and_a_handler_that_ends_late_is_not_cut() {
    let fixture = Fixture::new();
    let (to, mut running) = unbounded_channel();
    let served = fixture.serve_as(1, declares(Continuation::Checkpoint), handing(to));
    let call = fixture.call("1");
    let (context, mut sink) = next(&mut running).await;
    sink.send("a".into()).await.unwrap();
    let grace = Duration::from_secs(1);
    let begun = tokio::time::Instant::now();
    let drained = tokio::spawn(async move { served.drain_within(grace).await });
    assert!(is_handed_over(&call.end().await));
    assert_eq!(begun.elapsed(), grace / 2);
    // It holds on to its sink beyond the grace.
    let drained = drained.await.unwrap();
    assert_eq!(drained.to_string(), "0 finished, 1 handed over, 0 cut");
    assert!(context.is_killed());
    drop(sink);
    fixture.assert_idle();
}
