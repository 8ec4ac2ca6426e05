//! Who is let in, who is refused, and what the refused are told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::stream;
use sinew_ingress::{EndpointConfig, IncomingOwned, IngressConfig, PushHandler, RawHandler};
use sinew_plane::{
    AsyncEngine, CancelReason, Code, Context, Error, Executed, InstanceId, ResponseSink, SingleIn,
    Terminal, engine_fn,
};
use tokio::sync::watch;

use crate::support::{Consumer, Fixture, NAME};

/// An engine whose requests wait until the sender says so, then answer with `answer`.
fn held(until: &watch::Receiver<bool>, answer: u32) -> impl AsyncEngine<u32, u32> + use<> {
    let until = until.clone();
    engine_fn(move |_: SingleIn<u32>| {
        let mut until = until.clone();
        async move {
            let _ = until.wait_for(|go| *go).await;
            Ok::<_, Error>(stream::iter([Ok(answer)]))
        }
    })
}

#[tokio::test]
async fn what_is_not_served_is_refused_and_adds_no_label() {
    let fixture = Fixture::new();
    let (_go, until) = watch::channel(true);
    let _served = fixture.serve(PushHandler::new(held(&until, 1)));
    for (endpoint, instance) in [("no/such/thing", 1), (NAME, 2), ("", 0), ("\u{1b}[31m", 0)] {
        let consumer = Consumer::new(0, Context::new());
        let call = fixture.send(endpoint, instance, "1", consumer);
        assert_eq!(call.failure().await, (Code::UnknownEndpoint, Executed::No), "{endpoint:?}");
        let Terminal::Failed { error } = call.end().await else { unreachable!() };
        assert!(!error.message().contains('\u{1b}'), "{error}");
        assert!(error.is_safe_to_resend());
    }
    let errors = ",category=\"resource\"";
    assert_eq!(fixture.metric_of("unknown", "ingress_errors_total", errors), 4);
    assert_eq!(fixture.metric("ingress_requests_total", ""), 0);
}

#[tokio::test]
async fn the_limit_of_an_endpoint_refuses_at_once_and_says_when_to_come_back() {
    let fixture = Fixture::new();
    let (go, until) = watch::channel(false);
    let config = EndpointConfig { max_in_flight: 2, ..EndpointConfig::default() };
    let served = fixture.serve_as(1, config, PushHandler::new(held(&until, 1)));
    let admitted = [fixture.call("1"), fixture.call("1")];
    assert_eq!(served.in_flight(), 2);
    let refused = fixture.call("1");
    assert!(refused.has_ended());
    let Terminal::Failed { error } = refused.end().await else { panic!("refused") };
    assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
    assert!(error.retry_after().is_some_and(|delay| !delay.is_zero()));
    assert_eq!(fixture.metric("ingress_in_flight_requests", ""), 2);
    assert_eq!(fixture.errors("resource"), 1);

    go.send_replace(true);
    for call in admitted {
        assert!(matches!(call.end().await, Terminal::Complete { .. }));
    }
    fixture.assert_idle();
    assert_eq!(fixture.metric("ingress_requests_total", ""), 3);
}

#[tokio::test]
async fn the_place_of_a_request_is_free_when_its_caller_hears_the_end() {
    let fixture = Fixture::new();
    let (_go, until) = watch::channel(true);
    let raw = RawHandler::new(|_: IncomingOwned, sink: ResponseSink| async { sink.complete() });
    let _pull = fixture.serve(PushHandler::new(held(&until, 1)));
    let _raw = fixture.serve_as(2, EndpointConfig::default(), raw);
    for instance in [1, 2] {
        let consumer = Consumer::new(9, Context::new());
        let (ingress, seen) = (fixture.ingress.clone(), Arc::new(AtomicUsize::new(usize::MAX)));
        let note = Arc::clone(&seen);
        let on_end = move || note.store(ingress.in_flight(), Ordering::Relaxed);
        consumer.with(|state| state.on_end = Some(Box::new(on_end)));
        fixture.send(NAME, instance, "1", consumer).end().await;
        assert_eq!(seen.load(Ordering::Relaxed), 0, "or a caller that calls again is refused");
    }
}

