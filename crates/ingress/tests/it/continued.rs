//! Continued requests, and the checkpoints of their handlers.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sinew_ingress::{
    EndpointConfig, Ingress, IngressConfig, PushEngineHandler, PushHandler, RawHandler, TypedPush,
    ValueSink,
};
use sinew_plane::{
    AsyncEngine, Checkpoint, Code, Context, Continuation, Error, Executed, Headers, SingleIn,
    StopKind, Terminal, engine_fn, header,
};

use crate::support::{Consumer, Fixture};

fn declares(continuation: Continuation) -> EndpointConfig {
    EndpointConfig { continuation, ..EndpointConfig::default() }
}

fn with_header(name: &str, value: &str) -> Context {
    let mut headers = Headers::new();
    headers.insert(name, value).unwrap();
    Context::builder().headers(headers).build()
}

/// Counts to the number of the request, from where it was continued, with a checkpoint at every third
/// item: the last number.
fn count() -> impl AsyncEngine<u32, u32> {
    engine_fn(|request: SingleIn<u32>| async move {
        let (last, context) = request.into_parts();
        let begin = match context.continued() {
            Some(continued) => {
                let state: [u8; 4] = continued.checkpoint.as_deref().unwrap().try_into().unwrap();
                let begin = u32::from_be_bytes(state);
                assert_eq!(continued.items, u64::from(begin));
                begin
            }
            None => 0,
        };
        Ok::<_, Error>(stream::iter(begin + 1..=last).map(move |number| {
            if number % 3 == 0 {
                context.checkpoint(number.to_be_bytes().to_vec())?;
            }
            Ok(number)
        }))
    })
}

fn state(number: u32) -> Bytes {
    number.to_be_bytes().to_vec().into()
}

#[tokio::test]
async fn a_continued_request_begins_where_its_checkpoint_says() {
    let fixture = Fixture::new();
    let _served =
        fixture.serve_as(1, declares(Continuation::Checkpoint), PushHandler::new(count()));
    let new = fixture.call("7");
    assert!(matches!(new.end().await, Terminal::Complete { items: 7 }));
    assert_eq!(new.texts(), ["1", "2", "3", "4", "5", "6", "7"]);

    let context = with_header(header::CONTINUE_AT, "3;checkpoint=4");
    let continued = fixture.call_with([&state(3)[..], b"7"].concat(), context);
    assert!(matches!(continued.end().await, Terminal::Complete { items: 4 }));
    assert_eq!(continued.texts(), ["4", "5", "6", "7"]);
    fixture.assert_idle();
}

