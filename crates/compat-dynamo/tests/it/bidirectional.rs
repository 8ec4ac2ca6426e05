//! Requests that are streams, between Sinew's own ends and with a Dynamo peer by hand.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sinew_compat_dynamo::{BidirectionalEndpoint, SplitScheme};
use sinew_plane::{
    Address, BoxStream, Code, Context, IncomingRequest, InstanceId, OutgoingRequest,
    RequestHandler, RequestStream, ResponseSink, StopKind,
};
use sinew_testkit::{Received, Reporter, reports};

use crate::{
    dynamo::{self, Caller, Line, call_home, request_frame, two_part},
    fixture::{Worker, another, response_server, soon, transport},
};

const PATH: &str = "1f/ns1/backend/generate";

fn no_unary() -> Arc<dyn RequestHandler> {
    Arc::new(|_: IncomingRequest<'_>, _: ResponseSink| panic!("it takes streams alone"))
}

/// Sends back each item that comes, and tells how they ended.
fn echo(worker: &Worker, ended: Reporter<Option<Code>>) -> BidirectionalEndpoint {
    let handler =
        move |request: IncomingRequest<'_>, mut items: RequestStream, mut sink: ResponseSink| {
            assert!(request.body.is_empty());
            let ended = ended.clone();
            tokio::spawn(async move {
                sink.accept();
                while let Some(item) = items.next().await {
                    let sent = match item {
                        Ok(item) => sink.send(item).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = sent {
                        return ended.tell(Some(error.code()));
                    }
                }
                sink.complete();
                ended.tell(None);
            });
        };
    let endpoint = "ns1/backend/generate".parse().unwrap();
    worker.split.serve_bidirectional(endpoint, worker.back.clone(), Arc::new(handler))
}

fn request() -> OutgoingRequest {
    let mut request = OutgoingRequest::new(
        "ns1/backend/generate".parse().unwrap(),
        InstanceId(0x1f),
        Bytes::new(),
    );
    request.headers.insert("content-type", "application/json").unwrap();
    request
}

fn numbers(count: usize) -> BoxStream<'static, Bytes> {
    stream::iter((0..count).map(|number| Bytes::from(number.to_string()))).boxed()
}

#[tokio::test]
async fn both_directions_carry_their_items_between_our_own_ends() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(no_unary()).await;
    let _served = echo(&worker, reporter);
    let responses = response_server(true);
    for (scheme, address) in [
        (SplitScheme::SplitTcp, worker.address()),
        (
            SplitScheme::DynamoTcp,
            Address::new("dynamo-tcp", &format!("{}/{PATH}", worker.host())).unwrap(),
        ),
    ] {
        let transport = transport(scheme, Arc::clone(&responses));
        for count in [0, 1, 1000] {
            let opening =
                transport.open_bidirectional(&address, request(), numbers(count), &*responses);
            let mut stream = soon("the opening", opening).await.unwrap();
            let items = Received::read(&mut stream).await.complete();
            assert_eq!(items.len(), count, "{scheme:?}");
            assert!(items.iter().enumerate().all(|(n, item)| item == n.to_string().as_bytes()));
            assert_eq!(ended.next("the end of the items").await, None);
        }
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
        let transport = transport(SplitScheme::SplitTcp, Arc::clone(&responses));
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
    let transport = transport(SplitScheme::SplitTcp, Arc::clone(&responses));
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
    let transport = transport(SplitScheme::SplitTcp, Arc::clone(&responses));
    let address = Address::new("split-tcp", "127.0.0.1:1").unwrap();
    let mut request = request();
    request.body = "x".into();
    let opening = transport.open_bidirectional(&address, request, numbers(1), &*responses);
    assert_eq!(opening.await.unwrap_err().code(), Code::InvalidPayload);
    assert_eq!(responses.streams(), 0);
}

