//! Leaving without losing a request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sinew_plane::{Code, Shutdown};

use crate::{
    handler::{Recorder, send, serve},
    server::{GUARD, Server, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_received_is_handed_on_and_acknowledged() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let endpoint = serve(&worker, &handler).await;
    handler.close_gate();
    let task = {
        let caller = caller.clone();
        tokio::spawn(async move { join_all((0..10).map(|_| send(&caller, "x"))).await })
    };
    until("the first is being handed on", async || handler.count() == 1).await;
    let draining = tokio::spawn(endpoint.drain(GUARD));
    handler.open_gate();
    assert_eq!(draining.await.unwrap(), Shutdown::default());
    for answer in task.await.unwrap() {
        match answer {
            Ok(_) => {}
            // Came only after the drain began.
            Err(error) => assert!(error.is_safe_to_resend(), "{error}"),
        }
    }
    let error = send(&caller, "x").await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownEndpoint);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_every_request_runs_or_is_safe_to_resend() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let endpoint = serve(&worker, &handler).await;
    let refused = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (caller, refused) = (caller.clone(), Arc::clone(&refused));
            tokio::spawn(async move {
                let mut accepted = 0;
                loop {
                    match send(&caller, "x").await {
                        Ok(_) => accepted += 1,
                        // As a router does: not to this instance again.
                        Err(error) if error.is_safe_to_resend() => {
                            refused.store(true, Ordering::SeqCst);
                            return accepted;
                        }
                        Err(error) => panic!("neither: {error:?}"),
                    }
                }
            })
        })
        .collect();
    until("it runs", async || handler.count() > 500).await;
    let start = Instant::now();
    assert_eq!(endpoint.drain(GUARD).await, Shutdown::default());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let mut accepted = 0;
    for caller in callers {
        accepted += caller.await.unwrap();
    }
    assert!(refused.load(Ordering::SeqCst));
    assert_eq!(accepted, handler.accepted.load(Ordering::SeqCst), "each accepted request ran once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_takes_too_long_is_cut_and_says_so() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let endpoint = serve(&worker, &handler).await;
    // Somebody who will not hear: the endpoint is never quiet.
    let stop = Arc::new(AtomicBool::new(false));
    let deaf = {
        let stop = Arc::clone(&stop);
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let _ = send(&caller, "x").await;
            }
        })
    };
    until("it runs", async || handler.count() > 10).await;
    let cut = endpoint.drain(Duration::from_millis(300)).await;
    assert_eq!(cut.cut_tasks, 1);
    stop.store(true, Ordering::SeqCst);
    deaf.await.unwrap();
}
