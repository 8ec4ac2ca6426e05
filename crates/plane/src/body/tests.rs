//! Ends of a response, and what its reader hears of them.

use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::*;
use crate::{CallLimits, Code, Executed};

/// A handler may hand on an error of a service that refused it: that one did not run.
#[tokio::test]
async fn an_item_that_came_says_that_it_ran() {
    for code in Code::ALL {
        let refused = || Error::new(*code, "elsewhere").with_executed(Executed::No);
        let mut early = ManyOut::new(stream::iter([Err::<u8, _>(refused())]), Context::new());
        let error = early.next().await.unwrap().unwrap_err();
        assert_eq!(error.executed(), Executed::No, "{code}");

        let values = stream::iter([Ok(1), Err(refused())]);
        let mut late = ManyOut::new(values, Context::new());
        late.next().await.unwrap().unwrap();
        let error = late.next().await.unwrap().unwrap_err();
        assert_eq!((error.executed(), error.is_safe_to_resend()), (Executed::Yes, false));
        let Some(Outcome::Failed { error }) = late.outcome() else { panic!("{code}") };
        assert_eq!(error.executed(), Executed::Yes, "{code}");
    }
}

#[tokio::test]
async fn the_end_is_complete_or_the_first_error() {
    let mut good = ManyOut::new(stream::iter([Ok(1), Ok(2)]), Context::new());
    assert_eq!(good.by_ref().count().await, 2);
    assert!(matches!(good.outcome(), Some(Outcome::Complete { items: 2 })));

    let broken = stream::iter([Ok(1), Err(Error::handler("boom")), Ok(3)]);
    let mut broken = ManyOut::new(broken, Context::new());
    let seen: Vec<_> = broken.by_ref().collect().await;
    assert_eq!(seen.len(), 2, "nothing follows an error");
    assert!(matches!(broken.outcome(), Some(Outcome::Failed { .. })));
}

fn head_of(name: &str) -> Headers {
    let mut headers = Headers::new();
    headers.insert(name, "1").unwrap();
    headers
}

#[tokio::test]
async fn head_and_facts_are_those_of_the_engine() {
    let values = stream::iter([Ok(1), Ok(2)]);
    let body = ManyOut::new(values, Context::new()).with_head(head_of("model"));
    let mut body = body.with_facts(|| head_of("tokens"));
    assert_eq!(body.head().await.unwrap(), head_of("model"));
    assert!(body.facts().is_empty(), "there is no end yet");
    assert_eq!(body.by_ref().count().await, 2);
    assert_eq!((body.head().await.unwrap(), body.facts()), (head_of("model"), head_of("tokens")));
    let mut none = ManyOut::new(stream::iter([Ok(1)]), Context::new());
    assert!(none.head().await.unwrap().is_empty());
    assert_eq!(none.by_ref().count().await, 1);
    assert!(none.facts().is_empty());
}