#[tokio::test]
async fn a_dynamo_worker_gets_the_bytes_that_it_expects() {
    let worker = dynamo::Worker::new().await;
    let responses = response_server(true);
    let transport = transport(SplitScheme::DynamoTcp, Arc::clone(&responses));
    let address = Address::new("dynamo-tcp", &format!("{}/{PATH}", worker.host())).unwrap();
    let opening = transport.open_bidirectional(&address, request(), numbers(2), &*responses);
    let (stream, (received, _line)) = tokio::join!(opening, async {
        let (received, mut line) = worker.request().await;
        line.acknowledge("").await;
        (received, line)
    });
    let mut stream = stream.unwrap();
    assert!(received.body.is_empty());
    assert_eq!(received.control["request_type"], "many_in");
    let info = &received.control["request_stream_connection_info"];
    assert_eq!(info["transport"], "tcp_server");
    let info: serde_json::Value = serde_json::from_str(info["info"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&info["stream_type"], &info["context"]),
        (&"request".into(), &received.control["id"])
    );

    let mut input = Line::dial(info["address"].as_str().unwrap()).await;
    let subject = info["subject"].as_str().unwrap();
    let handshake = format!(r#"{{"subject":"{subject}","stream_type":"request"}}"#);
    input.write(&two_part(handshake.as_bytes(), b"")).await;
    assert_eq!(input.item().await, b"0");
    assert_eq!(input.item().await, b"1");
    assert_eq!(input.header().await, "\"sentinel\"");

    let mut back = call_home(&received.control).await;
    back.write(&two_part(br#"{"error":null}"#, b"")).await;
    back.write(&two_part(b"", br#"{"complete_final":true}"#)).await;
    back.write(&two_part(b"\"sentinel\"", b"")).await;
    assert!(Received::read(&mut stream).await.complete().is_empty());
}

#[tokio::test]
async fn a_dynamo_caller_is_answered_in_the_bytes_that_it_expects() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(no_unary()).await;
    let served = echo(&worker, reporter);
    let caller = Caller::new().await;
    let control = caller.control("json");
    // Both streams are expected at the same place; their handshakes tell them apart.
    let info: serde_json::Value = serde_json::from_str(&control).unwrap();
    let text = info["connection_info"].to_string();
    let input = text.replace("response", "request");
    let control = control.replace("single_in", "many_in");
    let control =
        control.replacen('{', &format!(r#"{{"request_stream_connection_info":{input},"#), 1);
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(PATH, "{}", &two_part(control.as_bytes(), b""))).await;
    assert_eq!(line.ack().await, "");

    let mut input = caller.connection().await;
    let handshake = format!(r#"{{"subject":"{}","stream_type":"request"}}"#, dynamo::SUBJECT);
    assert_eq!(input.header().await, handshake);
    let mut back = caller.worker().await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    input.write(&two_part(b"", b"7")).await;
    assert_eq!(back.item().await, br#"{"data":{"data":7},"complete_final":false}"#);
    input.write(&two_part(b"\"sentinel\"", b"")).await;
    assert_eq!(back.item().await, br#"{"complete_final":true}"#);
    assert_eq!(back.header().await, "\"sentinel\"");
    assert_eq!(ended.next("the end of the items").await, None);

    // One request is not a stream of them, and a stream needs a place to be fetched from.
    let single = another(&caller.control("json"), 1);
    for control in [single, another(&caller.control("json"), 2).replace("single_in", "many_in")] {
        line.write(&request_frame(PATH, "{}", &two_part(control.as_bytes(), b""))).await;
        assert_eq!(line.ack().await, "");
        let mut back = caller.worker().await;
        assert!(back.header().await.contains("\"InvalidRequest\""));
    }
    drop(served);
}

#[tokio::test]
async fn items_that_break_off_kill_the_request() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(no_unary()).await;
    let _served = echo(&worker, reporter);
    let caller = Caller::new().await;
    let control = caller.control("json").replace("single_in", "many_in");
    let info: serde_json::Value = serde_json::from_str(&control).unwrap();
    let input = info["connection_info"].to_string().replace("response", "request");
    let control =
        control.replacen('{', &format!(r#"{{"request_stream_connection_info":{input},"#), 1);
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(PATH, "{}", &two_part(control.as_bytes(), b""))).await;
    assert_eq!(line.ack().await, "");
    let mut input = caller.connection().await;
    input.header().await;
    let mut back = caller.worker().await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    drop(input);
    assert_eq!(ended.next("the loss").await, Some(Code::Truncated));
    back.end().await;
}
