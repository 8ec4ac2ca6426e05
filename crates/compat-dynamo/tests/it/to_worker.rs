//! A Sinew caller and a Dynamo worker by hand.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use sinew_plane::{
    Address, Code, Context, DuplexTransport, Error, Executed, Headers, InstanceId, Outcome,
    OutgoingRequest, ResponseStream, StreamId,
};
use sinew_split::SplitTransport;
use sinew_testkit::Received;

use crate::{
    dynamo::{Line, Worker, call_home, info, two_part},
    fixture::{MAX_MESSAGE_BYTES, response_server, soon},
    to_dynamo,
};

const PATH: &str = "5315a1fc98a85605/ns1/backend/generate";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct Peers {
    worker: Worker,
    transport: SplitTransport,
    address: Address,
}

impl Peers {
    async fn new() -> Self {
        let worker = Worker::new().await;
        let address = Address::new("dynamo-tcp", &format!("{}/{PATH}", worker.host())).unwrap();
        let transport = to_dynamo(response_server(true));
        Self { worker, transport, address }
    }

    /// A call that the worker has accepted, and has dialled back for up to the handshake.
    async fn call(&self, request: OutgoingRequest) -> (ResponseStream, Line) {
        let (stream, (_, _, back)) =
            tokio::join!(self.transport.open(&self.address, request), self.worker.accepted());
        (stream.unwrap(), back)
    }

    /// The same, when it has begun.
    async fn begun(&self, request: OutgoingRequest) -> (ResponseStream, Line) {
        let (stream, mut back) = self.call(request).await;
        back.write(&two_part(br#"{"error":null}"#, b"")).await;
        (stream, back)
    }

    async fn refusal(&self, answer: &[u8]) -> Error {
        let opening = self.transport.open(&self.address, request("json"));
        let (stream, ()) = tokio::join!(opening, async {
            let (_, mut line) = self.worker.request().await;
            let mut ack = (answer.len() as u32).to_be_bytes().to_vec();
            ack.extend_from_slice(answer);
            line.write(&ack).await;
        });
        stream.unwrap_err()
    }
}

fn headers(entries: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in entries {
        headers.insert(name, value).unwrap();
    }
    headers
}

fn request(format: &str) -> OutgoingRequest {
    let content_type = format!("application/{format}");
    let endpoint = "ns1/backend/generate".parse().unwrap();
    OutgoingRequest::new(endpoint, InstanceId(0x5315_a1fc_98a8_5605), "\"hello\"".into())
        .with_headers(headers(&[("content-type", &content_type)]))
}

async fn send(back: &mut Line, items: &[&[u8]]) {
    for item in items {
        back.write(&two_part(b"", item)).await;
    }
}

async fn sentinel(back: &mut Line) {
    back.write(&two_part(b"\"sentinel\"", b"")).await;
}

#[tokio::test]
async fn a_request_has_the_bytes_that_dynamo_sends() {
    let peers = Peers::new().await;
    let context = Context::builder().id(StreamId(0x1f)).build();
    let mut request = request("msgpack").with_context(context);
    request.body = "\u{a5}hello".into();
    request.headers.insert("traceparent", TRACE).unwrap();
    request.headers.insert("request-id", "outside").unwrap();
    request.headers.insert("tenant", "blue").unwrap();
    let opening = peers.transport.open(&peers.address, request);
    let (stream, (received, _line)) = tokio::join!(opening, async {
        let (received, mut line) = peers.worker.request().await;
        line.acknowledge("").await;
        (received, line)
    });
    drop(stream.unwrap());
    assert_eq!(received.path, PATH);
    assert_eq!(received.body, "\u{a5}hello".as_bytes());
    let id = "00000000-0000-0000-0000-00000000001f";
    let sent = &received.headers;
    assert_eq!(sent["traceparent"], TRACE);
    assert_eq!(sent["request-id"], id);
    assert_eq!(sent["x-request-id"], "outside");
    assert_eq!(sent["x-endpoint-path"], PATH);
    assert!(sent["x-frontend-send-ts-ns"].as_str().unwrap().parse::<u64>().is_ok());
    assert_eq!(sent.as_object().unwrap().len(), 5);
    let control = received.control.as_object().unwrap();
    let mut keys: Vec<_> = control.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["connection_info", "id", "metadata", "payload_codec", "request_type", "response_type"],
        "nothing that only Sinew knows"
    );
    assert_eq!(control["id"], id);
    assert_eq!(control["request_type"], "single_in");
    assert_eq!(control["response_type"], "many_out");
    assert_eq!(control["payload_codec"], "msgpack");
    assert_eq!(control["metadata"], json!({"tenant": "blue"}));
    let info = info(&received.control);
    assert_eq!((&info["context"], &info["stream_type"]), (&json!(id), &json!("response")));
}

#[tokio::test]
async fn items_in_json_lose_their_wrapping_and_the_stream_completes() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("json")).await;
    send(
        &mut back,
        &[
            br#"{"data":{"data":"hello-0"},"complete_final":false}"#,
            br#"{"data":{"event":"worker","comment":["7"]},"complete_final":false}"#,
            br#"{"data":{"data":""},"complete_final":false}"#,
            br#"{"data":{"data":"hello-2"},"complete_final":false}"#,
            br#"{"complete_final":true}"#,
        ],
    )
    .await;
    sentinel(&mut back).await;
    let items = Received::read(&mut stream).await.complete();
    assert_eq!(items, [r#""hello-0""#, r#""""#, r#""hello-2""#]);
    back.end().await;
}

#[tokio::test]
async fn items_in_msgpack_lose_their_wrapping_and_the_stream_completes() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("msgpack")).await;
    send(
        &mut back,
        &[
            b"\x82\xa4data\x81\xa4data\xa7hello-0\xaecomplete_final\xc2",
            b"\x81\xaecomplete_final\xc3",
        ],
    )
    .await;
    sentinel(&mut back).await;
    assert_eq!(Received::read(&mut stream).await.complete(), [&b"\xa7hello-0"[..]]);
}

