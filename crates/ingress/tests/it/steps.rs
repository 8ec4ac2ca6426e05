//! The six steps of a pull engine: each as it should be, and each failing.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as Poller, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use sinew_ingress::PushHandler;
use sinew_plane::{
    AsyncEngine, BodyEnd, BodySource, BoxStream, CancelReason, Code, Context, Error, Executed,
    Headers, ManyOut, Next, SingleIn, Terminal, engine_fn, header,
};
use tokio::sync::Semaphore;

use crate::support::{Consumer, Fixture, NAME, due_in};

type Items<T> = BoxStream<'static, Result<T, Error>>;

fn count_to() -> impl AsyncEngine<u32, u32> {
    engine_fn(|request: SingleIn<u32>| async move {
        Ok::<_, Error>(stream::iter((1..=*request.data()).map(Ok)))
    })
}

fn content_type(value: &str) -> Context {
    let mut headers = Headers::new();
    headers.insert(header::CONTENT_TYPE, value).unwrap();
    Context::builder().headers(headers).build()
}

/// An engine that counts its runs and answers nothing.
fn counted(runs: &Arc<AtomicUsize>) -> impl AsyncEngine<u32, u32> + use<> {
    let runs = Arc::clone(runs);
    engine_fn(move |_: SingleIn<u32>| {
        runs.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Error>(stream::empty()) }
    })
}

#[tokio::test]
async fn a_request_goes_through_all_steps_and_is_counted() {
    let fixture = Fixture::new();
    let _served = fixture.serve(PushHandler::new(count_to()));
    let call = fixture.call("12");
    assert!(matches!(call.end().await, Terminal::Complete { items: 12 }));
    assert_eq!(call.texts()[10..], ["11", "12"]);
    assert_eq!(call.with(|state| (state.flushes, state.accepted)), (1, false), "one write in all");

    fixture.assert_idle();
    assert_eq!(fixture.metric("ingress_requests_total", ""), 1);
    assert_eq!(fixture.metric("ingress_request_bytes_total", ""), 2);
    assert_eq!(fixture.metric("ingress_response_bytes_total", ""), 9 + 2 * 3);
    assert_eq!(fixture.metric("ingress_request_duration_seconds_count", ""), 1);
    for category in ["transport", "protocol", "application", "resource"] {
        assert_eq!(fixture.errors(category), 0, "{category}");
    }
}

#[tokio::test]
async fn decode_a_payload_that_is_not_the_value_never_reaches_the_engine() {
    let (fixture, runs) = (Fixture::new(), Arc::new(AtomicUsize::new(0)));
    let _served = fixture.serve(PushHandler::new(counted(&runs)));
    for (body, context) in [
        ("not a number", Context::new()),
        ("", Context::new()),
        ("1 2", Context::new()),
        ("1", content_type("text/html")),
        ("1", content_type("application/octet-stream")),
    ] {
        let call = fixture.call_with(body, context);
        assert_eq!(call.failure().await, (Code::InvalidPayload, Executed::No), "{body}");
    }
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    assert_eq!(fixture.errors("protocol"), 5);
    fixture.assert_idle();
}

#[tokio::test]
async fn context_carries_the_headers_and_the_id_of_the_request() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<u32>| async move {
        let context = request.context();
        let parent = context.headers().get(header::TRACEPARENT).unwrap_or_default().to_owned();
        Ok::<_, Error>(stream::iter([Ok(parent), Ok(context.id().to_string())]))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let mut headers = Headers::new();
    headers.insert(header::TRACEPARENT, "as it came").unwrap();
    let context = Context::builder().headers(headers).build();
    let call = fixture.call_with("1", context.clone());
    call.end().await;
    assert_eq!(call.texts(), ["\"as it came\"".to_owned(), format!("\"{}\"", context.id())]);
}

