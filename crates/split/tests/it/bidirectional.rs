//! Requests that are streams, between two ends of Sinew.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sinew_plane::{Address, Code, Context, IncomingRequest, RequestStream, ResponseSink, StopKind};
use sinew_testkit::{Received, Reporter, reports};

use crate::{
    fixture::{Worker, response_server, soon, transport},
    streams::{echo, no_unary, numbers, request},
};

#[tokio::test]
async fn both_directions_carry_their_items_between_our_own_ends() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(no_unary()).await;
    let _served = echo(&worker, reporter);
    let responses = response_server(true);
    let (transport, address) = (transport(Arc::clone(&responses)), worker.address());
    for count in [0, 1, 1000] {
        let opening =
            transport.open_bidirectional(&address, request(), numbers(count), &*responses);
        let mut stream = soon("the opening", opening).await.unwrap();
        let items = Received::read(&mut stream).await.complete();
        assert_eq!(items.len(), count);
        assert!(items.iter().enumerate().all(|(n, item)| item == n.to_string().as_bytes()));
        assert_eq!(ended.next("the end of the items").await, None);
    }
    assert_eq!(responses.streams(), 0);
}

#[tokio::test]
async fn a_cancel_ends_the_items_and_the_response() {
    for kind in [StopKind::Stop, StopKind::Kill] {
        let (reporter, mut ended) = reports();
        let worker = Worker::new(no_unary()).await;
        let _served = echo(&worker, reporter);
        let responses = response_server(true);
        let transport = transport(Arc::clone(&responses));
        let endless = stream::iter(["1"]).map(Bytes::from).chain(stream::pending()).boxed();
        let context = Context::new();
        let request = request().with_context(context.clone());
        let address = worker.address();
        let opening = transport.open_bidirectional(&address, request, endless, &*responses);
        let mut stream = soon("the opening", opening).await.unwrap();
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "1");
        context.cancel(kind, sinew_plane::CancelReason::Caller);
        assert!(ended.next("the end of the items").await.is_some(), "{kind:?}");
        let received = Received::read(&mut stream).await;
        assert_eq!(received.outcome.as_str(), "cancelled", "{kind:?}: {:?}", received.error);
    }
}

/// Tells when it is dropped.
struct Dropped(Reporter<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.tell(());
    }
}

#[tokio::test]
async fn what_is_left_of_the_items_is_dropped_with_the_response() {
    // The worker has enough after the first item, and the caller's next one never comes.
    let worker = Worker::new(no_unary()).await;
    let handler = |_: IncomingRequest<'_>, mut items: RequestStream, mut sink: ResponseSink| {
        tokio::spawn(async move {
            let item = items.next().await.unwrap().unwrap();
            sink.send(item).await.unwrap();
            sink.complete();
        });
    };
    let endpoint = "ns1/backend/generate".parse().unwrap();
    let _served =
        worker.split.serve_bidirectional(endpoint, worker.back.clone(), Arc::new(handler));
    let responses = response_server(true);
    let transport = transport(Arc::clone(&responses));
    let address = worker.address();
    for is_read in [true, false] {
        let (reporter, mut dropped) = reports();
        let guard = Dropped(reporter);
        let endless = stream::iter(["1"]).map(Bytes::from).chain(stream::pending());
        let endless = endless.inspect(move |_| _ = &guard).boxed();
        let opening = transport.open_bidirectional(&address, request(), endless, &*responses);
        let mut response = soon("the opening", opening).await.unwrap();
        if is_read {
            assert_eq!(Received::read(&mut response).await.complete(), ["1"]);
        } else {
            assert_eq!(soon("an item", response.next()).await.unwrap().unwrap(), "1");
        }
        drop(response);
        dropped.next("the end of the items").await;
    }
}

#[tokio::test]
async fn a_body_beside_the_stream_is_not_sent() {
    let responses = response_server(true);
    let transport = transport(Arc::clone(&responses));
    let address = Address::new("split-tcp", "127.0.0.1:1").unwrap();
    let mut request = request();
    request.body = "x".into();
    let opening = transport.open_bidirectional(&address, request, numbers(1), &*responses);
    assert_eq!(opening.await.unwrap_err().code(), Code::InvalidPayload);
    assert_eq!(responses.streams(), 0);
}
