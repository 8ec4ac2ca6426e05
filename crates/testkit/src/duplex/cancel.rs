//! A cancel reaches the handler, and the handler's end reaches the caller.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all};
use sinew_plane::{
    CancelReason, Code, Context, Headers, Outcome, RequestHandler, ResponseStream, StopKind, Window,
};

use crate::{
    Harness, Received, Reports, Served,
    handlers::{counting, echo, parked, spawned},
    payload::numbered,
    reports, request, within,
};

/// What a handler's context was like when the handler heard of the cancel.
#[derive(Debug)]
struct Heard {
    killed: bool,
    reason: Option<CancelReason>,
}

/// Sends as many items as the body says, waits for a stop, tells of it, and is gone.
fn listening() -> (Arc<dyn RequestHandler>, Reports<Heard>) {
    let (reporter, heard) = reports();
    let handler = spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            for number in 0..call.number() {
                if call.sink.send(numbered(number)).await.is_err() {
                    break;
                }
            }
            call.sink.accept();
            call.sink.flush();
            call.context.stopped().await;
            let heard = Heard { killed: call.context.is_killed(), reason: call.context.reason() };
            reporter.tell(heard);
        }
    });
    (handler, heard)
}

async fn hear(heard: &mut Reports<Heard>) -> Heard {
    heard.next("that the handler heard of the cancel").await
}

async fn start(served: &Served, body: &'static str, context: &Context) -> ResponseStream {
    let mut stream = served.open(request(body).with_context(context.clone())).await;
    let started = within("the start", stream.started()).await;
    assert!(started.is_ok(), "{started:?}");
    stream
}

#[track_caller]
fn assert_cancelled(received: &Received) {
    let by_caller = matches!(received.outcome, Outcome::Cancelled { reason: CancelReason::Caller });
    assert!(by_caller, "{:?}", received.outcome);
    assert_eq!(received.error.as_ref().map(|error| error.code()), Some(Code::Cancelled));
}

/// The handler hears a stop, not a kill, and its end is the acknowledgement.
pub async fn a_stop_reaches_the_handler_before_the_first_item(harness: &dyn Harness) {
    let (handler, mut heard) = listening();
    let served = harness.serve(handler).await;
    let context = Context::new();
    let mut stream = start(&served, "0", &context).await;
    context.stop();
    let heard = hear(&mut heard).await;
    assert!(!heard.killed, "a stop arrived as a kill");
    assert_eq!(heard.reason, Some(CancelReason::Caller));
    assert_cancelled(&Received::read(&mut stream).await);
}

/// Even one that has accepted nothing yet.
pub async fn a_kill_reaches_the_handler_before_the_first_item(harness: &dyn Harness) {
    let (reporter, mut entered) = reports();
    let handler = spawned(move |call| {
        reporter.tell(());
        async move {
            // All of the call: a block that names only its context would drop its sink at once.
            let call = call;
            call.context.killed().await;
        }
    });
    let served = harness.serve(handler).await;
    let context = Context::new();
    let mut stream = served.open(request("").with_context(context.clone())).await;
    entered.next("that the handler began").await;
    context.kill();
    let started = within("the end", stream.started()).await;
    assert_eq!(started.map_err(|error| error.code()), Err(Code::Cancelled));
    assert_cancelled(&Received::read(&mut stream).await);
}

/// The item in hand still arrives.
pub async fn a_stop_between_items_lets_the_handler_finish(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        if call.sink.send("first".into()).await.is_err() {
            return;
        }
        call.context.stopped().await;
        if call.sink.send("in hand".into()).await.is_ok() {
            call.sink.cancelled(CancelReason::Caller);
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    let first = within("the first item", stream.next()).await;
    assert_eq!(first.map(Result::ok), Some(Some("first".into())));
    stream.context().stop();
    let received = Received::read(&mut stream).await;
    assert_eq!(received.items, ["in hand"]);
    assert_cancelled(&received);
}

/// The handler hears it and the stream ends as cancelled.
pub async fn a_kill_between_items_ends_the_stream(harness: &dyn Harness) {
    let (handler, mut heard) = listening();
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("2")).await;
    for number in 0..2 {
        let item = within("an item", stream.next()).await;
        assert_eq!(item.map(Result::ok), Some(Some(numbered(number))));
    }
    stream.context().kill();
    assert!(hear(&mut heard).await.killed);
    assert_cancelled(&Received::read(&mut stream).await);
}

/// A stop is a request: the handler says how its stream ends.
pub async fn a_stopped_handler_may_still_complete(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        call.context.stopped().await;
        if call.sink.send("last".into()).await.is_ok() {
            call.sink.complete();
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    stream.context().stop();
    assert_eq!(Received::read(&mut stream).await.complete(), ["last"]);
}

/// Kill, then stop: still killed.
pub async fn a_kill_is_not_softened_by_a_stop(harness: &dyn Harness) {
    let (reporter, mut heard) = reports();
    let handler = spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            call.sink.accept();
            call.sink.flush();
            call.context.killed().await;
            reporter.tell(call.context.is_killed());
        }
    });
    let served = harness.serve(handler).await;
    let context = Context::new();
    let mut stream = start(&served, "", &context).await;
    context.kill();
    context.stop();
    assert!(heard.next("the kill").await);
    assert!(context.is_killed());
    assert_cancelled(&Received::read(&mut stream).await);
}