#[tokio::test(start_paused = true)]
async fn context_a_request_that_is_over_before_its_task_runs_never_reaches_the_engine() {
    let (fixture, runs) = (Fixture::new(), Arc::new(AtomicUsize::new(0)));
    let _served = fixture.serve(PushHandler::new(counted(&runs)));
    let stopped = fixture.call("1");
    stopped.context.stop();
    let late = due_in(Duration::from_secs(1));
    let late = fixture.call_with("1", late);
    tokio::time::advance(Duration::from_secs(2)).await;
    let reason = CancelReason::Caller;
    assert!(matches!(stopped.end().await, Terminal::Cancelled { reason: r } if r == reason));
    match late.end().await {
        Terminal::Cancelled { reason } => assert_eq!(reason, CancelReason::DeadlineExceeded),
        Terminal::Failed { error } => assert_eq!(error.code(), Code::DeadlineExceeded),
        Terminal::Complete { .. } => panic!("work after the deadline"),
    }
    assert_eq!(runs.load(Ordering::Relaxed), 0);
    fixture.assert_idle();
}

#[tokio::test]
async fn response_stream_that_refuses_an_item_fails_the_request_with_its_reason() {
    let fixture = Fixture::new();
    let _served = fixture.serve(PushHandler::new(count_to()));
    let consumer = Consumer::new(1, Context::new());
    let error = Error::new(Code::TooLarge, "the item is over the transport's limit");
    consumer.with(|state| state.refuse_items_with = Some(error));
    let call = fixture.send(NAME, 1, "3", consumer);
    assert_eq!(call.failure().await, (Code::TooLarge, Executed::Yes));
    assert_eq!(fixture.errors("resource"), 1);
    fixture.assert_idle();
}

#[tokio::test]
async fn generate_an_error_counts_as_executed_whatever_it_says() {
    let fixture = Fixture::new();
    // Passed on from somebody it called: its own work is done all the same.
    let engine = engine_fn(|_: SingleIn<u32>| async { Err::<Items<u32>, _>(Error::draining("x")) });
    let _served = fixture.serve(PushHandler::new(engine));
    assert_eq!(fixture.call("1").failure().await, (Code::Draining, Executed::Yes));
    assert_eq!(fixture.errors("resource"), 1);
    fixture.assert_idle();
}

#[tokio::test]
async fn generate_a_panic_fails_its_own_request_only() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<u32>| async move {
        assert_ne!(*request.data(), 13, "this is the bug under test");
        Ok::<_, Error>(stream::iter([Ok(1_u32)]))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let (before, bad, after) = (fixture.call("1"), fixture.call("13"), fixture.call("2"));
    assert_eq!(bad.failure().await, (Code::HandlerGone, Executed::Yes));
    for good in [before, after] {
        assert!(matches!(good.end().await, Terminal::Complete { items: 1 }));
    }
    assert_eq!(fixture.errors("application"), 1);
    fixture.assert_idle();
}

#[tokio::test]
async fn stream_out_an_error_or_panic_leaves_a_true_prefix() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<bool>| async move {
        let panics = *request.data();
        let broken = stream::once(async move {
            assert!(!panics, "this is the bug under test");
            Err(Error::handler("the third item"))
        });
        Ok::<_, Error>(stream::iter([Ok(1_u32), Ok(2)]).chain(broken))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    for (body, code) in [("false", Code::HandlerFailed), ("true", Code::HandlerGone)] {
        let call = fixture.call(body);
        assert_eq!(call.failure().await, (code, Executed::Yes));
        assert_eq!(call.texts(), ["1", "2"]);
        assert_eq!(call.with(|state| state.seen), 2, "what was produced arrives");
    }
    assert_eq!(fixture.errors("application"), 2);
    fixture.assert_idle();
}

