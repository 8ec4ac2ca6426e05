//! The work queue on JetStream.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sinew_plane::{Code, Executed, Headers, Shutdown};
use sinew_transport_nats::{NatsConnection, NatsQueue, QueueConfig, QueueItem};

use crate::server::{GUARD, Server, until};

const SOON: Duration = Duration::from_millis(50);

/// A server that keeps its data in the folder, which outlives it.
fn server(folder: &tempfile::TempDir) -> Server {
    Server::with(&settings(folder))
}

fn settings(folder: &tempfile::TempDir) -> String {
    format!("jetstream {{ store_dir: \"{}\" }}", folder.path().display())
}

fn config() -> QueueConfig {
    QueueConfig { ack_wait: Duration::from_secs(20), ..QueueConfig::new("jobs") }
}

async fn open(connection: &NatsConnection, config: QueueConfig) -> NatsQueue {
    NatsQueue::open(connection, config.checked().unwrap()).await.unwrap()
}

async fn put(queue: &NatsQueue, id: &str) -> u64 {
    let stored = queue.enqueue(id, Bytes::from(id.to_owned()), Headers::new()).await.unwrap();
    assert!(!stored.is_duplicate, "{id}");
    stored.sequence
}

async fn take_one(queue: &NatsQueue) -> QueueItem {
    let mut items = queue.take(1, GUARD).await.unwrap();
    assert_eq!(items.len(), 1);
    items.remove(0)
}

fn payloads(items: &[QueueItem]) -> Vec<&[u8]> {
    items.iter().map(|item| &item.payload()[..]).collect()
}

#[tokio::test]
async fn items_come_in_order_with_headers_and_leave_when_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, config()).await;
    let mut headers = Headers::new();
    headers.insert("request-id", "9").unwrap();
    let first = queue.enqueue("a", Bytes::from("one"), headers.clone()).await.unwrap();
    assert_eq!((first.sequence, first.is_duplicate), (1, false));
    for id in ["b", "c", "d", "e"] {
        put(&queue, id).await;
    }
    let items = queue.take(3, GUARD).await.unwrap();
    assert_eq!(payloads(&items), [&b"one"[..], b"b", b"c"]);
    let item = &items[0];
    assert_eq!((item.message_id(), item.sequence(), item.deliveries()), (Some("a"), 1, 1));
    assert!(item.headers() == headers && !item.is_last_delivery());
    let status = queue.status().await.unwrap();
    assert_eq!((status.waiting, status.unsettled, status.stored), (2, 3, 5));

    for item in items.iter().chain(&queue.take(256, GUARD).await.unwrap()) {
        item.ack().await.unwrap();
    }
    let status = queue.status().await.unwrap();
    assert_eq!((status.waiting, status.unsettled, status.stored), (0, 0, 0));
    assert!(queue.take(1, SOON).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_taker_waits_for_an_item_that_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, config()).await;
    let start = Instant::now();
    let wait = Duration::from_millis(1200);
    assert!(queue.take(8, wait).await.unwrap().is_empty(), "longer than one question waits");
    assert!(start.elapsed() >= wait, "{:?}", start.elapsed());
    let taker = queue.clone();
    let taking = tokio::spawn(async move { taker.take(8, GUARD).await });
    // Whether it waits already or not, it gets it.
    put(&queue, "a").await;
    assert_eq!(payloads(&taking.await.unwrap().unwrap()), [b"a"]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_message_id_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, config()).await;
    let sequence = put(&queue, "a").await;
    put(&queue, "b").await;
    let again = queue.enqueue("a", Bytes::from("other"), Headers::new()).await.unwrap();
    assert_eq!((again.sequence, again.is_duplicate), (sequence, true));
    let items = queue.take(10, GUARD).await.unwrap();
    assert_eq!(payloads(&items), [b"a", b"b"]);
}

