//! Places that are reserved before the request is there.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};
use sinew_ingress::{EndpointConfig, PushHandler, RawHandler, ServedEndpoint};
use sinew_plane::{
    AsyncEngine, Code, Context, Error, Executed, IncomingRequest, InstanceId, PeerFacts, Permit,
    RequestHandler, ResponseSink, SingleIn, Terminal, TransportId, engine_fn,
};
use tokio::time::Duration;

use crate::support::{Consumer, Fixture, NAME, due_in};

fn completes(fixture: &Fixture) -> ServedEndpoint {
    let handler = RawHandler::new(|_, sink: ResponseSink| async { sink.complete() });
    let config = EndpointConfig { max_in_flight: 1, ..EndpointConfig::default() };
    fixture.serve_as(1, config, handler)
}

fn reserve(fixture: &Fixture) -> Result<Permit, Error> {
    let permit = fixture.ingress.reserve(NAME, InstanceId(1))?;
    Ok(permit.expect("an ingress has places"))
}

fn call(permit: Permit, context: Context) -> Arc<Consumer> {
    let consumer = Consumer::new(usize::MAX, context.clone());
    let sink = ResponseSink::new(Arc::clone(&consumer) as _, context.clone());
    let transport = TransportId::from_static("test");
    let (instance, body) = (InstanceId(1), "hi".into());
    let request = IncomingRequest {
        endpoint: NAME,
        instance,
        body,
        context,
        transport: &transport,
        peer: &PeerFacts::UNKNOWN,
        attempt: 0,
        secret: 0,
    };
    permit.call(request, sink);
    consumer
}

#[tokio::test]
async fn a_place_is_kept_for_its_request_or_given_back() {
    let fixture = Fixture::new();
    let _served = completes(&fixture);
    let permit = reserve(&fixture).unwrap();
    assert_eq!(fixture.call("another").failure().await, (Code::Overloaded, Executed::No));
    let refusal = reserve(&fixture).unwrap_err();
    assert_eq!((refusal.code(), refusal.executed()), (Code::Overloaded, Executed::No));
    assert!(matches!(call(permit, Context::new()).end().await, Terminal::Complete { .. }));
    fixture.assert_idle();
    assert_eq!(fixture.errors("resource"), 2, "a request without a place, and a reservation");

    drop(reserve(&fixture).unwrap());
    assert!(matches!(fixture.call("another").end().await, Terminal::Complete { .. }));
    let unknown = fixture.ingress.reserve("test/unit/nothing", InstanceId(1)).unwrap_err();
    assert_eq!(unknown.code(), Code::UnknownEndpoint);
}

/// The request was acknowledged: its caller will not send it elsewhere.
#[tokio::test]
async fn a_drain_waits_for_a_request_that_has_a_place_and_serves_it() {
    let fixture = Fixture::new();
    let served = completes(&fixture);
    let permit = reserve(&fixture).unwrap();
    let mut drain = Box::pin(served.drain());
    assert!(drain.as_mut().now_or_never().is_none());
    assert_eq!(reserve(&fixture).unwrap_err().code(), Code::Draining);
    assert!(matches!(call(permit, Context::new()).end().await, Terminal::Complete { .. }));
    drain.await;
    fixture.assert_idle();
}

#[tokio::test]
async fn a_request_that_is_late_is_refused_and_gives_its_place_back() {
    let fixture = Fixture::new();
    let _served = completes(&fixture);
    let late = call(reserve(&fixture).unwrap(), due_in(Duration::ZERO));
    assert_eq!(late.failure().await, (Code::DeadlineExceeded, Executed::No));
    fixture.assert_idle();
    drop(reserve(&fixture).unwrap());
}

#[tokio::test]
async fn a_caller_in_the_process_has_its_place_before_it_gives_its_value_away() {
    let fixture = Fixture::new();
    let engine = engine_fn(|request: SingleIn<u32>| async move {
        Ok::<_, Error>(stream::iter([Ok(*request.data())]))
    });
    let config = EndpointConfig { max_in_flight: 1, ..EndpointConfig::default() };
    let served = fixture.serve_as(1, config, PushHandler::new(engine));
    let local = served.local();
    let call = local.reserve::<u32, u32>().unwrap().unwrap();
    assert_eq!(local.reserve::<u32, u32>().err().unwrap().code(), Code::Overloaded);
    let engine = served.local_engine::<u32, u32>().unwrap();
    assert_eq!(engine.generate(1.into()).await.unwrap_err().code(), Code::Overloaded);

    let mut drain = Box::pin(served.drain());
    assert!(drain.as_mut().now_or_never().is_none());
    let values: Vec<_> = call.generate(7.into()).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(values, [7]);
    drain.await;
    fixture.assert_idle();
}
