//! What is particular to this transport; the rest is in the conformance suite.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use sinew_plane::{
    Code, DuplexServer, DuplexTransport, Error, IncomingRequest, InstanceId, OutgoingRequest,
    ResponseSink, ResponseStream,
};

use super::*;
use crate::MemoryTransport;

fn echo(request: IncomingRequest<'_>, mut sink: ResponseSink) {
    sink.try_send(request.body).unwrap();
    sink.complete();
}

/// Keeps the sinks it gets, so that their streams run until it is dropped.
#[derive(Default)]
struct Keeping(Mutex<Vec<ResponseSink>>);

impl RequestHandler for Keeping {
    fn handle(&self, _: IncomingRequest<'_>, sink: ResponseSink) {
        self.0.lock().push(sink);
    }
}

fn open(hub: &MemoryHub, server: &MemoryServer) -> Result<ResponseStream, Error> {
    let request = OutgoingRequest::new("a/b/c".parse().unwrap(), InstanceId(1), "body".into());
    let client = MemoryTransport::new(hub.clone());
    client.open(server.address(), request).now_or_never().expect("opening never waits")
}

#[test]
fn a_name_is_served_once_and_is_free_again_after_its_server() {
    let hub = MemoryHub::default();
    let first = hub.serve("one", echo).unwrap();
    assert_eq!(first.address().as_str(), "memory://one");
    assert_eq!(hub.serve("one", echo).unwrap_err(), ServeError::Taken { name: "one".into() });
    assert!(matches!(hub.serve("", echo), Err(ServeError::Name(_))));
    assert!(MemoryHub::default().serve("one", echo).is_ok(), "hubs know nothing of each other");

    drop(first);
    let second = hub.serve("one", echo).unwrap();
    assert!(open(&hub, &second).is_ok());
}

#[tokio::test]
async fn a_late_shutdown_does_not_withdraw_the_successor() {
    let hub = MemoryHub::default();
    let first = hub.serve("one", echo).unwrap();
    first.shutdown(Duration::ZERO).await;
    let second = hub.serve("one", echo).unwrap();
    first.shutdown(Duration::ZERO).await;
    drop(first);
    assert!(open(&hub, &second).is_ok());
}

#[tokio::test]
async fn dropping_a_server_withdraws_its_name_and_cuts_what_runs() {
    let hub = MemoryHub::default();
    let server = hub.serve("one", Keeping::default()).unwrap();
    let mut stream = open(&hub, &server).unwrap();
    let address = server.address().clone();
    drop(server);
    assert_eq!(stream.started().await.unwrap_err().code(), Code::ConnectionLost);

    let request = OutgoingRequest::new("a/b/c".parse().unwrap(), InstanceId(1), Bytes::new());
    let client = MemoryTransport::new(hub);
    assert_eq!(client.open(&address, request).await.unwrap_err().code(), Code::ConnectFailed);
}

#[test]
fn a_server_at_its_limit_refuses_safely_until_a_stream_ends() {
    let hub = MemoryHub::new(MemoryConfig { max_streams: 2, ..MemoryConfig::default() }).unwrap();
    let keeping = Arc::new(Keeping::default());
    let server = hub.serve_shared("one", Arc::clone(&keeping) as Arc<dyn RequestHandler>).unwrap();
    let _streams = [open(&hub, &server).unwrap(), open(&hub, &server).unwrap()];
    let error = open(&hub, &server).unwrap_err();
    assert!(error.code() == Code::Overloaded && error.is_safe_to_resend(), "{error:?}");

    let one = keeping.0.lock().pop().unwrap();
    one.complete();
    assert!(open(&hub, &server).is_ok());
}

#[tokio::test]
async fn nothing_is_copied_on_the_way() {
    let hub = MemoryHub::default();
    let server = hub.serve("one", echo).unwrap();
    let body = Bytes::from(vec![7; 1000]);
    let request = OutgoingRequest::new("a/b/c".parse().unwrap(), InstanceId(1), body.clone());
    let client = MemoryTransport::new(hub);
    let mut stream = client.open(server.address(), request).await.unwrap();
    let item = stream.next().await.unwrap().unwrap();
    assert_eq!(item.as_ptr(), body.as_ptr());
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_stream() {
    let hub = MemoryHub::default();
    let server = hub.serve("one", |_: IncomingRequest<'_>, _: ResponseSink| panic!("bug")).unwrap();
    let call = std::panic::AssertUnwindSafe(|| open(&hub, &server).map(drop));
    assert!(std::panic::catch_unwind(call).is_err(), "the caller's own task unwinds");
    let cut = server.shutdown(Duration::MAX).now_or_never();
    assert_eq!(cut.map(|cut| cut.cut_streams), Some(0), "nothing was left running");
}