#[tokio::test]
async fn what_a_killed_taker_held_goes_to_another_after_ack_wait() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let ack_wait = Duration::from_millis(800);
    let queue = open(&server.connect().await, QueueConfig { ack_wait, ..config() }).await;
    put(&queue, "a").await;
    put(&queue, "b").await;

    let dying = server.connect().await;
    let held = take_one(&open(&dying, config()).await).await;
    let taken = Instant::now();
    assert_eq!(held.payload(), "a");
    dying.close(Duration::ZERO).await;
    held.ack().await.unwrap_err();
    drop(held);

    let other = take_one(&queue).await;
    assert_eq!((&other.payload()[..], other.deliveries()), (&b"b"[..], 1));
    other.ack().await.unwrap();
    let again = take_one(&queue).await;
    assert_eq!((&again.payload()[..], again.deliveries()), (&b"a"[..], 2));
    assert!(taken.elapsed() >= Duration::from_millis(700), "{:?}", taken.elapsed());
    again.ack().await.unwrap();
    assert_eq!(queue.status().await.unwrap().stored, 0);
}

#[tokio::test]
async fn an_extended_item_stays_with_its_taker() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let ack_wait = Duration::from_millis(600);
    let queue = open(&server.connect().await, QueueConfig { ack_wait, ..config() }).await;
    put(&queue, "a").await;
    let item = take_one(&queue).await;
    // Three times half of it, in which it would have been given out again.
    for _ in 0..3 {
        assert!(queue.take(1, ack_wait / 2).await.unwrap().is_empty());
        item.extend().await.unwrap();
    }
    item.ack().await.unwrap();
    assert!(queue.take(1, ack_wait * 2).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_item_comes_again_as_often_as_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, QueueConfig { max_deliver: 3, ..config() }).await;
    put(&queue, "poison").await;
    for (delivery, delay) in [(1, Duration::ZERO), (2, Duration::from_millis(300)), (3, SOON)] {
        let start = Instant::now();
        let item = take_one(&queue).await;
        assert_eq!(item.deliveries(), delivery);
        assert_eq!(item.is_last_delivery(), delivery == 3);
        if delivery == 3 {
            assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
        }
        item.nak(delay).await.unwrap();
    }
    assert!(queue.take(1, Duration::from_millis(500)).await.unwrap().is_empty());
    let status = queue.status().await.unwrap();
    assert_eq!((status.waiting, status.stored), (0, 1), "it is kept to be looked at");

    put(&queue, "unwanted").await;
    take_one(&queue).await.discard().await.unwrap();
    until("it is gone", async || queue.status().await.unwrap().stored == 1).await;
}

#[tokio::test]
async fn a_full_queue_and_a_large_item_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::with(&format!("max_payload: 4096\n{}", settings(&folder)));
    let queue = open(&server.connect().await, QueueConfig { max_items: 2, ..config() }).await;
    put(&queue, "a").await;
    put(&queue, "b").await;
    let full = queue.enqueue("c", Bytes::new(), Headers::new()).await.unwrap_err();
    assert_eq!((full.code(), full.executed()), (Code::Overloaded, Executed::No));
    take_one(&queue).await.ack().await.unwrap();
    // There is room, and the id of what was refused is not taken.
    until("there is room", async || queue.enqueue("c", Bytes::new(), Headers::new()).await.is_ok())
        .await;

    // The two headers are on top, with their names and the frame of the block.
    let block = 12 + "Nats-Msg-Id".len() + 1 + 4 + "Nats-Expected-Stream".len() + "jobs".len() + 4;
    let with = async |id: &str, bytes| {
        queue.enqueue(id, Bytes::from(vec![0; bytes]), Headers::new()).await.unwrap_err().code()
    };
    assert_eq!(with("d", 4096 - block).await, Code::Overloaded, "it fits and reaches the queue");
    assert_eq!(with("d", 4097 - block).await, Code::TooLarge);
}

#[tokio::test]
async fn ids_and_headers_that_belong_to_the_server_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, config()).await;
    for id in ["", "a b", "a\r\nNats-Rollup: all", "\u{e4}", &"a".repeat(257)] {
        let refusal = queue.enqueue(id, Bytes::new(), Headers::new()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidPayload, "{id:?}");
    }
    let mut headers = Headers::new();
    headers.insert("nats-rollup", "all").unwrap();
    let refusal = queue.enqueue("a", Bytes::new(), headers).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidPayload);
    assert_eq!(queue.status().await.unwrap().stored, 0);
}