#[tokio::test]
async fn the_newest_checkpoint_of_a_run_is_sent_behind_it_with_the_items_that_it_covers() {
    let fixture = Fixture::new();
    let _served =
        fixture.serve_as(1, declares(Continuation::Checkpoint), PushHandler::new(count()));
    // The first item goes alone, and the others in one run.
    let call = fixture.call("8");
    call.end().await;
    let sent = call.with(|state| state.checkpoints.clone());
    assert_eq!(sent, [(Checkpoint { items: 6, state: state(6) }, 8)]);

    // One item at a time.
    let call = fixture.send(crate::support::NAME, 1, "7", Consumer::new(1, Context::new()));
    for items in 1..=7 {
        call.until(|state| state.items.len() == items).await;
        call.grant(1);
    }
    call.end().await;
    let sent = call.with(|state| state.checkpoints.clone());
    let expected = [3, 6].map(|items: u32| {
        (Checkpoint { items: items.into(), state: state(items) }, items as usize)
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn handlers_that_own_their_sink_attach_checkpoints_to_the_item_that_follows() {
    let fixture = Fixture::new();
    let raw = RawHandler::new(|request, mut sink| async move {
        let context = request.context;
        for item in ["a", "b", "c"] {
            if item == "b" {
                context.checkpoint("behind b").unwrap();
            }
            sink.send(item.into()).await.unwrap();
        }
        sink.complete();
    });
    let _raw = fixture.serve_as(1, declares(Continuation::Checkpoint), raw);
    let push = TypedPush::new(|request: SingleIn<u32>, mut sink: ValueSink<u32>| {
        let context = request.context().clone();
        for number in 0..3 {
            if number == 1 {
                context.checkpoint("behind b").unwrap();
            }
            sink.try_send(&number).unwrap();
        }
        sink.complete();
        Ok(())
    });
    let push = PushEngineHandler::new(push);
    let _push = fixture.serve_as(2, declares(Continuation::Checkpoint), push);
    for instance in [1, 2] {
        let consumer = Consumer::new(usize::MAX, Context::new());
        let call = fixture.send(crate::support::NAME, instance, "1", consumer);
        call.end().await;
        let sent = call.with(|state| state.checkpoints.clone());
        // Handed to the transport in front of its item, behind which it is sent.
        assert_eq!(sent, [(Checkpoint { items: 2, state: "behind b".into() }, 1)]);
    }
}

#[tokio::test]
async fn a_malformed_or_unexpected_continuation_is_refused_before_anything_runs() {
    let fixture = Fixture::new();
    let never = || {
        engine_fn(|_: SingleIn<u32>| async {
            panic!("it must not run");
            #[allow(unreachable_code, reason = "it says what the stream would be")]
            Ok::<_, Error>(stream::empty::<Result<u32, Error>>())
        })
    };
    let _one = fixture.serve_as(1, declares(Continuation::Checkpoint), PushHandler::new(never()));
    let _two = fixture.serve_as(2, declares(Continuation::Replayable), PushHandler::new(never()));
    for (instance, value, body) in [
        (1, "x", "1"),
        (1, "3;checkpoint=2", "1"),
        (1, "3;checkpoint=0", "1"),
        (1, "3;checkpoint=1", "1"), // Leaves no request.
        (2, "3;checkpoint=1", "11"),
        (2, "3", "1"),
    ] {
        let consumer = Consumer::new(usize::MAX, with_header(header::CONTINUE_AT, value));
        let call = fixture.send(crate::support::NAME, instance, body, consumer);
        let failure = call.failure().await;
        assert_eq!(failure, (Code::InvalidPayload, Executed::No), "{instance} {value}");
    }
    fixture.assert_idle();
    assert_eq!(fixture.errors("protocol"), 6);
}

#[tokio::test]
async fn the_header_does_not_reach_the_handler_and_cancels_pass_both_ways() {
    let fixture = Fixture::new();
    let (contexts, mut running) = tokio::sync::mpsc::channel(2);
    let raw = RawHandler::new(move |request, sink| {
        let contexts = contexts.clone();
        async move {
            contexts.send((request.context.clone(), request.body)).await.unwrap();
            request.context.stopped().await;
            sink.cancelled(request.context.reason().unwrap());
        }
    });
    let _served = fixture.serve_as(1, declares(Continuation::Checkpoint), raw);
    let mut headers = Headers::new();
    headers.insert(header::CONTINUE_AT, "9;checkpoint=2").unwrap();
    headers.insert("kept", "yes").unwrap();
    let caller = Context::builder().headers(headers).build();
    let call = fixture.call_with("ab{}", caller.clone());
    let (context, body) = running.recv().await.unwrap();
    assert_eq!(body, "{}");
    assert_eq!(context.id(), caller.id());
    assert_eq!(context.headers().iter().collect::<Vec<_>>(), [("kept", "yes")]);
    assert_eq!(context.received_headers(), Some(context.headers()));
    let continued = context.child().continued().cloned().unwrap();
    assert_eq!((continued.items, continued.checkpoint.unwrap()), (9, Bytes::from_static(b"ab")));
    caller.cancel(StopKind::Stop, sinew_plane::CancelReason::Caller);
    assert!(matches!(call.end().await, Terminal::Cancelled { .. }));

    let call = fixture.call("{}");
    let (context, _) = running.recv().await.unwrap();
    assert_eq!(context.continued(), None);
    context.kill();
    assert!(call.context.is_killed());
    call.end().await;
}

#[tokio::test]
async fn a_call_within_the_process_has_no_checkpoints_of_its_callers_own_request() {
    let ingress = Ingress::new(IngressConfig::default());
    let looks = engine_fn(|request: SingleIn<u32>| async move {
        assert!(request.context().checkpoints().is_none());
        request.context().checkpoint("nowhere").unwrap();
        assert!(!request.context().is_checkpoint_wanted());
        Ok::<_, Error>(stream::iter([Ok(1_u32)]))
    });
    let served = ingress.serve(
        "a/b/c".parse().unwrap(),
        sinew_plane::InstanceId(1),
        declares(Continuation::Checkpoint),
        PushHandler::new(looks),
    );
    let engine = served.local_engine::<u32, u32>().unwrap();
    let outer = Context::new().replaced(Headers::new(), Some(sinew_plane::Checkpoints::new(None)));
    let request = SingleIn::with_context(1, outer.child());
    let values: Vec<_> = engine.generate(request).await.unwrap().collect().await;
    assert_eq!(values.len(), 1);
    assert_eq!(outer.checkpoints().unwrap().take(), None);
}
