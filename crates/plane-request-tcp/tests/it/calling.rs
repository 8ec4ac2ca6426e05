//! The calling side of the request plane: no answer is mistaken, and every failure says whether the
//! request may have run.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use sinew_plane::{Code, Executed, Headers, RequestPlaneClient};
use sinew_plane_request_tcp::TcpRequestConfig;

use crate::fixture::{
    RawWorker, all_accepted, answer, caller, config, defaults, frame, send, soon, storm, worker,
    worker_at,
};

#[tokio::test]
async fn a_request_is_one_frame_of_exactly_these_bytes() {
    let worker = RawWorker::new().await;
    let client = caller(defaults());
    let mut headers = Headers::new();
    headers.insert("request-id", "7").unwrap();
    let address = format!("{}/1f/ns%2Fx/comp/ep", worker.at);
    let sent = tokio::spawn({
        let client = client.clone();
        async move { client.send_request(address, Bytes::from("payload"), headers).await }
    });
    let mut raw = worker.accept().await;
    let json = br#"{"request-id":"7","x-endpoint-path":"1f/ns%2Fx/comp/ep"}"#;
    let expected = frame(b"1f/ns%2Fx/comp/ep", json, b"payload");
    let mut said = vec![0; expected.len()];
    soon("the frame", tokio::io::AsyncReadExt::read_exact(&mut raw.socket, &mut said))
        .await
        .unwrap();
    assert_eq!(said, expected);
    raw.write(&[0, 0, 0, 0]).await;
    assert_eq!(soon("the answer", sent).await.unwrap().unwrap(), Bytes::new());
}

#[tokio::test]
async fn the_closed_set_of_answers_becomes_typed_errors() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(defaults());
    for (path, code) in [
        ("1f/a/b/overloaded", Code::Overloaded),
        ("1f/a/b/unknown", Code::UnknownEndpoint),
        ("1f/a/b/draining", Code::Draining),
    ] {
        let error = send(&client, at, path).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, Executed::No));
        assert!(error.is_safe_to_resend());
    }
    send(&client, at, "1f/a/b/c").await.unwrap();
    assert_eq!((taker.count(), server.connections()), (1, 1));
}

#[tokio::test]
async fn oversized_and_unencodable_requests_are_refused_before_connecting() {
    let worker = RawWorker::new().await;
    let client = caller(TcpRequestConfig { max_message_bytes: 1000, ..defaults() });
    let mut many = Headers::new();
    for n in 0..2 {
        many.insert(&format!("h{n}"), &"x".repeat(32_760)).unwrap();
    }
    let long = "p".repeat(1025);
    for (path, payload, headers, code) in [
        ("1f/a/b/c", 1000, Headers::new(), Code::TooLarge),
        ("1f/a/b/c", 1, many, Code::TooLarge),
        ("", 1, Headers::new(), Code::InvalidPayload),
        (&long, 1, Headers::new(), Code::InvalidPayload),
        ("a\nb", 1, Headers::new(), Code::InvalidPayload),
    ] {
        let address = format!("{}/{path}", worker.at);
        let sent = client.send_request(address, vec![0; payload].into(), headers);
        let error = soon("the refusal", sent).await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, Executed::No), "{path:.20}");
    }
    assert_eq!((client.hosts(), client.connections()), (0, 0));
}

#[tokio::test]
async fn a_cold_connection_failure_is_safe_to_resend() {
    let at = RawWorker::new().await.at;
    let error = send(&caller(defaults()), at, "p").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));
    assert!(error.is_safe_to_resend());
}

#[tokio::test]
async fn an_unknown_answer_is_a_violation_and_never_a_success() {
    let worker = RawWorker::new().await;
    let (at, client) = (worker.at, caller(defaults()));
    let texts = ["Read error: x", "Invalid endpoint path", "OK", " ", "server overloaded: x"];
    let answering = tokio::spawn(async move {
        let mut raw = worker.accept().await;
        for text in texts.into_iter().chain([""]) {
            raw.request().await.unwrap();
            raw.write(&answer(text)).await;
        }
        raw
    });
    for text in texts {
        let error = send(&client, at, "p").await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Violation, Executed::Maybe), "{text}");
        assert!(!error.is_safe_to_resend());
        assert!(error.message().contains(text), "{error}");
    }
    // The frames were in order, so the requests of others on the connection are not cut.
    send(&client, at, "p").await.unwrap();
    soon("the worker", answering).await.unwrap();
}

#[tokio::test]
async fn a_missing_answer_ends_in_time_and_the_connection_with_it() {
    let worker = RawWorker::new().await;
    let client =
        caller(TcpRequestConfig { request_timeout: Duration::from_millis(100), ..defaults() });
    let first = storm(&client, worker.at, 3);
    let mut silent = worker.accept().await;
    for outcome in join_all(first).await {
        let error = outcome.unwrap().unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
        assert!(error.message().contains("no acknowledgement within 100ms"), "{error}");
    }
    for _ in 0..3 {
        silent.request().await.unwrap();
    }
    assert!(silent.request().await.is_none(), "closed");
    // A late answer finds nobody: the next request has a connection of its own.
    let again = storm(&client, worker.at, 1);
    let mut second = worker.accept().await;
    second.request().await.unwrap();
    second.write(&answer("")).await;
    all_accepted(again).await;
}

