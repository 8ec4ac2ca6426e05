//! More requests than a worker takes.

use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use sinew_plane::{Code, Error};
use sinew_transport_nats::NatsConfig;

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
    let task = {
        let connection = connection.clone();
        tokio::spawn(async move { join_all((0..50).map(|_| send(&connection, "x"))).await })
    };
    until("the handler is held up", async || handler.count() == 1).await;
    // The server sends in order: with the answer to this, all fifty have come.
    let client = sinew_transport_nats::NatsRequestClient::new(connection.clone());
    use sinew_plane::RequestPlaneClient as _;
    let nobody = client.send_request("nobody".into(), Default::default(), Default::default()).await;
    assert_eq!(nobody.unwrap_err().code(), Code::UnknownEndpoint);
    handler.open_gate();

    let answers = task.await.unwrap();
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((accepted, handler.count()), (9, 9), "one in hand and eight in the queue");
    for error in answers.into_iter().filter_map(Result::err) {
        assert_eq!(error.code(), Code::Overloaded, "{error}");
    }
}
