//! The head of a response and its facts.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use sinew_plane::{
    CallLimits, CancelReason, Code, Error, Executed, Headers, Outcome, RequestHandler,
    ResponseStream,
};
use tokio::sync::Notify;

use crate::{
    Harness, Received,
    handlers::{counting, failing, parked, spawned},
    payload::numbered,
    request, within,
};

fn headers(name: &str, value: &str) -> Headers {
    let mut headers = Headers::new();
    if let Err(error) = headers.insert(name, value) {
        panic!("{error}");
    }
    headers
}

/// The largest block there is.
fn largest() -> Headers {
    let headers = headers("large", &"x".repeat(65_536 - 5 - 3));
    assert_eq!(headers.as_block().len(), 65_536);
    headers
}

async fn head(stream: &mut ResponseStream) -> Headers {
    match within("the head", stream.head()).await {
        Ok(head) => head,
        Err(error) => panic!("no head: {error}"),
    }
}

/// Sends a head, as many numbered items as the body says, and completes with facts.
fn telling(told: Headers, facts: Headers) -> Arc<dyn RequestHandler> {
    spawned(move |mut call| {
        let (told, facts) = (told.clone(), facts.clone());
        async move {
            if let Err(error) = call.sink.head(told) {
                return call.sink.fail(error);
            }
            for number in 0..call.number() {
                if call.sink.send(numbered(number)).await.is_err() {
                    return;
                }
            }
            call.sink.complete_with(facts);
        }
    })
}

/// A head leaves at once: its caller has it while the handler has not sent anything else.
pub async fn a_head_arrives_before_the_first_item(harness: &dyn Harness) {
    let go_on = Arc::new(Notify::new());
    let waiting = Arc::clone(&go_on);
    let handler = spawned(move |mut call| {
        let waiting = Arc::clone(&waiting);
        async move {
            if let Err(error) = call.sink.head(headers("model", "m")) {
                return call.sink.fail(error);
            }
            waiting.notified().await;
            if call.sink.send(numbered(0)).await.is_ok() {
                call.sink.complete();
            }
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    assert_eq!(head(&mut stream).await, headers("model", "m"));
    go_on.notify_one();
    assert_eq!(head(&mut stream).await, headers("model", "m"), "asked for again");
    assert_eq!(Received::read(&mut stream).await.complete(), ["0"]);
    assert!(stream.facts().is_empty());
}

/// A head is an answer: a handler that has set one has begun, also when it was accepted before.
pub async fn a_head_is_a_start(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        if call.number() > 0 {
            call.sink.accept();
        }
        let taken = call.sink.head(headers("model", "m"));
        call.context.stopped().await;
        drop(taken);
    });
    let served = harness.serve(handler).await;
    for accepts in ["0", "1"] {
        let mut stream = served.open(request(accepts)).await;
        let started = within("the start", stream.started()).await;
        assert!(started.is_ok(), "{started:?}");
        assert_eq!(head(&mut stream).await, headers("model", "m"));
        stream.context().kill();
        Received::read(&mut stream).await;
    }
}

/// Without a head the wait for it ends with the first item, which is not lost by it, or with the
/// end.
pub async fn a_response_without_a_head_has_an_empty_one(harness: &dyn Harness) {
    let served = harness.serve(counting()).await;
    for count in 0..4 {
        let mut stream = served.open(request(count.to_string())).await;
        assert!(head(&mut stream).await.is_empty());
        let items = Received::read(&mut stream).await.complete();
        assert_eq!(items, (0..count).map(numbered).collect::<Vec<_>>());
        assert!(head(&mut stream).await.is_empty() && stream.facts().is_empty());
    }
    let served = harness.serve(failing(Error::handler("later"))).await;
    let mut stream = served.open(request("1")).await;
    assert!(head(&mut stream).await.is_empty(), "how it ends is for who reads the items");
    assert_eq!(Received::read(&mut stream).await.failed().message(), "later");
    assert!(head(&mut stream).await.is_empty(), "it had begun");
}

/// The head is there between and after the items too, and the facts once the end was read.
pub async fn head_and_facts_may_be_read_at_the_end(harness: &dyn Harness) {
    let served = harness.serve(telling(headers("model", "m"), headers("tokens", "3"))).await;
    for count in [0, 1, 3, 300] {
        let mut stream = served.open(request(count.to_string())).await;
        if count > 0 {
            let first = within("an item", stream.next()).await;
            assert!(matches!(first, Some(Ok(item)) if item == numbered(0)));
            assert_eq!(head(&mut stream).await, headers("model", "m"));
        }
        assert!(stream.facts().is_empty(), "it has not ended yet");
        let items = Received::read(&mut stream).await.complete();
        assert_eq!(items.len() as u64, count - count.min(1));
        assert_eq!(stream.facts(), headers("tokens", "3"));
        assert_eq!(head(&mut stream).await, headers("model", "m"));
    }
}

/// A head and facts that are as large as a header block may be arrive unchanged.
pub async fn the_largest_head_and_facts_arrive(harness: &dyn Harness) {
    let served = harness.serve(telling(largest(), largest())).await;
    for count in ["0", "2"] {
        let mut stream = served.open(request(count)).await;
        assert_eq!(head(&mut stream).await, largest());
        Received::read(&mut stream).await.complete();
        assert_eq!(stream.facts(), largest());
    }
}

/// An empty head is one: its caller need not wait for the first item.
pub async fn an_empty_head_ends_the_wait_for_it(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        let taken = call.sink.head(Headers::new());
        call.context.stopped().await;
        drop(taken);
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    assert!(head(&mut stream).await.is_empty());
    stream.context().kill();
    Received::read(&mut stream).await;
}

/// A head after an item, or after another, is an error of the handler, which may go on.
pub async fn a_head_goes_first_and_once(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        let mut refused = 0;
        let mut set = |sink: &mut sinew_plane::ResponseSink| {
            let taken = sink.head(headers("model", "m"));
            refused += u64::from(taken.is_err_and(|error| error.code() == Code::HandlerFailed));
            refused
        };
        if call.number() == 0 {
            set(&mut call.sink);
        }
        set(&mut call.sink);
        if call.sink.send(numbered(0)).await.is_err() {
            return;
        }
        let refused = set(&mut call.sink);
        if call.sink.send(numbered(refused)).await.is_ok() {
            call.sink.complete();
        }
    });
    let served = harness.serve(handler).await;
    for (body, refused) in [("0", 2), ("1", 1)] {
        let mut stream = served.open(request(body)).await;
        let items = Received::read(&mut stream).await.complete();
        assert_eq!(items, [numbered(0), numbered(refused)]);
        assert_eq!(head(&mut stream).await, headers("model", "m"));
    }
}