#[tokio::test]
async fn a_stream_without_items_is_complete() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("json")).await;
    send(&mut back, &[br#"{"complete_final":true}"#]).await;
    sentinel(&mut back).await;
    assert!(soon("the start", stream.started()).await.is_ok());
    assert!(Received::read(&mut stream).await.complete().is_empty());
}

#[tokio::test]
async fn a_caller_may_have_its_items_annotated() {
    let peers = Peers::new().await;
    let mut request = request("json");
    request.headers.insert("sinew-items", "annotated").unwrap();
    let (mut stream, mut back) = peers.begun(request).await;
    send(
        &mut back,
        &[
            br#"{"data":{"data":1,"id":"a"},"complete_final":false}"#,
            br#"{"data":{"event":"worker"},"complete_final":false}"#,
            br#"{"data":{"event":"error","comment":["boom"]},"complete_final":false}"#,
            br#"{"complete_final":true}"#,
        ],
    )
    .await;
    sentinel(&mut back).await;
    let items = Received::read(&mut stream).await.complete();
    assert_eq!(
        items,
        [
            r#"{"data":1,"id":"a"}"#,
            r#"{"event":"worker"}"#,
            r#"{"event":"error","comment":["boom"]}"#
        ]
    );
}

#[tokio::test]
async fn an_error_item_ends_the_stream_as_failed() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("json")).await;
    send(
        &mut back,
        &[
            br#"{"data":{"data":1},"complete_final":false}"#,
            br#"{"data":{"event":"error","error":{"error_type":"Unknown","class":"Internal","reason":"runtime.unclassified","message":"boom","diagnostic":"boom"}},"complete_final":false}"#,
        ],
    )
    .await;
    // Neither the end nor anything else comes: the error is the end.
    let received = Received::read(&mut stream).await;
    assert_eq!(received.items, ["1"]);
    let error = received.failed();
    assert_eq!((error.code(), error.message()), (Code::HandlerFailed, "boom"));
    assert_eq!(error.executed(), Executed::Yes);
    drop(stream);
    assert_eq!(back.header().await, "\"kill\"", "the worker need not go on");
}

