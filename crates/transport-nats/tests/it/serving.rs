//! What a served instance looks like on NATS, and to stock peers.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use sinew_plane::{Code, Headers, InstanceId, RequestPlaneClient, RequestPlaneHandler};
use sinew_transport_nats::{NatsRequestClient, NatsServer};

use crate::{
    handler::{Recorder, SUBJECT, name, send, serve},
    server::{GUARD, Server, until},
};

fn nats_server(
    connection: &sinew_transport_nats::NatsConnection,
    handler: &Arc<Recorder>,
) -> NatsServer {
    NatsServer::new(connection.clone(), Arc::clone(handler) as Arc<dyn RequestPlaneHandler>)
}

async fn ask(stranger: &async_nats::Client, subject: &str) -> Value {
    let answer = stranger.request(subject.to_owned(), Bytes::new()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

#[tokio::test]
async fn a_stock_caller_finds_the_instance_and_gets_an_empty_acknowledgement() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let endpoint = nats_server(&connection, &handler)
        .serve(&name("ns1/backend/generate"), InstanceId(0x5315_a1fc_98a8_560e))
        .await
        .unwrap();
    assert_eq!(endpoint.subject(), "ns1_backend.generate-5315a1fc98a8560e");

    let stranger = server.stranger().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("request-id", "9");
    let subject = "ns1_backend.generate-5315a1fc98a8560e";
    let answer = stranger.request_with_headers(subject, headers, "body".into()).await.unwrap();
    assert!(answer.payload.is_empty());
    assert!(answer.headers.is_none());
    assert_eq!(handler.seen.lock()[0].headers, [("request-id".to_owned(), "9".to_owned())]);
}

#[tokio::test]
async fn the_micro_service_api_shows_the_endpoint() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let endpoint = serve(&connection, &handler).await;
    send(&connection, "x").await.unwrap();
    let stranger = server.stranger().await;

    let ping = ask(&stranger, "$SRV.PING").await;
    assert_eq!(ping["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(ping["name"], "ns1_backend");
    let info = ask(&stranger, "$SRV.INFO.ns1_backend").await;
    let shown = &info["endpoints"][0];
    assert_eq!(shown["name"], "generate-1f");
    assert_eq!(shown["subject"], SUBJECT);
    assert_eq!(shown["queue_group"], "q");
    let stats = ask(&stranger, "$SRV.STATS.ns1_backend").await;
    assert_eq!(stats["endpoints"][0]["num_requests"], 1);

    endpoint.stop().await;
    until("the service is gone", async || {
        let error = stranger.request("$SRV.PING", Bytes::new()).await;
        error.is_err_and(|error| error.kind() == async_nats::RequestErrorKind::NoResponders)
    })
    .await;
}

#[tokio::test]
async fn a_caller_registers_no_service() {
    let server = Server::start();
    let caller = server.connect().await;
    let _ = send(&caller, "x").await;
    let error = server.stranger().await.request("$SRV.PING", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn two_instances_of_an_endpoint_have_their_own_subjects() {
    let server = Server::start();
    let connection = server.connect_impatiently().await;
    let (one, two) = (Recorder::accepting(), Recorder::accepting());
    let endpoint = name("ns1/backend/generate");
    let first = nats_server(&connection, &one).serve(&endpoint, InstanceId(1)).await.unwrap();
    let second = nats_server(&connection, &two).serve(&endpoint, InstanceId(2)).await.unwrap();
    assert_eq!(
        (first.subject(), second.subject()),
        ("ns1_backend.generate-1", "ns1_backend.generate-2")
    );

    let client = NatsRequestClient::new(connection);
    for _ in 0..10 {
        client
            .send_request(first.subject().to_owned(), Bytes::new(), Headers::new())
            .await
            .unwrap();
    }
    assert_eq!((one.count(), two.count()), (10, 0));
    // One goes, the other stays.
    let gone = first.subject().to_owned();
    first.stop().await;
    until("the first is gone", async || {
        client.send_request(gone.clone(), Bytes::new(), Headers::new()).await.is_err()
    })
    .await;
    client.send_request(second.subject().to_owned(), Bytes::new(), Headers::new()).await.unwrap();
    assert_eq!(two.count(), 1);
}

#[tokio::test]
async fn a_subject_is_served_once_and_free_again_afterwards() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let nats = nats_server(&connection, &handler);
    let first = nats.serve(&name("a_b/c/e"), InstanceId(1)).await.unwrap();
    // Another name, the same subject.
    let refusal = nats.serve(&name("a/b_c/e"), InstanceId(1)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Exhausted);
    assert!(refusal.message().contains("a_b_c.e-1"), "{refusal}");
    first.stop().await;
    nats.serve(&name("a/b_c/e"), InstanceId(1)).await.unwrap();
}

#[tokio::test]
async fn dotted_and_upper_case_names_are_refused_with_a_way_out() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let nats = nats_server(&connection, &handler);
    for (endpoint, part, instead) in [
        ("a.b/c/d", "namespace", "a_b"),
        ("Ab/c/d", "namespace", "ab"),
        ("a/b/v1.2", "endpoint", "v1_2"),
    ] {
        let refusal = nats.serve(&name(endpoint), InstanceId(1)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidPayload);
        let text = refusal.message();
        assert!(text.contains(part) && text.contains(instead), "{text}");
    }
}

#[tokio::test]
async fn dropping_an_endpoint_ends_it() {
    let server = Server::start();
    let connection = server.connect_impatiently().await;
    let handler = Recorder::accepting();
    let endpoint = serve(&connection, &handler).await;
    send(&connection, "x").await.unwrap();
    drop(endpoint);
    until("nobody serves", async || {
        send(&connection, "x").await.is_err_and(|error| error.code() == Code::UnknownEndpoint)
    })
    .await;
}

#[tokio::test]
async fn closing_ends_endpoints_and_refuses_requests() {
    let server = Server::start();
    let (worker, caller) = (server.connect().await, server.connect().await);
    let handler = Recorder::accepting();
    let endpoint = serve(&worker, &handler).await;
    send(&caller, "x").await.unwrap();

    let cut = worker.close(GUARD).await;
    assert_eq!(cut, sinew_plane::Shutdown::default());
    assert!(!worker.is_connected());
    let error = send(&worker, "x").await.unwrap_err();
    assert_eq!(error.code(), Code::ConnectFailed);
    let error = send(&caller, "x").await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownEndpoint);
    drop(endpoint);
}

#[tokio::test]
async fn dropping_everything_closes_the_connection() {
    let server = Server::start();
    let connection = server.connect().await;
    let handler = Recorder::accepting();
    let endpoint = serve(&connection, &handler).await;
    let caller = server.connect_impatiently().await;
    drop((connection, endpoint));
    until("the worker is gone", async || {
        send(&caller, "x").await.is_err_and(|error| error.code() == Code::UnknownEndpoint)
    })
    .await;
    until("nothing holds the handler", async || Arc::strong_count(&handler) == 1).await;
}