#[tokio::test]
async fn a_caller_that_has_gone_does_not_keep_a_silent_connection() {
    let worker = RawWorker::new().await;
    let client =
        caller(TcpRequestConfig { request_timeout: Duration::from_millis(50), ..defaults() });
    let storm = storm(&client, worker.at, 1);
    let mut silent = worker.accept().await;
    silent.request().await.unwrap();
    storm[0].abort();
    assert!(silent.request().await.is_none(), "closed");
}

#[tokio::test]
async fn the_answer_of_a_caller_that_has_gone_is_nobody_elses() {
    let worker = RawWorker::new().await;
    let client = caller(defaults());
    let first = storm(&client, worker.at, 1);
    let mut raw = worker.accept().await;
    raw.request().await.unwrap();
    first[0].abort();
    let second = storm(&client, worker.at, 1);
    raw.request().await.unwrap();
    raw.write(&[answer("Server overloaded: the first"), answer("")].concat()).await;
    all_accepted(second).await;
}

#[tokio::test]
async fn answers_are_matched_in_order() {
    let worker = RawWorker::new().await;
    let client = caller(defaults());
    let at = worker.at;
    let answering = tokio::spawn(async move {
        let mut raw = worker.accept().await;
        let mut answers = Vec::new();
        for _ in 0..40 {
            let request = raw.request().await.unwrap();
            answers.extend(answer(&format!("Server unavailable: {}", request.path())));
        }
        // Byte by byte at first, then all the rest at once.
        for byte in answers.drain(..60) {
            raw.write(&[byte]).await;
        }
        raw.write(&answers).await;
        raw
    });
    let sends = (0..40).map(|n| {
        let client = client.clone();
        async move { (n, send(&client, at, &format!("path{n}")).await) }
    });
    for (n, outcome) in join_all(sends).await {
        assert_eq!(outcome.unwrap_err().message(), format!("path{n}"));
    }
    soon("the worker", answering).await.unwrap();
}

#[tokio::test]
async fn an_endless_answer_is_a_violation() {
    let worker = RawWorker::new().await;
    let client = caller(defaults());
    for bytes in [&[0xFF; 4][..], b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x20\x01"] {
        let storm = storm(&client, worker.at, 1);
        let mut raw = worker.accept().await;
        raw.request().await.unwrap();
        raw.write(bytes).await;
        let error = join_all(storm).await.remove(0).unwrap().unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Violation, Executed::Maybe));
        assert!(raw.request().await.is_none(), "closed");
    }
}

#[tokio::test]
async fn an_answer_to_no_request_ends_the_connection() {
    let worker = RawWorker::new().await;
    let client = caller(defaults());
    let first = storm(&client, worker.at, 1);
    let mut raw = worker.accept().await;
    raw.request().await.unwrap();
    raw.write(&[answer(""), answer("")].concat()).await;
    all_accepted(first).await;
    assert!(raw.request().await.is_none(), "closed");
}

#[tokio::test]
async fn a_connection_that_closes_under_a_request_fails_it_promptly() {
    let worker = RawWorker::new().await;
    let client =
        caller(TcpRequestConfig { request_timeout: Duration::from_secs(3600), ..defaults() });
    let storm = storm(&client, worker.at, 2);
    let mut raw = worker.accept().await;
    raw.request().await.unwrap();
    raw.request().await.unwrap();
    drop(raw);
    for outcome in soon("the failures", join_all(storm)).await {
        let error = outcome.unwrap().unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
    }
}

#[tokio::test]
async fn requests_not_written_in_full_are_known_not_to_have_run() {
    let worker = RawWorker::new().await;
    let client = caller(TcpRequestConfig { pool_size: 1, ..defaults() });
    // More than the sockets hold, so the first is begun and the second is not.
    let large = Bytes::from(vec![0; 30 << 20]);
    let sends = (0..2).map(|_| {
        let (client, large, address) = (client.clone(), large.clone(), format!("{}/p", worker.at));
        tokio::spawn(async move { client.send_request(address, large, Headers::new()).await })
    });
    let sends: Vec<_> = sends.collect();
    let mut raw = worker.accept().await;
    let mut start = [0; 1000];
    soon("the start", tokio::io::AsyncReadExt::read_exact(&mut raw.socket, &mut start))
        .await
        .unwrap();
    drop(raw);
    for outcome in soon("the failures", join_all(sends)).await {
        let error = outcome.unwrap().unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::No));
        assert!(error.is_safe_to_resend());
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_is_not_used_again() {
    let worker = RawWorker::new().await;
    let client = caller(defaults());
    for _ in 0..3 {
        let storm = storm(&client, worker.at, 1);
        let mut raw = worker.accept().await;
        raw.request().await.unwrap();
        raw.write(&answer("")).await;
        all_accepted(storm).await;
        drop(raw);
        soon("the loss to be noticed", async {
            while client.connections() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_worker_that_crashed_and_came_back_is_found_again() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(defaults());
    send(&client, at, "p").await.unwrap();
    drop(server);
    soon("the loss to be noticed", async {
        while client.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = send(&client, at, "p").await.unwrap_err();
    assert!(error.is_safe_to_resend(), "{error:?}");
    let _server = soon("the port", async {
        loop {
            match worker_at(&taker, at) {
                Ok(server) => return server,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    send(&client, at, "p").await.unwrap();
}
