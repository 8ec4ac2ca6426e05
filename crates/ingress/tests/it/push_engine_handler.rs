//! Engines that keep their sinks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_core::{Serialize, Serializer};
use sinew_ingress::{
    PushEngineHandler, ServedEndpoint, TrySendValueError, TypedPush, ValueRefused, ValueSink,
};
use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, Headers, ResponseSink, SingleIn, Terminal,
    TrySendError, push_engine_fn,
};
use tokio::time::{Instant, timeout};

use crate::support::{Consumer, Fixture, GUARD, NAME, due_in};

type Sinks = Arc<Mutex<Vec<(Bytes, ResponseSink)>>>;

/// An engine whose requests the test answers.
fn keeper(fixture: &Fixture) -> (ServedEndpoint, Sinks) {
    let sinks = Sinks::default();
    let keep = Arc::clone(&sinks);
    let engine = push_engine_fn(move |request: SingleIn<Bytes>, sink| {
        keep.lock().push((request.into_parts().0, sink));
        Ok(())
    });
    (fixture.serve(PushEngineHandler::new(engine)), sinks)
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_sink_has_an_end() {
    let fixture = Fixture::new();
    let (served, sinks) = keeper(&fixture);
    let call = fixture.call("body");
    assert_eq!((served.in_flight(), fixture.metric("ingress_in_flight_requests", "")), (1, 1));
    let (body, mut sink) = sinks.lock().pop().unwrap();
    assert_eq!(body, "body");
    sink.accept();
    assert!(call.with(|state| state.accepted));
    sink.try_send(Bytes::from("one")).unwrap();
    sink.send(Bytes::from("three")).await.unwrap();
    sink.complete();
    assert!(matches!(call.end().await, Terminal::Complete { items: 2 }));
    fixture.assert_idle();
    assert_eq!(fixture.metric("ingress_request_bytes_total", ""), 4);
    assert_eq!(fixture.metric("ingress_response_bytes_total", ""), 8);
    assert_eq!(fixture.metric("ingress_request_duration_seconds_count", ""), 1);
}

#[tokio::test]
async fn head_and_facts_reach_the_caller() {
    let fixture = Fixture::new();
    let (_served, sinks) = keeper(&fixture);
    let mut said = Headers::new();
    said.insert("model", "m").unwrap();
    let call = fixture.call("");
    let (_, mut sink) = sinks.lock().pop().unwrap();
    sink.head(said.clone()).unwrap();
    assert_eq!(
        call.with(|state| (state.head.clone(), state.flushes > 0)),
        (Some(said.clone()), true)
    );
    sink.send(Bytes::from("one")).await.unwrap();
    assert!(sink.head(said.clone()).is_err(), "an item went before it");
    sink.complete_with(said.clone());
    assert!(matches!(call.end().await, Terminal::Complete { items: 1 }));
    assert_eq!(call.with(|state| state.facts.clone()), said);
    fixture.assert_idle();
}

#[tokio::test]
async fn each_way_to_end_a_sink_reaches_the_caller_and_frees_the_place() {
    let fixture = Fixture::new();
    let (_served, sinks) = keeper(&fixture);
    let next = || {
        let call = fixture.call("");
        (call, sinks.lock().pop().unwrap().1)
    };
    let (call, sink) = next();
    sink.fail(Error::handler("boom"));
    assert_eq!(call.failure().await, (Code::HandlerFailed, Executed::Yes));
    let (call, sink) = next();
    sink.reject(Error::new(Code::Overloaded, "the batch is full"));
    assert_eq!(call.failure().await, (Code::Overloaded, Executed::No));
    let (call, sink) = next();
    drop(sink);
    assert_eq!(call.failure().await, (Code::HandlerGone, Executed::Yes));
    let (call, sink) = next();
    sink.cancelled(CancelReason::Disconnected);
    let reason = CancelReason::Disconnected;
    assert!(matches!(call.end().await, Terminal::Cancelled { reason: r } if r == reason));
    let counts = ["application", "resource", "transport", "protocol"].map(|c| fixture.errors(c));
    assert_eq!(counts, [2, 1, 1, 0]);
    fixture.assert_idle();
}

#[tokio::test]
async fn a_refusal_is_safe_to_resend_and_a_panic_stays_with_its_request() {
    let fixture = Fixture::new();
    let engine = push_engine_fn(|request: SingleIn<Bytes>, sink| {
        assert_ne!(request.data(), "panic", "this is the bug under test");
        Err(Box::new((Error::new(Code::Exhausted, "no slot is free"), sink)))
    });
    let _served = fixture.serve(PushEngineHandler::new(engine));
    assert_eq!(fixture.call("x").failure().await, (Code::Exhausted, Executed::No));
    assert_eq!(fixture.call("panic").failure().await, (Code::HandlerGone, Executed::Yes));
    assert_eq!(fixture.call("x").failure().await, (Code::Exhausted, Executed::No));
    fixture.assert_idle();
}

#[tokio::test]
async fn a_kill_ends_a_response_whose_engine_never_looks() {
    let fixture = Fixture::new();
    let (_served, sinks) = keeper(&fixture);
    let call = fixture.call("");
    call.context.stop();
    tokio::task::yield_now().await;
    assert!(!call.has_ended(), "a stop leaves the item in hand to the engine");
    call.context.kill();
    assert!(matches!(call.end().await, Terminal::Cancelled { reason: CancelReason::Caller }));
    fixture.assert_idle();

    let (_, mut sink) = sinks.lock().pop().unwrap();
    match sink.try_send(Bytes::from("late")) {
        Err(TrySendError::Closed(error)) => assert_eq!(error.code(), Code::Cancelled),
        other => panic!("{other:?}"),
    }
    sink.complete();
    call.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_response_and_wakes_who_waits_for_credit() {
    let fixture = Fixture::new();
    let (_served, sinks) = keeper(&fixture);
    let context = due_in(Duration::from_secs(5));
    let call = fixture.send(NAME, 1, "", Consumer::new(1, context));
    let (_, mut sink) = sinks.lock().pop().unwrap();
    sink.send(Bytes::from("one")).await.unwrap();
    let start = Instant::now();
    let error = timeout(GUARD, sink.send(Bytes::from("two"))).await.unwrap().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(6), "woken by the end, not by the guard");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let reason = CancelReason::DeadlineExceeded;
    assert!(matches!(call.end().await, Terminal::Cancelled { reason: r } if r == reason));
    assert_eq!(fixture.errors("application"), 1);
    fixture.assert_idle();
}

#[tokio::test]
async fn credit_is_the_callers_and_comes_through() {
    let fixture = Fixture::new();
    let (_served, sinks) = keeper(&fixture);
    let call = fixture.send(NAME, 1, "", Consumer::new(1, Context::new()));
    let (_, mut sink) = sinks.lock().pop().unwrap();
    sink.try_send(Bytes::from("a")).unwrap();
    assert!(matches!(sink.try_send(Bytes::from("b")), Err(TrySendError::Full(b)) if b == "b"));
    let sending = tokio::spawn(async move {
        sink.send(Bytes::from("b")).await.unwrap();
        sink.complete();
    });
    tokio::task::yield_now().await;
    assert!(!sending.is_finished());
    call.grant(1);
    assert!(matches!(call.end().await, Terminal::Complete { items: 2 }));
    assert_eq!(call.texts(), ["a", "b"]);
}

/// A value that may have no encoding.
struct Encodes(bool);

impl Serialize for Encodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            true => serializer.serialize_bool(true),
            false => Err(serde_core::ser::Error::custom("there is no such number")),
        }
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_does_not_look_like_a_stream_that_is_over() {
    let fixture = Fixture::new();
    let sinks = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&sinks);
    let accept = move |_: SingleIn<u32>, sink: ValueSink<Encodes>| {
        keep.lock().push(sink);
        Ok::<(), ValueRefused<Encodes>>(())
    };
    let _served = fixture.serve(PushEngineHandler::new(TypedPush::new(accept)));
    let call = fixture.call("1");
    let mut sink = sinks.lock().pop().unwrap();
    let error = sink.try_send(&Encodes(false)).unwrap_err();
    let TrySendValueError::Invalid(error) = error else { panic!("{error:?}") };
    assert_eq!(error.code(), Code::InvalidPayload);
    assert_eq!(sink.sent(), 0);
    sink.try_send(&Encodes(true)).unwrap();
    let gone = Error::new(Code::ConnectionLost, "the caller has gone");
    call.with(|state| state.refuse_items_with = Some(gone));
    let error = sink.try_send(&Encodes(true)).unwrap_err();
    assert!(matches!(error, TrySendValueError::Closed(_)), "{error:?}");
}
