//! Peers that keep to no rules.

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_plane::{Code, Headers, RequestPlaneClient};
use sinew_transport_nats::NatsRequestClient;

use crate::{
    handler::{Recorder, SUBJECT, send, serve},
    server::{Server, until},
};

fn with_header_block(block: &str) -> Vec<u8> {
    let total = block.len() + 1;
    format!("HPUB {SUBJECT} _INBOX.x.y {} {total}\r\n{block}x\r\n", block.len()).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_header_blocks_are_dropped_and_the_endpoint_comes_back() {
    let server = Server::start();
    let worker = server.connect().await;
    // What is sent while the worker is away gets no answer.
    let caller = server.connect_impatiently().await;
    let handler = Recorder::accepting();
    let _endpoint = serve(&worker, &handler).await;
    send(&caller, "good").await.unwrap();
    for block in [
        "GARBAGE\r\n\r\n",
        "NATS/9.9\r\na: b\r\n\r\n",
        "NATS/1.0\r\nno colon\r\n\r\n",
        "NATS/1.0\r\nbad name: b\r\n\r\n",
        "NATS/1.0 9999999\r\n\r\n",
        "\r\n",
        // A bare CR: ends the client of the library for good.
        "NATS/1.0\r\na: b\rc\r\n\r\n",
        "NATS/1.0\r\na: b\rc\r\n\r\n",
    ] {
        server.send_raw(&with_header_block(block));
        until("it serves after a broken block", async || send(&caller, "good").await.is_ok()).await;
    }
    assert!(handler.seen.lock().iter().all(|seen| seen.payload == "good"));
    let stats = worker.stats();
    assert_eq!((stats.disconnects, stats.replaced), (6, 2));
}

#[tokio::test]
async fn payloads_and_subjects_that_are_not_utf8_harm_nobody() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect_impatiently().await);
    let handler = Recorder::accepting();
    let _endpoint = serve(&worker, &handler).await;
    let mut bytes = format!("PUB {SUBJECT} _INBOX.\u{0}.y 4\r\n").into_bytes();
    bytes.extend(b"\xff\xfe\x00\x01\r\n");
    bytes.extend(b"PUB ns1_backend.\xff\xff _INBOX.y 0\r\n\r\n");
    bytes.extend(b"PUB ns1_backend.generate-1f _INBOX.\xff\xff 0\r\n\r\n");
    server.send_raw(&bytes);
    until("it still serves", async || send(&caller, "good").await.is_ok()).await;
}

#[tokio::test]
async fn replies_go_to_inboxes_alone() {
    let server = Server::start();
    let worker = server.connect().await;
    let handler = Recorder::accepting();
    let _endpoint = serve(&worker, &handler).await;
    let (stranger, mut victim) = server.listener("tenant.secret").await;
    for reply in ["tenant.secret", "_INBOXES.x", "_INBOX", "$SYS.x"] {
        stranger.publish_with_reply(SUBJECT, reply, "x".into()).await.unwrap();
    }
    stranger.publish(SUBJECT, "nobody to tell".into()).await.unwrap();
    until("all were dropped", async || worker.stats().dropped == 5).await;
    assert_eq!(handler.count(), 0, "and ran nothing");
    victim.unsubscribe().await.unwrap();
    assert!(victim.next().await.is_none(), "nothing came");
}

#[tokio::test]
async fn addresses_from_discovery_reach_workers_only() {
    let server = Server::start();
    let caller = server.connect().await;
    let client = NatsRequestClient::new(caller);
    for subject in
        ["$SYS.REQ.x", "$JS.API.INFO", "_INBOX.a", "a.*", ">", "a b", "a\r\nPUB b 0\r\n", ""]
    {
        let sent = client.send_request(subject.to_owned(), Bytes::new(), Headers::new()).await;
        assert_eq!(sent.unwrap_err().code(), Code::InvalidPayload, "{subject:?}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_own_request() {
    let server = Server::start();
    let connection = server.connect_impatiently().await;
    let handler = Recorder::answering(|n| {
        assert_ne!(n, 0, "a bug in the handler");
        Ok(())
    });
    let _endpoint = serve(&connection, &handler).await;
    let error = send(&connection, "x").await.unwrap_err();
    assert!(!error.is_safe_to_resend(), "{error}");
    send(&connection, "x").await.unwrap();
}

#[tokio::test]
async fn a_ping_with_a_bad_reply_subject_leaves_the_endpoint_up() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let _endpoint = serve(&worker, &handler).await;
    server.send_raw(
        b"PUB $SRV.PING .. 0\r\n\r\nPUB $SRV.INFO a..b 0\r\n\r\nPUB $SRV.STATS 0\r\n\r\n",
    );
    until("it still serves", async || send(&caller, "good").await.is_ok()).await;
    let stranger = server.stranger().await;
    stranger.request("$SRV.PING", Bytes::new()).await.unwrap();
}
