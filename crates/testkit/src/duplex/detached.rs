//! What happens to a stream while it has no connection.

use futures_util::StreamExt;
use sinew_plane::{Code, Error, Headers, Outcome};

use super::resume::{handing, rest, serve, take};
use crate::{
    Cut, Harness, Received, Way, handlers::Call, payload::numbered, request, until, within,
};

/// Cuts what there is, and keeps new connections from being made until the way is released.
async fn take_away(way: &dyn Way) {
    let made = way.made();
    way.hold();
    way.cut(Cut::Fin);
    until("another connection, which is held", || way.made() > made).await;
}

async fn send(call: &mut Call, number: u64) {
    let sent = within("an item to be sent", call.sink.send(numbered(number))).await;
    assert!(sent.is_ok(), "{sent:?}");
}

/// The handler goes on, and its items and its end are kept.
pub async fn what_is_sent_without_a_connection_arrives(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    send(&mut call, 0).await;
    take(&mut stream, 0).await;
    take_away(&*way).await;
    for number in 1..100 {
        send(&mut call, number).await;
    }
    call.sink.complete();
    way.release();
    rest(&mut stream, 1, 100).await;
}

/// A terminal that left and did not arrive is not the end of the matter.
pub async fn a_terminal_that_was_lost_comes_again(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    for how in [Cut::Fin, Cut::Reset] {
        let mut stream = served.open(request("")).await;
        let mut call = calls.next("the call").await;
        send(&mut call, 0).await;
        take(&mut stream, 0).await;
        // From here on what the server writes is swallowed.
        way.cut(Cut::Silence);
        send(&mut call, 1).await;
        call.sink.complete();
        way.cut(how);
        rest(&mut stream, 1, 2).await;
    }
}

/// Whole: its code, its message, and the items before it.
pub async fn an_error_without_a_connection_arrives(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    take_away(&*way).await;
    send(&mut call, 0).await;
    call.sink.fail(Error::new(Code::HandlerFailed, "it broke"));
    way.release();
    take(&mut stream, 0).await;
    let received = Received::read(&mut stream).await;
    let error = received.failed();
    assert_eq!((error.code(), error.message()), (Code::HandlerFailed, "it broke"));
}

/// A head that was set before a cut, and one that is set behind it; the facts with the end.
pub async fn the_head_and_the_facts_survive(harness: &dyn Harness) {
    let mut told = Headers::new();
    assert!(told.insert("model", "m").is_ok());
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    for is_late in [false, true] {
        let mut stream = served.open(request("")).await;
        let mut call = calls.next("the call").await;
        if !is_late {
            assert!(call.sink.head(told.clone()).is_ok());
            assert!(within("the start", stream.started()).await.is_ok());
        }
        take_away(&*way).await;
        if is_late {
            assert!(call.sink.head(told.clone()).is_ok());
        }
        send(&mut call, 0).await;
        call.sink.complete_with(told.clone());
        way.release();
        let head = within("the head", stream.head()).await;
        assert_eq!(head.as_ref().ok(), Some(&told), "{head:?}");
        rest(&mut stream, 0, 1).await;
        assert_eq!(stream.facts(), told);
    }
}

/// It goes with the attach.
pub async fn a_stop_without_a_connection_reaches_the_handler(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    send(&mut call, 0).await;
    take(&mut stream, 0).await;
    take_away(&*way).await;
    stream.context().stop();
    way.release();
    within("the stop", call.context.stopped()).await;
    assert!(!call.context.is_killed(), "a stop arrived as a kill");
    send(&mut call, 1).await;
    call.sink.complete();
    rest(&mut stream, 1, 2).await;
}

/// It goes with the attach, and the terminal acknowledges it.
pub async fn a_kill_without_a_connection_reaches_the_handler(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    send(&mut call, 0).await;
    take(&mut stream, 0).await;
    take_away(&*way).await;
    stream.context().kill();
    way.release();
    within("the kill", call.context.killed()).await;
    drop(call);
    let received = Received::read(&mut stream).await;
    assert!(matches!(received.outcome, Outcome::Cancelled { .. }), "{:?}", received.outcome);
}

/// Nobody waits for the grace to be over: the handler is told as soon as there is a connection.
pub async fn a_stream_dropped_without_a_connection_cancels_its_handler(harness: &dyn Harness) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    send(&mut call, 0).await;
    take(&mut stream, 0).await;
    take_away(&*way).await;
    drop(stream);
    way.release();
    within("the kill", call.context.killed()).await;
}

/// When the grace is over the caller knows how many items it has, and that the end is missing; the
/// handler is cancelled, and what it still sends is refused.
pub async fn a_stream_that_stays_alone_is_truncated_and_its_handler_cancelled(
    harness: &dyn Harness,
) {
    let (handler, mut calls) = handing();
    let (served, way) = serve(harness, handler).await;
    let mut stream = served.open(request("")).await;
    let mut call = calls.next("the call").await;
    for number in 0..3 {
        send(&mut call, number).await;
        take(&mut stream, number).await;
    }
    take_away(&*way).await;
    send(&mut call, 3).await;
    let end = within("the end", stream.next()).await;
    let error = match end {
        Some(Err(error)) => error,
        other => panic!("{other:?} came without a connection"),
    };
    assert_eq!(error.code(), Code::Truncated, "{error:?}");
    let outcome = stream.outcome();
    assert!(matches!(outcome, Some(Outcome::Truncated { received: 3 })), "{outcome:?}");
    within("the handler to be cancelled", call.context.killed()).await;
    assert!(within("the refusal", call.sink.send(numbered(4))).await.is_err());
    way.release();
}
