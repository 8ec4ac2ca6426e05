//! More requests than a worker takes.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use sinew_plane::{Code, Error, Headers, RequestPlaneClient};
use sinew_transport_nats::{NatsConfig, NatsRequestClient};

use crate::{
    handler::{Recorder, send, serve},
    server::{Server, connect, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_at_once_those_over_capacity_hear_so() {
    const CAPACITY: usize = 100;
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::answering(|n| match n < CAPACITY {
        true => Ok(()),
        false => Err(Error::new(Code::Overloaded, "worker at capacity")),
    });
    let _endpoint = serve(&worker, &handler).await;

    let answers =
        join_all((0..1000).map(|n| send(&caller, if n % 2 == 0 { "a" } else { "b" }))).await;
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(accepted, CAPACITY);
    assert_eq!(handler.accepted.load(Ordering::SeqCst), CAPACITY);
    for error in answers.into_iter().filter_map(Result::err) {
        assert_eq!(error.code(), Code::Overloaded, "{error}");
        assert!(error.is_safe_to_resend());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_queue_is_refused_without_the_handler() {
    let server = Server::start();
    let connection = connect(NatsConfig {
        queue_limit: 8,
        request_timeout: Duration::from_secs(30),
        ..server.config()
    })
    .await;
    let handler = Recorder::accepting();
    let _endpoint = serve(&connection, &handler).await;

    handler.close_gate();
    let all = |count: usize| {
        let connection = connection.clone();
        tokio::spawn(async move { join_all((0..count).map(|_| send(&connection, "x"))).await })
    };
    let first = all(1);
    until("the handler is held up", async || handler.count() == 1).await;
    let others = all(49);
    until("all are on their way", async || connection.stats().in_flight == 50).await;
    // The server sends in order: with the answer to this, all fifty have come.
    let client = NatsRequestClient::new(connection.clone());
    let nobody = client.send_request("nobody".to_owned(), Bytes::new(), Headers::new()).await;
    assert_eq!(nobody.unwrap_err().code(), Code::UnknownEndpoint);
    handler.open_gate();

    assert!(first.await.unwrap()[0].is_ok());
    let answers = others.await.unwrap();
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((accepted, handler.count()), (8, 9), "one was in hand and eight fit the queue");
    for error in answers.into_iter().filter_map(Result::err) {
        assert_eq!(error.code(), Code::Overloaded, "{error}");
    }
}