#[tokio::test]
async fn no_more_are_given_out_than_may_be_unsettled() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, QueueConfig { max_unsettled: 2, ..config() }).await;
    for id in ["a", "b", "c"] {
        put(&queue, id).await;
    }
    let items = queue.take(10, GUARD).await.unwrap();
    assert_eq!(payloads(&items), [b"a", b"b"]);
    assert!(queue.take(10, SOON).await.unwrap().is_empty());
    items[0].ack().await.unwrap();
    assert_eq!(take_one(&queue).await.payload(), "c");
}

#[tokio::test]
async fn what_was_stored_survives_a_killed_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server(&folder);
    let connection = server.connect().await;
    let ack_wait = Duration::from_secs(2);
    let queue = open(&connection, QueueConfig { ack_wait, ..config() }).await;
    for id in ["a", "b", "c", "d"] {
        put(&queue, id).await;
    }
    let held = take_one(&queue).await;
    take_one(&queue).await.ack().await.unwrap();
    server.kill();
    until("the break is noticed", async || !connection.is_connected()).await;
    let refusal = queue.take(1, GUARD).await.unwrap_err();
    assert_eq!(refusal.code(), Code::ConnectFailed);
    let refusal = queue.enqueue("e", Bytes::new(), Headers::new()).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.executed()), (Code::ConnectFailed, Executed::No));

    server.run();
    until("it is back", async || connection.is_connected()).await;
    let again = queue.enqueue("c", Bytes::new(), Headers::new()).await.unwrap();
    assert_eq!((again.sequence, again.is_duplicate), (3, true), "ids are remembered too");
    assert_eq!(put(&queue, "e").await, 5);
    // Settled over the new connection what was taken over the old one.
    held.ack().await.unwrap();
    let mut taken = Vec::new();
    until("nothing is left", async || {
        for item in queue.take(10, SOON).await.unwrap() {
            item.ack().await.unwrap();
            taken.push(item.message_id().unwrap().to_owned());
        }
        queue.status().await.unwrap().stored == 0
    })
    .await;
    // What the server knew of the first two, and had not written yet, it has forgotten.
    taken.retain(|id| id != "a" && id != "b");
    assert_eq!(taken, ["c", "d", "e"]);
}

#[tokio::test]
async fn a_server_that_dies_under_a_taker_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server(&folder);
    let connection = server.connect().await;
    let queue = open(&connection, config()).await;
    let taker = queue.clone();
    let taking = tokio::spawn(async move { taker.take(1, GUARD).await });
    until("the question is there", async || connection.stats().in_flight == 1).await;
    server.kill();
    let start = Instant::now();
    let error = taking.await.unwrap().unwrap_err();
    assert!(matches!(error.code(), Code::ConnectionLost | Code::ConnectFailed), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test]
async fn draining_waits_for_what_was_taken_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, config()).await;
    put(&queue, "a").await;
    let held = take_one(&queue).await;
    let taker = queue.clone();
    let waiting = tokio::spawn(async move { taker.take(1, GUARD).await });
    let drained = queue.drain(Duration::from_millis(50)).await;
    assert!(drained.cut_streams >= 1, "{drained:?}");

    let drainer = queue.clone();
    let draining = tokio::spawn(async move { drainer.drain(GUARD).await });
    assert_eq!(waiting.await.unwrap().unwrap_err().code(), Code::Draining);
    assert!(!draining.is_finished());
    held.ack().await.unwrap();
    drop(held);
    assert_eq!(draining.await.unwrap(), Shutdown::default());
    assert_eq!(queue.take(1, GUARD).await.unwrap_err().code(), Code::Draining);
    put(&queue, "b").await;
}

#[tokio::test]
async fn an_item_stored_while_a_taker_ends_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let connection = server.connect().await;
    let queue = open(&connection, config()).await;
    let taker = queue.clone();
    let taking = tokio::spawn(async move { taker.take(1, GUARD).await });
    until("the question is there", async || connection.stats().in_flight == 1).await;
    let drainer = queue.clone();
    let draining = tokio::spawn(async move { drainer.drain(GUARD).await });
    put(&queue, "a").await;
    match taking.await.unwrap() {
        Ok(items) => items[0].ack().await.unwrap(),
        // Nobody was given it.
        Err(error) => {
            assert_eq!(error.code(), Code::Draining);
            assert_eq!(queue.status().await.unwrap().waiting, 1);
        }
    }
    assert_eq!(draining.await.unwrap(), Shutdown::default());
}

