//! The subject that all workers of an endpoint share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use sinew_plane::{
    Code, Error, Headers, InstanceId, RequestPlaneClient, RequestPlaneHandler, Shutdown,
};
use sinew_transport_nats::{
    NatsConnection, NatsEndpoint, NatsRequestClient, NatsServer, shared_subject,
};

use crate::{
    handler::{Recorder, name, send, serve},
    server::{GUARD, Server, until},
};

const SHARED: &str = "ns1_backend.generate";

async fn serve_shared(connection: &NatsConnection, handler: &Arc<Recorder>) -> NatsEndpoint {
    nats_server(connection, handler).serve_shared(&name("ns1/backend/generate")).await.unwrap()
}

fn nats_server(connection: &NatsConnection, handler: &Arc<Recorder>) -> NatsServer {
    NatsServer::new(connection.clone(), Arc::clone(handler) as Arc<dyn RequestPlaneHandler>)
}

async fn send_shared(connection: &NatsConnection) -> Result<Bytes, Error> {
    let client = NatsRequestClient::new(connection.clone());
    client.send_request(SHARED.to_owned(), Bytes::from("x"), Headers::new()).await
}

#[tokio::test]
async fn a_caller_that_knows_no_instance_is_balanced_by_nats() {
    let server = Server::start();
    let (one, two) = (server.connect().await, server.connect().await);
    let handlers = [Recorder::accepting(), Recorder::accepting()];
    let first = serve_shared(&one, &handlers[0]).await;
    let _second = serve_shared(&two, &handlers[1]).await;
    assert_eq!(first.subject(), SHARED);
    assert_eq!(shared_subject(&name("ns1/backend/generate")).unwrap(), SHARED);

    let caller = server.connect().await;
    for _ in 0..200 {
        send_shared(&caller).await.unwrap();
    }
    let counts = [handlers[0].count(), handlers[1].count()];
    assert_eq!(counts[0] + counts[1], 200, "each went to one of them");
    // Of 200 fair throws, fewer than 40 of a kind are one in 10^17.
    assert!(counts.iter().all(|count| *count >= 40), "{counts:?}");
    assert!(handlers[0].seen.lock().iter().all(|seen| seen.target == SHARED));
}

#[tokio::test]
async fn it_stands_beside_the_subjects_of_instances() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let endpoint = serve(&connection, &handler).await;
    // Not asked for, not there.
    assert_eq!(send_shared(&connection).await.unwrap_err().code(), Code::UnknownEndpoint);

    let nats = nats_server(&connection, &handler);
    let shared = nats.serve_shared(&name("ns1/backend/generate")).await.unwrap();
    let again = nats.serve_shared(&name("ns1/backend/generate")).await.unwrap_err();
    assert_eq!(again.code(), Code::Exhausted);
    send_shared(&connection).await.unwrap();
    send(&connection, "x").await.unwrap();
    let targets: Vec<_> = handler.seen.lock().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(targets, [SHARED, "ns1_backend.generate-1f"]);

    drop(shared);
    until("the shared one is gone", async || send_shared(&connection).await.is_err()).await;
    send(&connection, "x").await.unwrap();
    drop(endpoint);
}

#[tokio::test]
async fn an_endpoint_named_like_an_instance_of_another_has_none() {
    let server = Server::start();
    let connection = server.connect().await;
    let nats = nats_server(&connection, &Recorder::accepting());
    let refusal = nats.serve_shared(&name("ns1/backend/generate-1f")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidPayload);
    // An instance of it has a subject of its own.
    nats.serve(&name("ns1/backend/generate-1f"), InstanceId(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_drains_under_load_and_no_request_is_lost_or_refused() {
    let server = Server::start();
    let (one, two) = (server.connect().await, server.connect().await);
    let caller = server.connect().await;
    let (staying, leaving) = (Recorder::accepting(), Recorder::accepting());
    let _stays = serve_shared(&one, &staying).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (caller, stop) = (caller.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut accepted = 0;
                while !stop.load(Ordering::SeqCst) {
                    send_shared(&caller).await.expect("no request fails");
                    accepted += 1;
                }
                accepted
            })
        })
        .collect();
    // Several times, as what could be lost is on its way for microseconds.
    for round in 0..20 {
        let leaves = serve_shared(&two, &leaving).await;
        let before = leaving.count();
        until("both are used", async || leaving.count() > before + 50).await;
        let start = Instant::now();
        assert_eq!(leaves.drain(GUARD).await, Shutdown::default());
        assert!(start.elapsed() < Duration::from_secs(5), "round {round}: {:?}", start.elapsed());
        let (left, stayed) = (leaving.count(), staying.count());
        until("the other goes on alone", async || staying.count() > stayed + 50).await;
        assert_eq!(leaving.count(), left, "nothing comes after the drain");
    }
    stop.store(true, Ordering::SeqCst);
    let mut accepted = 0;
    for caller in callers {
        accepted += caller.await.unwrap();
    }
    let ran = [&staying, &leaving].map(|handler| handler.accepted.load(Ordering::SeqCst));
    assert_eq!(accepted, ran[0] + ran[1], "each ran once");
}

#[tokio::test]
async fn the_handler_decides_on_what_was_received_before_the_drain() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::answering(|_| Err(Error::draining("the process is going away")));
    let shared = serve_shared(&connection, &handler).await;
    let error = send_shared(&connection).await.unwrap_err();
    assert_eq!(error.code(), Code::Draining);
    assert_eq!(shared.drain(GUARD).await, Shutdown::default());
    let error = send_shared(&connection).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownEndpoint);
}

#[tokio::test]
async fn it_comes_back_after_a_restart_and_can_still_drain() {
    let mut server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let shared = serve_shared(&worker, &handler).await;
    server.kill();
    until("the break is noticed", async || !worker.is_connected()).await;
    server.run();
    until("it serves again", async || send_shared(&caller).await.is_ok()).await;
    assert_eq!((worker.stats().disconnects, worker.stats().reconnects), (1, 1));
    assert_eq!(shared.drain(GUARD).await, Shutdown::default());
    assert_eq!(send_shared(&caller).await.unwrap_err().code(), Code::UnknownEndpoint);
}