/// Puts down what it is told.
struct Told(std::sync::Arc<std::sync::Mutex<Vec<String>>>, &'static str);

impl OnBodyEnd for Told {
    fn ended(self: Box<Self>, outcome: &Outcome, _error: Option<&Error>) {
        self.0.lock().unwrap().push(format!("{} {}", self.1, outcome.as_str()));
    }
}

#[tokio::test]
async fn the_end_is_told_in_order_before_its_reader_knows() {
    let told = std::sync::Arc::default();
    let mut body = ManyOut::new(stream::iter([Ok(1)]), Context::new())
        .on_end(Told(std::sync::Arc::clone(&told), "first"))
        .on_end(Told(std::sync::Arc::clone(&told), "second"));
    body.next().await.unwrap().unwrap();
    assert!(told.lock().unwrap().is_empty());
    assert!(body.next().await.is_none());
    assert_eq!(*told.lock().unwrap(), ["first complete", "second complete"]);
}

#[tokio::test]
async fn the_response_to_a_request_of_its_own_is_no_word_about_the_one_that_passes_it_on() {
    let told = std::sync::Arc::default();
    let (inner, outer) = (Context::new(), Context::new());
    let body = ManyOut::new(stream::pending::<Result<u8, Error>>(), inner.clone());
    let body = body.watched(&inner, None).on_end(Told(std::sync::Arc::clone(&told), "inner"));
    let body = body.watched(&outer, None).on_end(Told(std::sync::Arc::clone(&told), "outer"));
    assert!(body.is_watched(&outer) && !body.is_watched(&inner));
    let mut body = body.with_facts(|| head_of("cost"));
    inner.cancel(StopKind::Kill, CancelReason::Shutdown);
    let error = body.next().await.unwrap().unwrap_err();
    assert_eq!(error.executed(), Executed::Yes);
    assert!(
        matches!(body.outcome(), Some(Outcome::Failed { error }) if error.executed() == Executed::Yes)
    );
    assert_eq!(*told.lock().unwrap(), ["inner cancelled", "outer failed"]);
    assert_eq!(body.facts(), head_of("cost"));
    assert!(!outer.is_killed());
}

#[tokio::test]
async fn a_response_that_was_read_before_it_was_passed_on_has_its_end() {
    let context = Context::new();
    for (value, ends_well) in [(None, true), (Some(Err(Error::handler("boom"))), false)] {
        let mut read = ManyOut::new(stream::iter(value), Context::new());
        while read.next().await.is_some() {}
        let told = std::sync::Arc::default();
        let body: ManyOut<u8> = read.watched(&context, None);
        let mut body = body.on_end(Told(std::sync::Arc::clone(&told), "it"));
        assert_eq!(body.next().await.is_none(), ends_well);
        let expected = if ends_well { "it complete" } else { "it failed" };
        assert_eq!(*told.lock().unwrap(), [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_always_has_a_value_is_held_to_the_deadline() {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let context = Context::builder().deadline(deadline.into_std()).build();
    let values = stream::repeat_with(|| Ok(1_u8));
    let mut body = ManyOut::new(values, Context::new()).watched(&context, None);
    body.next().await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    let read = body.by_ref().take_while(|value| std::future::ready(value.is_ok())).count().await;
    assert!(read <= 64, "{read} values after the deadline");
    assert!(matches!(
        body.outcome(),
        Some(Outcome::Cancelled { reason: CancelReason::DeadlineExceeded })
    ));
}

/// Has its head and its values only when it is let.
struct Late(bool);

impl BodySource<u8> for Late {
    fn poll_value(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Next<u8>> {
        if self.0 { Poll::Ready(Next::End(BodyEnd::complete())) } else { Poll::Pending }
    }

    fn poll_head(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Result<Headers, Error>> {
        if self.0 { Poll::Ready(Ok(head_of("late"))) } else { Poll::Pending }
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_head_ends_with_the_request() {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let context = Context::builder().deadline(deadline.into_std()).build();
    let mut body = ManyOut::new(Late(false), Context::new()).watched(&context, None);
    assert_eq!(body.head().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(body.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_head_is_known_after_the_end_too() {
    let mut body = ManyOut::new(Late(true), Context::new());
    assert!(body.next().await.is_none());
    assert_eq!(body.head().await.unwrap(), head_of("late"));
}

#[tokio::test]
async fn a_watched_response_ends_with_its_request_and_ends_it_when_dropped() {
    let silent = || stream::pending::<Result<u8, Error>>();
    let context = Context::new();
    let mut body = ManyOut::new(silent(), Context::new()).watched(&context, None);
    context.kill();
    assert_eq!(body.next().await.unwrap().unwrap_err().code(), Code::Cancelled);
    assert!(matches!(body.outcome(), Some(Outcome::Cancelled { .. })));

    let context = Context::new();
    drop(ManyOut::new(silent(), Context::new()).watched(&context, None));
    assert!(context.is_killed(), "nobody reads it any more");

    let panics = stream::iter([1_u8]).map(|_| -> Result<u8, Error> { panic!("a bug") });
    let mut body = ManyOut::new(panics, Context::new()).watched(&Context::new(), None);
    assert_eq!(body.next().await.unwrap().unwrap_err().code(), Code::HandlerGone);
}

#[tokio::test(start_paused = true)]
async fn the_waits_of_a_response_are_limited_whether_it_was_watched_before_or_not() {
    let limits = CallLimits { idle: Some(Duration::from_secs(1)), ..CallLimits::UNLIMITED };
    let one_and_no_more = || stream::iter([Ok(1)]).chain(stream::pending::<Result<u8, Error>>());
    for is_watched in [false, true] {
        let context = Context::new();
        let mut body = ManyOut::new(one_and_no_more(), Context::new());
        if is_watched {
            body = body.watched(&context, None);
        }
        let mut body = body.watched(&context, ItemWait::new(limits));
        body.next().await.unwrap().unwrap();
        let begun = tokio::time::Instant::now();
        let error = body.next().await.unwrap().unwrap_err();
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        assert_eq!((error.code(), error.executed()), (Code::IdleTimedOut, Executed::Yes));
        assert!(context.is_killed() && body.next().await.is_none());
        assert_eq!(context.reason(), Some(CancelReason::Caller), "the call sets its limits");
    }
}

#[tokio::test(start_paused = true)]
async fn the_shorter_of_two_nested_limits_ends_the_wait() {
    let idle = |seconds| {
        let idle = Some(Duration::from_secs(seconds));
        ItemWait::new(CallLimits { idle, ..CallLimits::UNLIMITED })
    };
    for (within, around) in [(1, 5), (5, 1)] {
        let (inner, outer) = (Context::new(), Context::new());
        let values = stream::iter([Ok(1)]).chain(stream::pending::<Result<u8, Error>>());
        let body = ManyOut::new(values, Context::new()).watched(&inner, idle(within));
        let mut body = body.watched(&outer, idle(around));
        body.next().await.unwrap().unwrap();
        let begun = tokio::time::Instant::now();
        let error = body.next().await.unwrap().unwrap_err();
        assert_eq!((begun.elapsed(), error.code()), (Duration::from_secs(1), Code::IdleTimedOut));
        assert!(inner.is_killed(), "the engine within ends in both cases");
        assert_eq!(outer.is_killed(), around < within);
    }
}

#[tokio::test]
async fn a_response_that_a_stop_ends_has_its_facts() {
    let context = Context::new();
    let values = stream::iter([Ok(1)]).chain(stream::pending::<Result<u8, Error>>());
    let body = ManyOut::new(values, Context::new()).with_facts(|| head_of("tokens"));
    let mut body = body.watched(&context, None);
    body.next().await.unwrap().unwrap();
    context.stop();
    assert_eq!(body.next().await.unwrap().unwrap_err().code(), Code::Cancelled);
    assert_eq!(body.facts(), head_of("tokens"));
}

#[tokio::test]
async fn a_panic_of_the_facts_leaves_the_values_and_the_end() {
    let facts = || -> Headers { panic!("a bug") };
    let body = ManyOut::new(stream::iter([Ok::<u8, Error>(1)]), Context::new()).with_facts(facts);
    let mut body = body.watched(&Context::new(), None);
    assert_eq!(body.by_ref().count().await, 1);
    assert!(matches!(body.outcome(), Some(Outcome::Complete { items: 1 })));
    assert!(body.facts().is_empty());
}

/// Notes its own drop.
struct Dropped(std::sync::Arc<std::sync::Mutex<Vec<&'static str>>>, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
    }
}

impl OnBodyEnd for Dropped {
    fn ended(self: Box<Self>, _: &Outcome, _: Option<&Error>) {}
}

/// What `on_end` counts is released after the engine has gone, at the end and at a drop before it.
#[tokio::test]
async fn the_source_goes_before_what_its_end_releases() {
    for is_read in [false, true] {
        let order = std::sync::Arc::default();
        let held = Dropped(std::sync::Arc::clone(&order), "source");
        let values = stream::iter([Ok::<u8, Error>(1)]).inspect(move |_| {
            let _ = &held;
        });
        let body = ManyOut::new(values, Context::new());
        let mut body = body.on_end(Dropped(std::sync::Arc::clone(&order), "count"));
        if is_read {
            assert_eq!(body.by_ref().count().await, 1);
        } else {
            drop(body);
        }
        assert_eq!(*order.lock().unwrap(), ["source", "count"], "read: {is_read}");
    }
}
