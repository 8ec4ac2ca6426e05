//! The call-home plane, pooled: many responses over few connections.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_mux::MuxConfig;
use sinew_plane::{
    CancelReason, Code, Context, Outcome, OutgoingRequest, ResponsePlaneClient,
    ResponsePlaneServer, ResponseRegistration, ResponseSink, ResponseStream, Window,
};
use sinew_transport_tcp::{
    TcpConfig, TcpStreamClient, TcpStreamClientConfig, TcpStreamServer, TcpStreamServerConfig,
};

use crate::{
    call_home::{arrived, caller, connect, next, plain, request, worker},
    fixture::soon,
};

const CALLER: u64 = 0xCA11;
const WORKER: u64 = 0x3032;

fn tcp(process: u64) -> TcpConfig {
    TcpConfig { mux: MuxConfig { process, ..MuxConfig::default() }, ..TcpConfig::default() }
}

fn pooled_caller() -> TcpStreamServer {
    caller(TcpStreamServerConfig { tcp: tcp(CALLER), ..TcpStreamServerConfig::default() })
}

fn pooled() -> TcpStreamClientConfig {
    TcpStreamClientConfig { tcp: tcp(WORKER), ..TcpStreamClientConfig::default() }
}

fn to_worker() -> OutgoingRequest {
    OutgoingRequest { process: Some(WORKER), ..request() }
}

async fn pair(
    caller: &TcpStreamServer,
    worker: &TcpStreamClient,
) -> (ResponseStream, ResponseSink) {
    let ResponseRegistration { connection_info, stream } = caller.register(&to_worker()).unwrap();
    (stream, connect(worker, &connection_info).await)
}

async fn whole(stream: &mut ResponseStream) -> Vec<Bytes> {
    let mut items = Vec::new();
    while let Some(item) = next(stream).await {
        items.push(item.unwrap());
    }
    items
}

#[tokio::test]
async fn items_arrive_in_order_over_a_shared_connection() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    for round in 0..3 {
        let (mut stream, mut sink) = pair(&caller, &worker).await;
        for item in ["one", "", "three"] {
            sink.send(Bytes::from(item)).await.unwrap();
        }
        sink.complete();
        assert_eq!(whole(&mut stream).await, ["one", "", "three"], "round {round}");
        assert!(matches!(stream.outcome(), Some(Outcome::Complete { items: 3 })));
    }
    assert_eq!((worker.pool().created, worker.pool().reused), (1, 2));
    assert_eq!(caller.connections(), 1);
    assert_eq!(caller.streams(), 0);
    assert_eq!(worker.close(Duration::from_secs(5)).await.cut_streams, 0);
    assert_eq!(caller.close(Duration::from_secs(5)).await.cut_streams, 0);
}

/// Judged by the issue: 1,000 streams between one pair of processes over at most 4 connections.
#[tokio::test]
async fn a_thousand_streams_need_at_most_four_connections() {
    let (caller, worker) = (pooled_caller(), worker(pooled()));
    let mut pairs = Vec::new();
    for _ in 0..1000 {
        pairs.push(pair(&caller, &worker).await);
    }
    let usage = worker.pool();
    assert!(usage.created <= 4, "{usage:?}");
    assert_eq!(usage.active as u64, usage.created);
    assert!(caller.connections() <= 4, "{}", caller.connections());
    for (number, (_, sink)) in pairs.iter_mut().enumerate() {
        sink.send(Bytes::from(number.to_string())).await.unwrap();
    }
    for (number, (mut stream, sink)) in pairs.into_iter().enumerate() {
        sink.complete();
        assert_eq!(whole(&mut stream).await, [number.to_string()]);
    }
    let usage = worker.pool();
    assert!(usage.reused * 100 >= 99 * 1000, "{usage:?}");
}
