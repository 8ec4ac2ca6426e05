//! What etcd is asked for, by its own count.

use std::sync::Arc;

use sinew_discovery::Discovery as _;
use sinew_plane::ProcessId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    server::Server,
    support::{config, instance, until, watching},
};

const MANY: u64 = 2_000;

/// The sum of all series of a metric whose line has all these words.
async fn metric(server: &Server, words: &[&str]) -> f64 {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let question = b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream.write_all(question).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let lines = answer.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

async fn transactions(server: &Server) -> f64 {
    metric(server, &["grpc_server_handled_total", "grpc_method=\"Txn\""]).await
}

async fn watchers(server: &Server) -> f64 {
    metric(server, &["etcd_debugging_mvcc_watcher_total "]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_instances_are_a_few_dozen_requests_one_lease_and_one_watch() {
    let server = Server::start().await;
    let (discovery, mut view) = watching(config(&server.url())).await;
    let discovery = Arc::new(discovery);
    let mut under_way = JoinSet::new();
    for id in 0..MANY {
        let discovery = Arc::clone(&discovery);
        under_way.spawn(async move { discovery.register(instance(id)).await.unwrap() });
    }
    let registrations = under_way.join_all().await;
    until(&mut view, |now| now.len() as u64 == MANY).await;
    let placed = transactions(&server).await;
    assert!(placed < 200.0, "{placed} transactions to announce");
    let leases = metric(&server, &["etcd_debugging_lease_granted_total "]).await;
    assert!((leases - 1.0).abs() < 0.1, "{leases} leases");
    // One on our own keys, and one for the view.
    let watchers = watchers(&server).await;
    assert!(watchers <= 3.0, "{watchers} watches");

    let mut under_way = JoinSet::new();
    for registration in registrations {
        under_way.spawn(async move { registration.withdraw().await.unwrap() });
    }
    under_way.join_all().await;
    until(&mut view, |now| now.is_empty()).await;
    let removed = transactions(&server).await - placed;
    assert!(removed < 200.0, "{removed} transactions to withdraw");
    discovery.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_is_told_apart_in_a_batch() {
    let server = Server::start().await;
    let (first, _view) = watching(config(&server.url())).await;
    let of = |process, id| {
        let instance = instance(id);
        sinew_discovery::Instance { process: Some(ProcessId(process)), ..instance }
    };
    let _held = first.register(of(1, 7)).await.unwrap();
    let second = Arc::new(crate::support::connect(&server.url()).await);
    let mut under_way = JoinSet::new();
    for id in 0..50 {
        let (second, instance) = (Arc::clone(&second), of(2, id));
        under_way.spawn(async move { (id, second.register(instance).await) });
    }
    let mut kept = Vec::new();
    for (id, registered) in under_way.join_all().await {
        assert_eq!(registered.is_err(), id == 7, "{id}");
        kept.extend(registered.ok());
    }
    assert_eq!(kept.len(), 49);
}
