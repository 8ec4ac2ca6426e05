//! One request and its acknowledgement.

use std::{error::Error as _, time::Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{Code, Error, Executed, Headers, RequestPlaneClient};
use sinew_transport_nats::{NatsConfig, NatsRequestClient, PayloadTooLarge};

use crate::{
    handler::{Recorder, SUBJECT, Seen, send, serve},
    server::{Server, connect},
};

#[tokio::test]
async fn a_request_arrives_with_its_headers_and_is_acknowledged() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let _endpoint = serve(&worker, &handler).await;

    let mut headers = Headers::new();
    headers.insert("request-id", "7").unwrap();
    headers.insert("x-note", "a: b; \u{e4}").unwrap();
    let payload = Bytes::from_static(b"\x00\xff\r\nPUB x 0\r\n");
    let client = NatsRequestClient::new(caller);
    let answer = client.send_request(SUBJECT.to_owned(), payload.clone(), headers).await.unwrap();

    assert!(answer.is_empty());
    let mut seen = handler.seen.lock().clone();
    seen[0].headers.sort();
    let headers = [("request-id", "7"), ("x-note", "a: b; \u{e4}")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(seen, [Seen { target: SUBJECT.to_owned(), headers, payload }]);
}

#[tokio::test]
async fn one_connection_can_call_itself() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let _endpoint = serve(&connection, &handler).await;
    for n in 0..100 {
        send(&connection, &n.to_string()).await.unwrap();
    }
    assert_eq!(handler.count(), 100);
}

#[tokio::test]
async fn nobody_there_is_said_at_once_and_safe_to_resend() {
    let server = Server::start();
    let caller = server.connect().await;
    let start = Instant::now();
    let error = send(&caller, "x").await.unwrap_err();
    assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    assert_eq!(error.code(), Code::UnknownEndpoint);
    assert!(error.is_safe_to_resend());
    assert!(error.message().contains(SUBJECT), "{error}");
}

#[tokio::test]
async fn refusals_come_back_with_code_and_text() {
    let server = Server::start();
    let connection = server.connect().await;
    let codes = [Code::Overloaded, Code::UnknownEndpoint, Code::Draining];
    let texts = ["worker at capacity", "unknown endpoint 1f/a/b/c", "going away"];
    let handler = Recorder::answering(move |n| Err(Error::new(codes[n], texts[n])));
    let _endpoint = serve(&connection, &handler).await;
    for (code, text) in codes.into_iter().zip(texts) {
        let error = send(&connection, "x").await.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, text));
        assert!(error.is_safe_to_resend());
    }
}

#[tokio::test]
async fn too_large_is_refused_before_sending_and_names_the_limit() {
    let server = Server::with("max_payload: 4096");
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let _endpoint = serve(&connection, &handler).await;
    assert_eq!(connection.max_payload(), Some(4096));

    send(&connection, &"x".repeat(4096)).await.unwrap();
    let error = send(&connection, &"x".repeat(4097)).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::TooLarge, Executed::No));
    assert!(error.message().contains("4096"), "{error}");
    let cause = error.source().unwrap().downcast_ref::<PayloadTooLarge>().unwrap();
    assert_eq!(*cause, PayloadTooLarge { limit: 4096, size: 4097 });

    // `NATS/1.0`, `n: v` and an empty line, each with its line end, are 18 bytes.
    let mut headers = Headers::new();
    headers.insert("n", "v").unwrap();
    let client = NatsRequestClient::new(connection);
    let with_headers = async |bytes: usize| {
        let payload = Bytes::from(vec![0; bytes]);
        client.send_request(SUBJECT.to_owned(), payload, headers.clone()).await
    };
    with_headers(4096 - 18).await.unwrap();
    let error = with_headers(4096 - 17).await.unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    assert_eq!(handler.count(), 2, "nothing else was sent");
}

#[tokio::test]
async fn an_unknown_acknowledgement_is_a_violation() {
    let server = Server::start();
    let caller = server.connect().await;
    let (stranger, mut requests) = server.listener(SUBJECT).await;
    let mut with_error = async_nats::HeaderMap::new();
    with_error.insert("Nats-Service-Error", "out of order");
    let answering = tokio::spawn(async move {
        for (headers, body) in [
            (async_nats::HeaderMap::new(), Bytes::from("Read error: early eof")),
            (async_nats::HeaderMap::new(), Bytes::from(vec![b' '; 100_000])),
            (with_error, Bytes::new()),
        ] {
            let reply = requests.next().await.unwrap().reply.unwrap();
            stranger.publish_with_headers(reply, headers, body).await.unwrap();
        }
        stranger.flush().await.unwrap();
    });
    for _ in 0..3 {
        let error = send(&caller, "x").await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::Violation, Executed::Maybe), "{error}");
    }
    answering.await.unwrap();
}

#[tokio::test]
async fn silence_ends_with_the_limit_and_may_have_run() {
    let server = Server::start();
    let caller = server.connect_impatiently().await;
    let (stranger, mut requests) = server.listener(SUBJECT).await;

    let error = send(&caller, "x").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
    assert!(!error.is_safe_to_resend());

    // Late, and twice: nobody's.
    let reply = requests.next().await.unwrap().reply.unwrap();
    stranger.publish(reply.clone(), Bytes::new()).await.unwrap();
    stranger.publish(reply, Bytes::new()).await.unwrap();
    crate::server::until("both were counted", async || caller.stats().late_replies == 2).await;
}

#[tokio::test]
async fn more_in_flight_than_allowed_is_refused_here() {
    let server = Server::start();
    let caller = connect(NatsConfig { max_in_flight: 1, ..server.config() }).await;
    let (stranger, mut requests) = server.listener(SUBJECT).await;

    let mut first = std::pin::pin!(send(&caller, "1"));
    let request = tokio::select! {
        _ = &mut first => panic!("not answered yet"),
        request = requests.next() => request.unwrap(),
    };
    let error = send(&caller, "2").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Exhausted, Executed::No));
    stranger.publish(request.reply.unwrap(), Bytes::new()).await.unwrap();
    first.await.unwrap();
}