#[tokio::test]
async fn a_queue_that_went_away_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let connection = server.connect_impatiently().await;
    let queue = open(&connection, config()).await;
    let stranger = server.stranger().await;
    let delete = async || {
        stranger.request("$JS.API.STREAM.DELETE.jobs", Bytes::new()).await.unwrap();
    };
    delete().await;
    assert_eq!(put(&queue, "a").await, 1);
    assert_eq!(take_one(&queue).await.payload(), "a");
    delete().await;
    assert!(queue.take(1, SOON).await.unwrap().is_empty());
    assert_eq!(queue.status().await.unwrap().stored, 0, "it is there again");
    put(&queue, "b").await;
    assert_eq!(take_one(&queue).await.payload(), "b");
}

#[tokio::test]
async fn a_queue_that_is_there_keeps_its_settings_and_takes_items_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let connection = server.connect().await;
    let stranger = server.stranger().await;
    // As Dynamo makes it: kept by limits, and no limit of deliveries.
    let ask = async |subject: &str, question: serde_json::Value| {
        let body = question.to_string().into();
        let answer = stranger.request(subject.to_owned(), body).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
    };
    ask(
        "$JS.API.STREAM.CREATE.jobs",
        serde_json::json!({ "name": "jobs", "subjects": ["jobs.*"], "retention": "limits",
            "storage": "file", "max_age": 3_600_000_000_000_u64, "num_replicas": 1 }),
    )
    .await;
    ask(
        "$JS.API.CONSUMER.DURABLE.CREATE.jobs.worker-group",
        serde_json::json!({ "stream_name": "jobs", "config": { "durable_name": "worker-group",
            "deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant",
            "inactive_threshold": 300_000_000_000_u64 } }),
    )
    .await;
    let queue = open(&connection, QueueConfig { max_deliver: 1, max_items: 1, ..config() }).await;
    stranger.request("jobs.queue", "theirs".into()).await.unwrap();
    put(&queue, "ours").await;
    let items = queue.take(10, GUARD).await.unwrap();
    assert_eq!(payloads(&items), [&b"theirs"[..], b"ours"]);
    assert_eq!(items[0].message_id(), None);
    assert!(!items[0].is_last_delivery());
}

#[tokio::test]
async fn what_cannot_be_a_queue_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let connection = server.connect().await;
    let stranger = server.stranger().await;
    let body = r#"{"name":"jobs","subjects":["other.>"],"retention":"limits","storage":"file"}"#;
    stranger.request("$JS.API.STREAM.CREATE.jobs", body.into()).await.unwrap();
    let error = NatsQueue::open(&connection, config().checked().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidPayload);
    assert!(error.message().contains("other subjects"), "{error}");

    let without = Server::start();
    let connection = without.connect().await;
    let error = NatsQueue::open(&connection, config().checked().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownEndpoint);
    assert!(error.message().contains("no JetStream"), "{error}");
}

#[tokio::test]
async fn many_takers_share_the_items() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&folder);
    let queue = open(&server.connect().await, config()).await;
    let mut takers = Vec::new();
    for _ in 0..4 {
        let taker = open(&server.connect().await, config()).await;
        let working = taker.clone();
        let work = tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                match working.take(5, GUARD).await {
                    Ok(items) => {
                        for item in items {
                            item.ack().await.unwrap();
                            taken.push(item.sequence());
                        }
                    }
                    Err(error) if error.code() == Code::Draining => return taken,
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        takers.push((taker, work));
    }
    for id in 0..200 {
        put(&queue, &id.to_string()).await;
    }
    until("all are done", async || queue.status().await.unwrap().stored == 0).await;
    let mut all = Vec::new();
    for (taker, work) in takers {
        assert_eq!(taker.drain(GUARD).await, Shutdown::default());
        all.extend(work.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=200).collect::<Vec<_>>(), "each once");
}