/// Stop, then kill: both are heard.
pub async fn a_stop_is_hardened_by_a_kill(harness: &dyn Harness) {
    let (reporter, mut heard) = reports();
    let handler = spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            call.sink.accept();
            call.sink.flush();
            call.context.stopped().await;
            reporter.tell("stopped");
            call.context.killed().await;
            reporter.tell("killed");
        }
    });
    let served = harness.serve(handler).await;
    let context = Context::new();
    let mut stream = start(&served, "", &context).await;
    context.stop();
    assert_eq!(heard.next("the stop").await, "stopped");
    context.kill();
    assert_eq!(heard.next("the kill").await, "killed");
    assert_cancelled(&Received::read(&mut stream).await);
}

/// A producer that tells how sending into a full window ended.
fn sending_forever() -> (Arc<dyn RequestHandler>, Reports<Code>) {
    let (reporter, ended) = reports();
    let handler = spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            let error = loop {
                if let Err(error) = call.sink.send("more".into()).await {
                    break error;
                }
            };
            reporter.tell(error.code());
        }
    });
    (handler, ended)
}

/// Nobody waits for credit after a kill.
pub async fn a_kill_frees_a_parked_producer(harness: &dyn Harness) {
    let (handler, mut ended) = sending_forever();
    let served = harness.serve(handler).await;
    let window = Window { items: 3, bytes: 1000 };
    let mut stream = served.open(request("").with_window(window)).await;
    assert!(within("the start", stream.started()).await.is_ok());
    stream.context().kill();
    assert_eq!(ended.next("that the producer was freed").await, Code::Cancelled);
    assert_cancelled(&Received::read(&mut stream).await);
}

/// Sending after a kill is refused, also with credit left.
pub async fn a_killed_stream_takes_no_more_items(harness: &dyn Harness) {
    let (reporter, mut refused) = reports();
    let handler = spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            call.sink.accept();
            call.sink.flush();
            call.context.killed().await;
            let sent = call.sink.send("late".into()).await;
            reporter.tell(sent.map_err(|error| error.code()));
        }
    });
    let served = harness.serve(handler).await;
    // One that is killed before it has begun may never run.
    let mut stream = start(&served, "", &Context::new()).await;
    stream.context().kill();
    assert_eq!(refused.next("how sending ended").await, Err(Code::Cancelled));
    let received = Received::read(&mut stream).await;
    assert!(received.items.is_empty());
    assert_cancelled(&received);
}

/// Dropping the stream kills the handler, the caller's context is left as it was.
pub async fn a_dropped_stream_cancels_its_handler(harness: &dyn Harness) {
    let (handler, mut heard) = listening();
    let served = harness.serve(handler).await;
    let context = Context::new();
    let mut stream = served.open(request("2").with_context(context.clone())).await;
    let first = within("the first item", stream.next()).await;
    assert!(first.is_some_and(|item| item.is_ok()));
    drop(stream);
    assert!(hear(&mut heard).await.killed);
    assert!(!context.is_stopped(), "the context may have other streams");
}

/// Also when nothing has come back yet.
pub async fn a_dropped_stream_cancels_its_handler_before_the_first_item(harness: &dyn Harness) {
    let (handler, mut heard) = listening();
    let served = harness.serve(handler).await;
    drop(served.open(request("0")).await);
    // A request whose stream is dropped at once may be withdrawn before it runs, so the case
    // asks for one that has begun.
    let stream = start(&served, "0", &Context::new()).await;
    drop(stream);
    assert!(hear(&mut heard).await.killed);
}

/// Also when the producer waits for credit.
pub async fn a_dropped_stream_frees_a_parked_producer(harness: &dyn Harness) {
    let (handler, mut ended) = sending_forever();
    let served = harness.serve(handler).await;
    let window = Window { items: 3, bytes: 1000 };
    let mut stream = served.open(request("").with_window(window)).await;
    assert!(within("the start", stream.started()).await.is_ok());
    drop(stream);
    assert_eq!(ended.next("that the producer was freed").await, Code::Cancelled);
}

/// The transport refuses the request, or the handler starts with a killed context. In both cases
/// the caller gets the error `Cancelled`.
pub async fn a_context_killed_before_the_call_never_completes(harness: &dyn Harness) {
    let served = harness.serve(parked()).await;
    let context = Context::new();
    context.kill();
    let error = served.refusal(request("0").with_context(context)).await;
    assert_eq!(error.code(), Code::Cancelled, "{error:?}");
}