#[tokio::test]
async fn a_sentinel_without_the_final_mark_is_no_end() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("json")).await;
    send(&mut back, &[br#"{"data":{"data":1},"complete_final":false}"#]).await;
    sentinel(&mut back).await;
    let received = Received::read(&mut stream).await;
    assert_eq!(received.items, ["1"]);
    assert!(matches!(received.outcome, Outcome::Truncated { received: 1 }));
}

#[tokio::test]
async fn a_worker_that_is_gone_leaves_a_true_prefix() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("json")).await;
    send(&mut back, &[br#"{"data":{"data":1},"complete_final":false}"#]).await;
    drop(back);
    let received = Received::read(&mut stream).await;
    assert_eq!(received.items, ["1"]);
    assert_eq!(received.outcome.as_str(), "truncated");
}

#[tokio::test]
async fn what_is_no_frame_and_what_follows_the_end_is_a_violation() {
    for frames in [
        &[&b"not an item"[..]][..],
        &[b"\x81\xaecomplete_final\xc3"],
        &[br#"{"complete_final":false}"#],
        &[br#"{"complete_final":true}"#, br#"{"data":{"data":1},"complete_final":false}"#],
        &[br#"{"complete_final":true}"#, br#"{"complete_final":true}"#],
    ] {
        let peers = Peers::new().await;
        let (mut stream, mut back) = peers.begun(request("json")).await;
        send(&mut back, frames).await;
        sentinel(&mut back).await;
        let received = Received::read(&mut stream).await;
        let error = received.failed();
        assert_eq!(error.code(), Code::Violation, "{error:?}");
        assert!(!error.is_safe_to_resend());
    }
}

#[tokio::test]
async fn an_error_prologue_fails_the_call() {
    let typed = br#"{"error":"Generate Error: no","typed_error":{"error_type":"Unknown","class":"Internal","reason":"runtime.unclassified","message":"no","diagnostic":"no"}}"#;
    for prologue in [&typed[..], br#"{"error":"no"}"#] {
        let peers = Peers::new().await;
        let (mut stream, mut back) = peers.call(request("json")).await;
        back.write(&two_part(prologue, b"")).await;
        sentinel(&mut back).await;
        let error = soon("the error", stream.started()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::HandlerFailed, "no"));
        assert!(!error.is_safe_to_resend(), "the worker had the request");
        let received = Received::read(&mut stream).await;
        assert_eq!(received.failed().code(), Code::HandlerFailed);
    }
}

#[tokio::test]
async fn refusals_in_the_acknowledgement_are_safe_to_resend() {
    for (answer, code) in [
        ("Server overloaded: worker at capacity", Code::Overloaded),
        ("Server unavailable: unknown endpoint 1/a/b/c", Code::UnknownEndpoint),
        ("Server unavailable: worker pool channel closed", Code::Draining),
    ] {
        let peers = Peers::new().await;
        let error = peers.refusal(answer.as_bytes()).await;
        assert_eq!(error.code(), code, "{answer}");
        assert!(error.is_safe_to_resend(), "{answer}");
        assert_eq!(peers.transport.open_streams(), 0);
    }
}

#[tokio::test]
async fn an_unknown_acknowledgement_is_a_violation_and_never_a_success() {
    for answer in ["Read error: early eof", "Invalid endpoint path", "OK"] {
        let peers = Peers::new().await;
        let error = peers.refusal(answer.as_bytes()).await;
        assert_eq!(error.code(), Code::Violation, "{answer}");
        assert!(!error.is_safe_to_resend());
        assert_eq!(peers.transport.open_streams(), 0, "nobody waits for a response");
    }
}

#[tokio::test]
async fn a_stop_and_a_kill_reach_the_worker_and_its_silence_is_the_end() {
    for (kind, word) in [("stop", "\"stop\""), ("kill", "\"kill\"")] {
        let peers = Peers::new().await;
        let (mut stream, mut back) = peers.begun(request("json")).await;
        send(&mut back, &[br#"{"data":{"data":1},"complete_final":false}"#]).await;
        assert_eq!(soon("an item", stream.next()).await.unwrap().unwrap(), "1");
        match kind {
            "stop" => stream.context().stop(),
            _ => stream.context().kill(),
        }
        assert_eq!(back.header().await, word);
        // As Dynamo's worker does: no item, no final mark, no sentinel.
        drop(back);
        let received = Received::read(&mut stream).await;
        assert!(matches!(received.outcome, Outcome::Cancelled { .. }), "{:?}", received.outcome);
    }
}

#[tokio::test]
async fn a_missing_final_mark_after_a_stop_is_a_cancel() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("json")).await;
    stream.context().stop();
    assert_eq!(back.header().await, "\"stop\"");
    sentinel(&mut back).await;
    let received = Received::read(&mut stream).await;
    assert!(matches!(received.outcome, Outcome::Cancelled { .. }), "{:?}", received.outcome);
}

#[tokio::test]
async fn a_dropped_stream_kills_the_worker_and_frees_its_place() {
    let peers = Peers::new().await;
    let (stream, mut back) = peers.begun(request("json")).await;
    assert_eq!(peers.transport.open_streams(), 1);
    drop(stream);
    assert_eq!(back.header().await, "\"kill\"");
    assert_eq!(peers.transport.open_streams(), 0);
}

#[tokio::test]
async fn an_opening_that_is_dropped_withdraws_its_registration() {
    let responses = response_server(true);
    let worker = Worker::new().await;
    let address = Address::new("dynamo-tcp", &format!("{}/{PATH}", worker.host())).unwrap();
    let transport = to_dynamo(std::sync::Arc::clone(&responses));
    let opening = transport.open(&address, request("json"));
    let received = tokio::select! {
        opened = opening => panic!("nothing was acknowledged: {opened:?}"),
        (received, _line) = worker.request() => received,
    };
    assert_eq!((transport.open_streams(), responses.streams()), (0, 0));
    // The worker that dials back all the same is sent away, and so ends its handler.
    let mut back = call_home(&received.control).await;
    let mut rest = Vec::new();
    let _ = soon("the end", tokio::io::AsyncReadExt::read_to_end(&mut back.0, &mut rest)).await;
    assert!(rest.is_empty() || rest == two_part(b"\"kill\"", b""));
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_the_acknowledgement() {
    let peers = Peers::new().await;
    let context = Context::builder().timeout(Duration::from_millis(50)).build();
    let opening = peers.transport.open(&peers.address, request("json").with_context(context));
    let (opened, _silent) = tokio::join!(opening, peers.worker.request());
    let error = opened.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::Maybe));
    assert_eq!(peers.transport.open_streams(), 0);
}

#[tokio::test]
async fn a_deadline_kills_a_worker_that_knows_of_none() {
    let peers = Peers::new().await;
    let context = Context::builder().timeout(Duration::from_millis(200)).build();
    let (mut stream, mut back) = peers.begun(request("json").with_context(context)).await;
    let (received, word) = tokio::join!(Received::read(&mut stream), async {
        let word = back.header().await;
        drop(back);
        word
    });
    assert_eq!(word, "\"kill\"");
    assert_eq!(received.error.unwrap().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_kill_ends_the_wait_for_the_acknowledgement() {
    let peers = Peers::new().await;
    let context = Context::new();
    let request = request("json").with_context(context.clone());
    let opening = peers.transport.open(&peers.address, request);
    let (opened, _line) = tokio::join!(opening, async {
        let received = peers.worker.request().await;
        context.kill();
        received
    });
    let error = opened.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Cancelled, Executed::Maybe));
}

#[tokio::test]
async fn what_a_dynamo_worker_cannot_read_is_not_sent() {
    let peers = Peers::new().await;
    for content_type in ["application/octet-stream", "application/x-bincode", "text/html"] {
        let mut request = request("json");
        request.headers = headers(&[("content-type", content_type)]);
        let error = peers.transport.open(&peers.address, request).await.unwrap_err();
        assert_eq!(error.code(), Code::NoTransport, "{content_type}: {error:?}");
        assert_eq!(error.executed(), Executed::No);
    }
    let mut large = request("json");
    large.body = vec![b'1'; MAX_MESSAGE_BYTES + 1].into();
    let error = peers.transport.open(&peers.address, large).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    let mut heavy = request("json");
    // Each of these characters takes two bytes in JSON.
    heavy.headers.insert("h", &"\"".repeat(65_500)).unwrap();
    let error = peers.transport.open(&peers.address, heavy).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge, "the control message is over 128 KiB");
    assert_eq!(peers.transport.open_streams(), 0);
}

#[tokio::test]
async fn a_closed_transport_gives_its_streams_time_and_takes_no_more() {
    let peers = Peers::new().await;
    let (mut stream, mut back) = peers.begun(request("json")).await;
    let closing = peers.transport.close(Duration::from_secs(20));
    let (cut, received, ()) = tokio::join!(closing, Received::read(&mut stream), async {
        send(&mut back, &[br#"{"complete_final":true}"#]).await;
        sentinel(&mut back).await;
    });
    assert_eq!(cut.cut_streams, 0);
    assert!(received.complete().is_empty());
    let error = peers.transport.open(&peers.address, request("json")).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));
}