/// Facts come with an end of any kind, and the last ones count.
pub async fn facts_come_with_every_end(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        call.sink.set_facts(headers("tokens", "0"));
        if call.number() % 2 == 1 && call.sink.send(numbered(0)).await.is_err() {
            return;
        }
        call.sink.set_facts(headers("tokens", "1"));
        match call.number() / 2 {
            0 => call.sink.complete(),
            1 => call.sink.fail(Error::handler("boom")),
            2 => call.sink.reject(Error::new(Code::Overloaded, "full")),
            3 => call.sink.cancelled(CancelReason::Shutdown),
            _ => drop(call.sink),
        }
    });
    let served = harness.serve(handler).await;
    for number in 0..10 {
        let mut stream = served.open(request(number.to_string())).await;
        let received = Received::read(&mut stream).await;
        assert_eq!(received.items.len(), number % 2);
        if number % 2 == 1 {
            assert!(head(&mut stream).await.is_empty());
        }
        assert_eq!(stream.facts(), headers("tokens", "1"), "{number}: {:?}", received.outcome);
        match (number / 2, received.outcome) {
            (0, Outcome::Complete { .. }) => {}
            (3, Outcome::Cancelled { reason: CancelReason::Shutdown }) => {}
            (1, Outcome::Failed { error }) => assert_eq!(error.code(), Code::HandlerFailed),
            (2, Outcome::Failed { error }) => {
                assert_eq!(error.code(), Code::Overloaded);
                assert_eq!(error.executed() == Executed::No, number == 4, "{error:?}");
            }
            (4, Outcome::Failed { error }) => assert_eq!(error.code(), Code::HandlerGone),
            (_, outcome) => panic!("{number}: {outcome:?}"),
        }
    }
}

/// Facts come also with the end of a stream that its caller has stopped.
pub async fn facts_come_with_the_end_of_a_stopped_stream(harness: &dyn Harness) {
    let handler = spawned(|mut call| async move {
        if call.sink.send(numbered(0)).await.is_ok() {
            call.context.stopped().await;
            call.sink.set_facts(headers("tokens", "1"));
            call.sink.cancelled(CancelReason::Caller);
        }
    });
    let served = harness.serve(handler).await;
    let mut stream = served.open(request("")).await;
    assert!(within("an item", stream.next()).await.is_some_and(|item| item.is_ok()));
    stream.context().stop();
    let received = Received::read(&mut stream).await;
    assert!(matches!(received.outcome, Outcome::Cancelled { .. }), "{:?}", received.outcome);
    assert_eq!(stream.facts(), headers("tokens", "1"));
}

/// The first-item limit of a call bounds its wait for the head, and ends the stream.
pub async fn the_wait_for_a_head_has_a_limit(harness: &dyn Harness) {
    let served = harness.serve(parked()).await;
    let limits =
        CallLimits { first_item: Some(Duration::from_millis(50)), ..CallLimits::default() };
    let mut stream = served.open(request("0").with_limits(limits)).await;
    let Err(error) = within("the limit", stream.head()).await else {
        panic!("a head that nobody set")
    };
    assert_eq!(error.code(), Code::FirstItemTimedOut, "{error}");
    assert_eq!(Received::read(&mut stream).await.failed().code(), Code::FirstItemTimedOut);
}