/// Tries of one request share its context.
pub async fn one_context_cancels_all_its_streams(harness: &dyn Harness) {
    let (handler, mut heard) = listening();
    let served = harness.serve(handler).await;
    let context = Context::new();
    let mut first = start(&served, "0", &context).await;
    let mut second = start(&served, "1", &context).await;
    context.kill();
    for _ in 0..2 {
        assert!(hear(&mut heard).await.killed);
    }
    assert_cancelled(&Received::read(&mut first).await);
    assert_cancelled(&Received::read(&mut second).await);
}

/// The streams beside a cancelled one go on.
pub async fn a_cancel_leaves_other_streams_alone(harness: &dyn Harness) {
    let (handler, mut heard) = listening();
    let served = harness.serve(handler).await;
    let (left, right) = (Context::new(), Context::new());
    let mut cancelled = start(&served, "1", &left).await;
    let mut going = start(&served, "1", &right).await;
    left.kill();
    hear(&mut heard).await;
    assert_cancelled(&Received::read(&mut cancelled).await);
    let item = within("the other stream's item", going.next()).await;
    assert!(item.is_some_and(|item| item.is_ok()));
    // Both ran on one handler, so a cancel of the second that was wrong would be reported too.
    assert!(heard.is_empty(), "the other handler was cancelled");
    right.stop();
    assert!(!hear(&mut heard).await.killed);
}

/// A stop may be waited for: its caller has the end of the stream, with what its handler says of the
/// whole response. The items that came before are dropped and counted.
pub async fn a_stop_is_answered_by_the_end_of_the_stream(harness: &dyn Harness) {
    is_answered(harness, StopKind::Stop).await;
}

/// A kill is answered in the same way, and drops what was not sent.
pub async fn a_kill_is_answered_by_the_end_of_the_stream(harness: &dyn Harness) {
    is_answered(harness, StopKind::Kill).await;
}

async fn is_answered(harness: &dyn Harness, kind: StopKind) {
    let handler = spawned(|mut call| async move {
        for number in 0..call.number() {
            // A kill may come here already; the end is told behind it all the same.
            if call.sink.send(numbered(number)).await.is_err() {
                break;
            }
        }
        call.sink.flush();
        call.context.stopped().await;
        let mut facts = Headers::new();
        assert!(facts.insert("tokens", "7").is_ok());
        call.sink.set_facts(facts);
        let reason = call.context.reason().unwrap_or(CancelReason::Caller);
        call.sink.cancelled(reason);
    });
    let served = harness.serve(handler).await;
    for (items, sent) in [("0", 0), ("5", 5)] {
        let mut stream = served.open(request(items)).await;
        // A request that is killed before it has started may end without a word of its handler.
        assert!(within("the start", stream.started()).await.is_ok());
        if sent > 0 {
            assert_eq!(within("an item", stream.next()).await.map(|it| it.is_ok()), Some(true));
        }
        let taken = stream.received();
        let ended = within("the end", stream.cancel(kind)).await;
        let Ok(ended) = ended else { panic!("{ended:?}") };
        let by_caller =
            matches!(ended.outcome, Outcome::Cancelled { reason: CancelReason::Caller });
        assert!(by_caller, "{:?}", ended.outcome);
        let received = stream.received();
        assert_eq!(received, taken + ended.dropped);
        assert!(if kind == StopKind::Stop { received == sent } else { received <= sent });
        assert_eq!(stream.facts().get("tokens"), Some("7"), "with {items} items");
        assert!(within("the end", stream.next()).await.is_none());
    }
}

/// A stop or a kill after the end of a stream does not change its outcome.
pub async fn a_cancel_after_the_end_changes_nothing(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    let mut stream = served.open(request("3")).await;
    assert_eq!(Received::read(&mut stream).await.complete().len(), 3);
    stream.context().stop();
    stream.context().kill();
    assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 3 })));
    drop(stream);
    assert_eq!(served.call(request("3")).await.complete().len(), 3);
}

/// 200 streams dropped at different points: each handler hears it, and the server can shut down
/// without cutting anything.
pub async fn many_dropped_streams_leave_nothing_behind(harness: &dyn Harness) {
    let (handler, mut heard) = listening();
    let served = harness.serve(handler).await;
    let served_ref = &served;
    let read_some = |number: u64| async move {
        let mut stream = served_ref.open(request((number % 4).to_string())).await;
        assert!(within("the start", stream.started()).await.is_ok());
        for _ in 0..number % 3 {
            // An item or not: the stream is dropped either way.
            drop(futures_util::poll!(stream.next()));
        }
    };
    join_all((0..200).map(read_some)).await;
    for _ in 0..200 {
        assert!(hear(&mut heard).await.killed);
    }
    let other = harness.serve(echo()).await;
    other.call(request("x")).await.complete();
    let cut = within("the shutdown", served.server.shutdown(Duration::from_secs(15))).await;
    assert_eq!(cut.cut_streams, 0, "dropped streams were left behind");
}
