//! Servers that die, come back, and say goodbye.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use sinew_plane::{Code, Executed};
use sinew_transport_nats::{NatsConfig, NatsConnection};

use crate::{
    handler::{Recorder, SUBJECT, send, serve},
    server::{Server, connect, free_port, until},
};

#[tokio::test]
async fn without_a_server_requests_are_refused_at_once_and_not_kept() {
    let mut server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let _endpoint = serve(&connection, &handler).await;
    server.kill();
    until("the break is noticed", async || !connection.is_connected()).await;
    let start = Instant::now();
    for _ in 0..100 {
        let error = send(&connection, "old").await.unwrap_err();
        assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(connection.max_payload(), None);

    server.run();
    until("it serves again", async || send(&connection, "new").await.is_ok()).await;
    let seen = handler.seen.lock();
    assert!(seen.iter().all(|seen| seen.payload == "new"), "nothing was kept and sent later");
}

#[tokio::test]
async fn what_is_in_flight_when_the_server_dies_fails_at_once_and_may_have_run() {
    let mut server = Server::start();
    let caller = server.connect().await;
    let (_stranger, mut requests) = server.listener(SUBJECT).await;
    let mut first = std::pin::pin!(send(&caller, "x"));
    tokio::select! {
        _ = &mut first => panic!("not answered yet"),
        request = requests.next() => assert!(request.is_some()),
    }
    server.kill();
    let start = Instant::now();
    let error = first.await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "sooner than the limit of a reply");
    assert_eq!((error.code(), error.executed()), (Code::ConnectionLost, Executed::Maybe));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_hangs_nobody_and_needs_no_new_registration() {
    let mut server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let endpoint = serve(&worker, &handler).await;
    let stop = Arc::new(AtomicBool::new(false));
    let failures = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let (caller, stop, failures) =
                (caller.clone(), Arc::clone(&stop), Arc::clone(&failures));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let Err(error) = send(&caller, "x").await else { continue };
                    failures.fetch_add(1, Ordering::SeqCst);
                    let known = matches!(
                        (error.code(), error.executed()),
                        (Code::ConnectFailed | Code::UnknownEndpoint, Executed::No)
                            | (Code::ConnectionLost, Executed::Maybe)
                    );
                    assert!(known, "{error:?}");
                    // A refusal without a connection waits for nothing.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 0..3 {
        let before = handler.count();
        until("it runs", async || handler.count() > before + 200).await;
        server.kill();
        until("callers notice", async || !caller.is_connected()).await;
        until("the worker notices", async || !worker.is_connected()).await;
        let down = handler.count();
        server.run();
        let back = Instant::now();
        until("it runs again", async || handler.count() > down + 200).await;
        assert!(back.elapsed() < Duration::from_secs(6), "round {round}: {:?}", back.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(failures.load(Ordering::SeqCst) > 0);
    assert_eq!(worker.stats().disconnects, 3);
    assert_eq!(endpoint.subject(), SUBJECT);
    // The service is shown again too.
    let stranger = server.stranger().await;
    assert!(stranger.request("$SRV.PING.ns1_backend", "".into()).await.is_ok());
}

#[tokio::test]
async fn the_limit_of_a_restarted_server_counts() {
    let mut server = Server::with("max_payload: 1024");
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let _endpoint = serve(&connection, &handler).await;
    assert_eq!(send(&connection, &"x".repeat(2000)).await.unwrap_err().code(), Code::TooLarge);
    server.restart_with("max_payload: 4096");
    until("the larger one passes", async || send(&connection, &"x".repeat(2000)).await.is_ok())
        .await;
    assert_eq!(connection.max_payload(), Some(4096));
}

#[tokio::test]
async fn a_start_waits_for_its_server() {
    let mut server = Server::stopped("");
    // Somebody else, who hangs up at once: the first attempt fails.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", server.port)).await.unwrap();
    let connecting = tokio::spawn(NatsConnection::connect(server.config().checked().unwrap()));
    drop(listener.accept().await.unwrap());
    drop(listener);
    server.run();
    let connection = connecting.await.unwrap().unwrap();
    assert!(connection.is_connected());
}

#[tokio::test]
async fn a_start_gives_up_at_its_limit_and_says_why() {
    let config = NatsConfig {
        servers: vec![format!("nats://127.0.0.1:{}", free_port())],
        startup_timeout: Duration::from_millis(300),
        ..NatsConfig::default()
    };
    let start = Instant::now();
    let error = NatsConnection::connect(config.checked().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectTimedOut);
    assert!(error.message().contains("refused"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// A cluster of two, of which the second does not run yet.
fn cluster() -> (Server, Server) {
    let (a, b) = (free_port(), free_port());
    let settings = |own: u16, other: u16| {
        format!(
            "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n\
             cluster {{ name: c, listen: \"127.0.0.1:{own}\", routes: [\"nats://127.0.0.1:{other}\"] }}"
        )
    };
    (Server::with(&settings(a, b)), Server::stopped(&settings(b, a)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_is_left_without_losing_a_request() {
    let (mut first, mut second) = cluster();
    let config =
        || NatsConfig { servers: vec![first.url(), second.url()], ..NatsConfig::default() };
    // Only the first runs, so that is where everybody goes.
    let (worker, caller) = (connect(config()).await, connect(config()).await);
    let handler = Recorder::accepting();
    let _endpoint = serve(&worker, &handler).await;
    second.run();
    let stranger = second.stranger().await;
    until("the cluster knows the worker", async || {
        stranger.request(SUBJECT, "x".into()).await.is_ok()
    })
    .await;

    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (caller, stop) = (caller.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    if let Err(error) = send(&caller, "x").await {
                        assert!(error.is_safe_to_resend(), "{error:?}");
                    }
                }
            })
        })
        .collect();
    until("it runs", async || handler.count() > 200).await;
    first.lame_duck();
    until("worker and caller have moved", async || {
        [&worker, &caller].iter().all(|connection| connection.server_port() == Some(second.port))
    })
    .await;
    let moved = handler.count();
    until("it runs there", async || handler.count() > moved + 200).await;
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    first.kill();
    until("it runs without the first", async || send(&caller, "x").await.is_ok()).await;
    assert_eq!((worker.stats().disconnects, caller.stats().disconnects), (0, 0));
}
