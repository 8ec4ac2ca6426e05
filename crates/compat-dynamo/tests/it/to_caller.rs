//! A Dynamo caller by hand and a Sinew worker.

use std::sync::Arc;

use bytes::Bytes;
use sinew_plane::{CancelReason, Code, Error, Executed, InstanceId, RequestHandler, StreamId};
use sinew_split::EndpointDeclaration;
use sinew_testkit::{
    Call,
    handlers::{failing, refusing, spawned},
    reports,
};

use crate::{
    dynamo::{Caller, ID, Line, request_frame, two_part},
    fixture::Worker,
};

const PATH: &str = "1f/ns1/backend/generate";
const HEADERS: &str = r#"{"request-id":"0f8fad5b-d9cb-469f-a165-70867728950e","x-frontend-send-ts-ns":"5","x-endpoint-path":"1f/ns1/backend/generate","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#;

/// Sends a request, and gives the connections both ways once it is accepted.
async fn call(worker: &Worker, caller: &Caller, codec: &str, body: &[u8]) -> (Line, Line) {
    let control = caller.control(codec);
    let line = accepted(worker, &control, body).await;
    (line, caller.worker().await)
}

async fn accepted(worker: &Worker, control: &str, body: &[u8]) -> Line {
    let (answer, line) = answered(worker, PATH, &two_part(control.as_bytes(), body)).await;
    assert_eq!(answer, "", "an acknowledgement that accepts is empty");
    line
}

async fn answered(worker: &Worker, path: &str, payload: &[u8]) -> (String, Line) {
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(path, HEADERS, payload)).await;
    (line.ack().await, line)
}

/// Sends these items and completes.
fn sending(items: &'static [&'static [u8]]) -> Arc<dyn RequestHandler> {
    spawned(move |mut call| async move {
        for item in items {
            if call.sink.send((*item).into()).await.is_err() {
                return;
            }
        }
        call.sink.complete();
    })
}

async fn assert_end(back: &mut Line, end: &[u8]) {
    assert_eq!(back.item().await, end);
    assert_eq!(back.header().await, "\"sentinel\"");
}

const JSON_END: &[u8] = br#"{"complete_final":true}"#;

#[tokio::test]
async fn a_response_in_json_has_the_bytes_of_dynamo() {
    let worker = Worker::new(sending(&[b"\"hello-0\"", b"\"\""])).await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"\"hello\"").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_eq!(back.item().await, br#"{"data":{"data":"hello-0"},"complete_final":false}"#);
    assert_eq!(back.item().await, br#"{"data":{"data":""},"complete_final":false}"#);
    assert_end(&mut back, JSON_END).await;
}

#[tokio::test]
async fn a_response_in_msgpack_has_the_bytes_of_dynamo() {
    let worker = Worker::new(sending(&[b"\xa7hello-0"])).await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "msgpack", b"\xa5hello").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    let item = b"\x82\xa4data\x81\xa4data\xa7hello-0\xaecomplete_final\xc2";
    assert_eq!(back.item().await, item);
    assert_end(&mut back, b"\x81\xaecomplete_final\xc3").await;
}

#[tokio::test]
async fn a_response_without_items_has_both_marks() {
    let worker = Worker::new(sending(&[])).await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_end(&mut back, JSON_END).await;
}

