//! Requests that a worker does not take, in Dynamo's words.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sinew_plane::{Code, DuplexServer, Error};
use sinew_testkit::handlers::echo;

use crate::{
    another,
    dynamo::{Caller, Line, request_frame, two_part},
    fixture::{Picky, Worker, until},
};

const PATH: &str = "1f/ns1/backend/generate";

async fn answer(worker: &Worker, path: &str, payload: &[u8]) -> String {
    let mut line = Line::dial(&worker.host()).await;
    line.write(&request_frame(path, "{}", payload)).await;
    line.ack().await
}

/// Accepted, it would wait for a response that no worker can bring.
#[tokio::test]
async fn a_caller_that_can_never_be_dialled_is_refused_in_the_acknowledgement() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let good = caller.control("json");
    let address = good.split(r#"address\":\""#).nth(1).unwrap().split('\\').next().unwrap();
    for (from, to) in [
        ("tcp_server", "quic-response"),
        (address, "169.254.169.254:80"),
        (address, "0.0.0.0:80"),
        (address, "127.0.0.1:0"),
        (r#"stream_type\":\"response"#, r#"stream_type\":\"request"#),
        (r#"{\"address"#, r#"{\"elsewhere"#),
    ] {
        let control = good.replacen(from, to, 1);
        assert_ne!(control, good, "{from}");
        let answer = answer(&worker, PATH, &two_part(control.as_bytes(), b"1")).await;
        assert!(answer.starts_with("Server unavailable: "), "{to}: {answer:?}");
    }
    assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
    assert_eq!(answer(&worker, PATH, &two_part(good.as_bytes(), b"1")).await, "");
    caller.worker().await;
}

#[tokio::test]
async fn an_unknown_endpoint_is_refused_in_the_words_of_dynamo() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let payload = two_part(caller.control("json").as_bytes(), b"1");
    for path in [
        "1e/ns1/backend/generate",
        "1f/ns1/backend/other",
        "1f/ns1/backend",
        "no path at all",
        "1f/ns1/back%2Fend/generate",
    ] {
        let answer = answer(&worker, path, &payload).await;
        assert_eq!(answer, format!("Server unavailable: unknown endpoint {path}"));
    }
    assert_eq!(answer(&worker, PATH, &payload).await, "");
    let mut back = caller.worker().await;
    assert_eq!(back.header().await, r#"{"error":null}"#);
    assert_eq!(handler.runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_the_handler_would_refuse_is_refused_in_the_acknowledgement() {
    for (refusal, answered) in [
        (
            Error::new(Code::Overloaded, "worker at capacity"),
            "Server overloaded: worker at capacity",
        ),
        (Error::draining("going away"), "Server unavailable: going away"),
    ] {
        let handler = Picky::new(Some(refusal));
        let worker = Worker::new(Arc::clone(&handler) as _).await;
        let caller = Caller::new().await;
        let payload = two_part(caller.control("json").as_bytes(), b"1");
        assert_eq!(answer(&worker, PATH, &payload).await, answered);
        assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn malformed_requests_are_refused_with_an_answer_that_callers_know() {
    let worker = Worker::new(echo()).await;
    let caller = Caller::new().await;
    let control = caller.control("json");
    for payload in [
        Vec::new(),
        b"nonsense".to_vec(),
        two_part(b"{}", b"1"),
        two_part(b"", b"1"),
        two_part(control.replace("json", "cbor").as_bytes(), b"1"),
        two_part(&vec![b' '; 200 << 10], b"1"),
        two_part(control.replacen('{', r#"{"sinew":{"v":1,"instance":"x"},"#, 1).as_bytes(), b"1"),
        two_part(
            control.replacen('{', r#"{"sinew":{"v":1,"headers":[["A","b"]]},"#, 1).as_bytes(),
            b"",
        ),
    ] {
        let answer = answer(&worker, PATH, &payload).await;
        assert!(answer.starts_with("Server unavailable: malformed request"), "{answer}");
        assert!(answer.len() < 400, "{answer}");
    }
    assert_eq!(worker.split.pending(), 0);
}

#[tokio::test]
async fn a_shape_that_no_handler_takes_is_told_on_the_response_plane() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let control = caller.control("json");
    let many = control.replace("single_in", "many_in");
    for payload in [
        two_part(another(&many, 1).as_bytes(), b""),
        two_part(another(&many, 2).as_bytes(), b"1"),
        two_part(another(&control, 3).as_bytes(), b""),
    ] {
        assert_eq!(answer(&worker, PATH, &payload).await, "");
        let mut back = caller.worker().await;
        let prologue: serde_json::Value = serde_json::from_str(&back.header().await).unwrap();
        // The one class for which a router of Dynamo does not blame the worker.
        assert_eq!(prologue["typed_error"]["class"], "InvalidRequest");
        assert_eq!(back.header().await, "\"sentinel\"");
    }
    assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_caller_that_cannot_be_dialled_runs_nothing() {
    let handler = Picky::new(None);
    let worker = Worker::new(Arc::clone(&handler) as _).await;
    let caller = Caller::new().await;
    let payload = two_part(caller.control("json").as_bytes(), b"1");
    // No caller listens there any more.
    drop(caller);
    assert_eq!(answer(&worker, PATH, &payload).await, "");
    until("the dial to fail", || worker.split.pending() == 0).await;
    assert_eq!(handler.runs.load(Ordering::Relaxed), 0);
    worker.tcp.shutdown(Duration::ZERO).await;
}