#[tokio::test]
async fn stream_out_head_and_facts_go_before_and_after_the_items() {
    let fixture = Fixture::new();
    let named = |name: &str| {
        let mut headers = Headers::new();
        headers.insert(name, "1").unwrap();
        headers
    };
    let engine = engine_fn(move |request: SingleIn<u32>| async move {
        let values = stream::iter([Ok(1_u32), Ok(2)]);
        let response = ManyOut::new(values, request.context().clone());
        Ok::<_, Error>(response.with_head(named("model")).with_facts(move || named("tokens")))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call("1");
    assert!(matches!(call.end().await, Terminal::Complete { items: 2 }));
    assert_eq!(call.with(|state| state.head.clone()), Some(named("model")));
    assert_eq!(call.with(|state| state.facts.clone()), named("tokens"));
}

/// A response whose head arrives with its first value: not there at the first look for it, and there
/// right after.
struct HeadWithValue {
    looks: usize,
    values: u32,
}

impl BodySource<u32> for HeadWithValue {
    fn poll_value(mut self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<Next<u32>> {
        self.values += 1;
        Poll::Ready(match self.values {
            1 => Next::Item(1),
            _ => Next::End(BodyEnd::complete()),
        })
    }

    fn poll_head(mut self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<Result<Headers, Error>> {
        self.looks += 1;
        if self.looks == 1 {
            return Poll::Pending;
        }
        let mut head = Headers::new();
        head.insert("model", "m").unwrap();
        Poll::Ready(Ok(head))
    }
}

#[tokio::test]
async fn stream_out_a_head_that_comes_with_the_first_item_goes_before_it() {
    let fixture = Fixture::new();
    let _served = fixture.serve(PushHandler::new(engine_fn(|_: SingleIn<u32>| async {
        Ok::<_, Error>(ManyOut::new(HeadWithValue { looks: 0, values: 0 }, Context::new()))
    })));
    let call = fixture.call("0");
    assert!(matches!(call.end().await, Terminal::Complete { items: 1 }));
    let head = call.with(|state| state.head.clone()).expect("it goes before the item");
    assert_eq!((head.get("model"), call.texts()), (Some("m"), vec!["1".to_owned()]));
}

#[tokio::test]
async fn stream_out_uses_the_format_of_the_request() {
    let fixture = Fixture::new();
    let _served = fixture.serve(PushHandler::new(count_to()));
    let call = fixture.call_with(vec![0x02], content_type("application/msgpack"));
    assert!(matches!(call.end().await, Terminal::Complete { items: 2 }));
    assert_eq!(call.texts(), ["\u{1}", "\u{2}"]);
}

#[tokio::test]
async fn stream_out_an_item_that_cannot_be_encoded_fails_the_request() {
    let fixture = Fixture::new();
    // JSON has no maps whose keys are lists.
    let engine = engine_fn(|_: SingleIn<u32>| async {
        Ok::<_, Error>(stream::iter([Ok(HashMap::from([(vec![1_u32], 1_u32)]))]))
    });
    let _served = fixture.serve(PushHandler::new(engine));
    assert_eq!(fixture.call("1").failure().await, (Code::InvalidPayload, Executed::Yes));
    assert_eq!(fixture.errors("protocol"), 1);
    fixture.assert_idle();
}

#[tokio::test]
async fn stream_out_says_that_it_began_and_flushes_whenever_the_engine_pauses() {
    let (fixture, steps) = (Fixture::new(), Arc::new(Semaphore::new(0)));
    let gate = Arc::clone(&steps);
    let engine = engine_fn(move |_: SingleIn<u32>| {
        let gate = Arc::clone(&gate);
        async move {
            Ok::<_, Error>(stream::iter(0..4_u32).then(move |n| {
                let gate = Arc::clone(&gate);
                async move {
                    if n % 2 == 0 {
                        gate.acquire().await.expect("the test holds it").forget();
                    }
                    Ok(n)
                }
            }))
        }
    });
    let _served = fixture.serve(PushHandler::new(engine));
    let call = fixture.call("1");
    call.until(|state| state.accepted && state.flushes == 1).await;
    assert!(call.texts().is_empty());
    steps.add_permits(1);
    call.until(|state| state.seen == 2 && state.flushes == 2).await;
    steps.add_permits(1);
    call.end().await;
    assert_eq!(call.with(|state| (state.seen, state.flushes)), (4, 3));
}

#[tokio::test]
async fn stream_out_waits_for_credit_and_flushes_what_fills_the_window() {
    let fixture = Fixture::new();
    let _served = fixture.serve(PushHandler::new(count_to()));
    let call = fixture.send(NAME, 1, "10", Consumer::new(4, Context::new()));
    call.until(|state| state.seen == 4).await;
    assert!(!call.has_ended());
    call.grant(4);
    call.until(|state| state.seen == 8).await;
    call.grant(4);
    assert!(matches!(call.end().await, Terminal::Complete { items: 10 }));
    assert_eq!(call.with(|state| (state.items.len(), state.flushes)), (10, 3));
}

#[tokio::test]
async fn completion_of_an_empty_stream_is_complete() {
    let (fixture, runs) = (Fixture::new(), Arc::new(AtomicUsize::new(0)));
    let _served = fixture.serve(PushHandler::new(counted(&runs)));
    assert!(matches!(fixture.call("1").end().await, Terminal::Complete { items: 0 }));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    fixture.assert_idle();
}