#[tokio::test]
async fn the_limit_of_the_process_counts_over_all_endpoints() {
    let fixture = Fixture::with(IngressConfig { max_in_flight: 2, ..IngressConfig::default() });
    let (go, until) = watch::channel(false);
    let one = fixture.serve_as(1, EndpointConfig::default(), PushHandler::new(held(&until, 1)));
    let two = fixture.serve_as(2, EndpointConfig::default(), PushHandler::new(held(&until, 2)));
    let send = |instance| fixture.send(NAME, instance, "1", Consumer::new(9, Context::new()));
    let admitted = [send(1), send(2)];
    assert_eq!(send(1).failure().await, (Code::Overloaded, Executed::No));
    assert_eq!((one.in_flight(), two.in_flight()), (1, 1), "the refused left no trace");
    go.send_replace(true);
    for call in admitted {
        call.end().await;
    }
    fixture.assert_idle();
}

#[tokio::test]
async fn instance_0_means_the_least_loaded_one_that_does_not_drain() {
    let fixture = Fixture::new();
    let (go, until) = watch::channel(false);
    let handler = |answer| PushHandler::new(held(&until, answer));
    let _one = fixture.serve_as(1, EndpointConfig::default(), handler(1));
    let two = fixture.serve_as(2, EndpointConfig::default(), handler(2));
    let any = || fixture.send(NAME, 0, "1", Consumer::new(9, Context::new()));
    let calls = [any(), any(), any(), any()];
    assert_eq!(two.in_flight(), 2);
    go.send_replace(true);
    for call in calls {
        call.end().await;
    }
    two.drain().await;
    for _ in 0..3 {
        let call = any();
        call.end().await;
        assert_eq!(call.texts(), ["1"]);
    }
}

#[tokio::test]
async fn of_two_with_one_id_the_later_is_called_and_the_earlier_withdraws_alone() {
    let fixture = Fixture::new();
    let (_go, until) = watch::channel(true);
    let old = fixture.serve(PushHandler::new(held(&until, 1)));
    let _new = fixture.serve(PushHandler::new(held(&until, 2)));
    drop(old);
    let call = fixture.call("1");
    call.end().await;
    assert_eq!(call.texts(), ["2"]);
}

#[tokio::test]
async fn dropping_an_endpoint_withdraws_it_and_kills_what_is_in_flight() {
    let fixture = Fixture::new();
    let (_go, until) = watch::channel(false);
    let served = fixture.serve(PushHandler::new(held(&until, 1)));
    let calls = [fixture.call("1"), fixture.call("1")];
    drop(served);
    let reason = CancelReason::Shutdown;
    for call in calls {
        assert!(matches!(call.end().await, Terminal::Cancelled { reason: r } if r == reason));
    }
    assert_eq!(fixture.call("1").failure().await, (Code::UnknownEndpoint, Executed::No));
    assert_eq!(fixture.errors("resource"), 2);
    fixture.assert_idle();
}

#[tokio::test]
async fn an_endpoint_that_is_gone_frees_its_engine() {
    let fixture = Fixture::new();
    let alive = Arc::new(());
    let inside = Arc::clone(&alive);
    let engine = engine_fn(move |_: SingleIn<u32>| {
        let _held = Arc::clone(&inside);
        async { Ok::<_, Error>(stream::iter([Ok(1_u32)])) }
    });
    let served = fixture.serve(PushHandler::new(engine));
    fixture.call("1").end().await;
    drop(served);
    fixture.ingress.shutdown(std::time::Duration::ZERO).await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// A request that names no instance does not go by one that gets no requests.
#[tokio::test]
async fn an_instance_beneath_another_draws_no_request_to_it() {
    let fixture = Fixture::new();
    let (_wait, until) = watch::channel(false);
    let (_go, at_once) = watch::channel(true);
    let config = EndpointConfig::default;
    let _first = fixture.serve_as(1, config(), PushHandler::new(held(&until, 1)));
    let _two = fixture.serve_as(2, config(), PushHandler::new(held(&at_once, 2)));
    let _in_flight = fixture.call("1");
    let third = PushHandler::new(held(&at_once, 3));
    let beneath =
        fixture.ingress.prepare(NAME.parse().unwrap(), InstanceId(1), config(), third, None);
    let ask = || fixture.send(NAME, 0, "1", Consumer::new(4, Context::new()));
    let answer = async |call: Arc<Consumer>| {
        call.end().await;
        call.with(|state| state.items.clone())
    };
    assert_eq!(answer(ask()).await, ["2"], "the first is busy, and what is beneath it has no turn");
    beneath.take_over();
    let answers = [answer(ask()).await, answer(ask()).await];
    assert!(answers.iter().all(|items| items[0] != "1"), "{answers:?}");
}