#[tokio::test]
async fn items_of_a_declared_endpoint_are_not_wrapped_twice() {
    let worker = Worker::new(sending(&[br#"{"data":1,"id":"a"}"#])).await;
    let mut declaration =
        EndpointDeclaration::new("ns1/backend/generate".parse().unwrap(), InstanceId(0x1f));
    declaration.annotated = true;
    let declared = worker.split.declare(declaration);
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_eq!(back.item().await, br#"{"data":{"data":1,"id":"a"},"complete_final":false}"#);
    assert_end(&mut back, JSON_END).await;
    drop(declared);
}

#[tokio::test]
async fn everything_in_a_request_reaches_the_handler() {
    let (reporter, mut seen) = reports();
    let worker = Worker::new(spawned(move |call: Call| {
        let reporter = reporter.clone();
        async move {
            let Call { endpoint, instance, body, context, transport, attempt, sink } = call;
            reporter.tell((endpoint, instance, body, context, transport, attempt));
            sink.complete();
        }
    }))
    .await;
    let caller = Caller::new().await;
    let control = caller.control("msgpack");
    let control = control.replacen('{', r#"{"metadata":{"tenant":"blue","Odd Name":"x"},"#, 1);
    let _line = accepted(&worker, &control, b"\xa5hello").await;
    let (endpoint, instance, body, context, transport, attempt) = seen.next("the request").await;
    assert_eq!((endpoint.as_str(), instance), ("ns1/backend/generate", InstanceId(0x1f)));
    assert_eq!(&body[..], b"\xa5hello");
    assert_eq!((transport.as_str(), attempt), ("dynamo-tcp", 0));
    assert_eq!(context.id(), StreamId(0x0f8f_ad5b_d9cb_469f_a165_7086_7728_950e));
    assert!(context.deadline().is_none());
    let headers = context.headers();
    assert_eq!(headers.get("content-type"), Some("application/msgpack"));
    assert_eq!(headers.get("request-id"), Some(ID));
    assert_eq!(headers.get("tenant"), Some("blue"));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(headers.get("traceparent"), Some(trace));
    assert_eq!(headers.iter().count(), 4);
}

#[tokio::test]
async fn ids_that_are_no_uuid_are_served_too() {
    let worker = Worker::new(sending(&[b"1"])).await;
    let caller = Caller::new().await;
    let control = caller.control("json").replace(ID, "chatcmpl-7");
    let _line = accepted(&worker, &control, b"1").await;
    let mut back = caller.worker().await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
}

/// What a prologue or an error item says.
fn words(error: &serde_json::Value) -> (String, String, String) {
    let word = |key: &str| error[key].as_str().unwrap().to_owned();
    (word("class"), word("error_type"), word("message"))
}

#[tokio::test]
async fn a_handler_that_fails_is_told_of_in_the_stream_and_blames_no_worker() {
    for (items, code) in
        [("0", Code::HandlerFailed), ("2", Code::HandlerFailed), ("0", Code::ConnectFailed)]
    {
        let worker = Worker::new(failing(Error::new(code, "boom"))).await;
        let caller = Caller::new().await;
        let (_line, mut back) = call(&worker, &caller, "json", items.as_bytes()).await;
        assert_eq!(back.header().await, r#"{"error":null}"#);
        for number in 0..items.parse().unwrap() {
            let item = format!(r#"{{"data":{{"data":{number}}},"complete_final":false}}"#);
            assert_eq!(back.item().await, item.as_bytes());
        }
        let told: serde_json::Value = serde_json::from_slice(&back.item().await).unwrap();
        assert_eq!(told["complete_final"], false);
        assert_eq!(told["data"]["event"], "error");
        // None of the words for which a router sets a worker aside.
        let (class, kind, message) = words(&told["data"]["error"]);
        assert_eq!((&*class, &*kind, &*message), ("Internal", "Unknown", "boom"), "{code}");
        assert_end(&mut back, JSON_END).await;
    }
}

#[tokio::test]
async fn a_handler_that_is_gone_fails_the_stream() {
    let worker = Worker::new(spawned(|mut call| async move {
        let _ = call.sink.send("1".into()).await;
    }))
    .await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_eq!(back.item().await, br#"{"data":{"data":1},"complete_final":false}"#);
    let told: serde_json::Value = serde_json::from_slice(&back.item().await).unwrap();
    assert_eq!(told["data"]["error"]["class"], "Internal");
    assert_end(&mut back, JSON_END).await;
}

#[tokio::test]
async fn a_request_at_fault_is_told_instead_of_the_stream() {
    let fault = Error::new(Code::InvalidPayload, "no number").with_executed(Executed::Yes);
    let worker = Worker::new(failing(fault)).await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"0").await;
    let prologue: serde_json::Value = serde_json::from_str(&back.header().await).unwrap();
    assert_eq!(prologue["error"], "no number");
    let (class, kind, message) = words(&prologue["typed_error"]);
    assert_eq!((&*class, &*kind), ("InvalidRequest", "InvalidArgument"));
    assert_eq!(message, "no number");
    assert_eq!(back.header().await, "\"sentinel\"");
}

#[tokio::test]
async fn a_refusal_behind_the_acknowledgement_sends_the_caller_elsewhere() {
    for (code, class, kind) in [
        (Code::Draining, "Unavailable", "WorkerUnavailable"),
        (Code::UnknownEndpoint, "Unavailable", "WorkerUnavailable"),
    ] {
        let worker = Worker::new(refusing(Error::new(code, "not now"))).await;
        let caller = Caller::new().await;
        let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
        let prologue: serde_json::Value = serde_json::from_str(&back.header().await).unwrap();
        let (told_class, told_kind, message) = words(&prologue["typed_error"]);
        assert_eq!((&*told_class, &*told_kind, &*message), (class, kind, "not now"));
        assert_eq!(back.header().await, "\"sentinel\"");
    }
}

#[tokio::test]
async fn a_full_worker_is_not_taken_for_one_that_cannot_be_reached() {
    let full = Error::new(Code::Overloaded, "not now");
    let worker = Worker::new(refusing(full)).await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    let told: serde_json::Value = serde_json::from_slice(&back.item().await).unwrap();
    let (class, kind, message) = words(&told["data"]["error"]);
    assert_eq!((&*class, &*kind, &*message), ("CapacityExhausted", "WorkerOverloaded", "not now"));
    assert_end(&mut back, JSON_END).await;
}

/// Sends one item and tells how it was cancelled.
fn until_stopped(
    told: sinew_testkit::Reporter<(bool, Option<CancelReason>)>,
) -> Arc<dyn RequestHandler> {
    spawned(move |mut call| {
        let told = told.clone();
        async move {
            if call.sink.send("1".into()).await.is_ok() {
                call.context.stopped().await;
                told.tell((call.context.is_killed(), call.context.reason()));
            }
        }
    })
}

#[tokio::test]
async fn a_stop_and_a_kill_reach_the_handler_and_are_answered_with_silence() {
    for (word, killed) in [("\"stop\"", false), ("\"kill\"", true)] {
        let (reporter, mut heard) = reports();
        let worker = Worker::new(until_stopped(reporter)).await;
        let caller = Caller::new().await;
        let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
        assert_eq!(back.header().await, r#"{"error":null}"#);
        assert_eq!(back.item().await, br#"{"data":{"data":1},"complete_final":false}"#);
        back.write(&two_part(word.as_bytes(), b"")).await;
        let heard = heard.next("the cancel").await;
        assert_eq!(heard, (killed, Some(CancelReason::Caller)));
        // No final mark and no sentinel.
        back.end().await;
    }
}

#[tokio::test]
async fn a_stopped_handler_that_completes_says_so() {
    let worker = Worker::new(spawned(|mut call| async move {
        call.sink.accept();
        call.context.stopped().await;
        call.sink.complete();
    }))
    .await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    back.write(&two_part(b"\"stop\"", b"")).await;
    assert_end(&mut back, JSON_END).await;
}

#[tokio::test]
async fn a_caller_that_is_gone_kills_the_handler() {
    let (reporter, mut heard) = reports();
    let worker = Worker::new(until_stopped(reporter)).await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    drop(back);
    let (killed, _) = heard.next("the loss").await;
    assert!(killed);
}

#[tokio::test]
async fn a_response_that_ends_without_room_for_the_marks_still_gets_them() {
    let (reporter, mut ended) = reports();
    let worker = Worker::new(spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            let item = Bytes::from(format!("\"{}\"", "x".repeat(10_000)));
            // Until nothing more fits on the way to a caller that does not read.
            while call.sink.try_send(item.clone()).is_ok() {
                call.sink.flush();
            }
            let sent = call.sink.sent();
            call.sink.complete();
            reporter.tell(sent);
        }
    }))
    .await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    let sent = ended.next("that the handler has ended").await;
    assert_eq!(worker.split.pending(), 1, "the marks wait");
    assert_eq!(back.header().await, r#"{"error":null}"#);
    for _ in 0..sent {
        assert_eq!(back.item().await.len(), 10_002 + 41);
    }
    assert_end(&mut back, JSON_END).await;
}

#[tokio::test]
async fn an_item_that_no_caller_could_read_is_refused_to_the_handler() {
    let (reporter, mut refused) = reports();
    let worker = Worker::new(spawned(move |mut call| {
        let reporter = reporter.clone();
        async move {
            let empty = call.sink.send("".into()).await.map_err(|error| error.code());
            let large = call.sink.send(vec![b'1'; 40 << 20].into()).await;
            reporter.tell((empty, large.map_err(|error| error.code())));
            call.sink.complete();
        }
    }))
    .await;
    let caller = Caller::new().await;
    let (_line, mut back) = call(&worker, &caller, "json", b"1").await;
    let refused = refused.next("the refusals").await;
    assert_eq!(refused, (Err(Code::InvalidPayload), Err(Code::TooLarge)));
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_end(&mut back, JSON_END).await;
}
