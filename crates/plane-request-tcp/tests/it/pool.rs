//! The connections of the request plane's calling side: few, shared, bounded, and given back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use sinew_plane::{Code, Executed, Headers, RequestPlaneClient};
use sinew_plane_request_tcp::TcpRequestConfig;

use crate::fixture::{
    Gate, RawWorker, Taker, all_accepted, answer, caller, config, defaults, send, soon, storm,
    worker,
};

#[tokio::test]
async fn concurrent_and_later_requests_share_one_connection() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(defaults());
    for _ in 0..5 {
        all_accepted(storm(&client, at, 50)).await;
    }
    assert_eq!((taker.count(), server.connections(), client.connections()), (250, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thundering_herd_at_a_cold_start_makes_few_connections() {
    let mut gate = Gate::closed().await;
    gate.open();
    let client = caller(defaults());
    all_accepted(storm(&client, gate.at, 1_000)).await;
    let connections = *gate.connections.borrow_and_update();
    // 1,000 requests of which none is acknowledged fill 16.
    assert!(connections <= 16, "{connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_thousand_requests_at_once_do_not_lock_up() {
    let mut gate = Gate::closed().await;
    let client =
        caller(TcpRequestConfig { request_timeout: Duration::from_secs(20), ..defaults() });
    let storm = storm(&client, gate.at, 8_000);
    // Every place is taken, and 1,600 wait.
    gate.requests(6_400).await;
    assert_eq!(*gate.connections.borrow(), 100);
    assert_eq!(*gate.requests.borrow(), 6_400, "no connection has more than its share");
    gate.open();
    all_accepted(storm).await;
    assert_eq!((*gate.requests.borrow(), *gate.connections.borrow()), (8_000, 100));
}

#[tokio::test]
async fn the_pool_grows_only_when_all_connections_are_full_and_up_to_its_size() {
    let mut gate = Gate::closed().await;
    let client = caller(TcpRequestConfig { pool_size: 3, max_pipelined: 2, ..defaults() });
    let mut storms = Vec::new();
    for (requests, connections) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)] {
        storms.extend(storm(&client, gate.at, 1));
        gate.requests(requests).await;
        assert_eq!(*gate.connections.borrow(), connections, "at {requests}");
    }
    storms.extend(storm(&client, gate.at, 10));
    gate.open();
    all_accepted(storms).await;
    assert_eq!((*gate.requests.borrow(), *gate.connections.borrow()), (16, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_fit_on_one_connection_stay_on_it() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(TcpRequestConfig { max_pipelined: 8, ..defaults() });
    let callers = (0..8).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            for _ in 0..500 {
                send(&client, at, "1f/a/b/c").await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!((taker.count(), client.connections()), (4_000, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sustained_load_stays_within_the_pool() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(TcpRequestConfig { pool_size: 2, max_pipelined: 4, ..defaults() });
    for _ in 0..10 {
        all_accepted(storm(&client, at, 200)).await;
        assert!(server.connections() <= 2 && client.connections() <= 2);
    }
    assert_eq!(taker.count(), 2_000);
}

#[tokio::test]
async fn one_place_for_all_serves_all() {
    let mut gate = Gate::closed().await;
    gate.open();
    let client = caller(TcpRequestConfig { pool_size: 1, max_pipelined: 1, ..defaults() });
    all_accepted(storm(&client, gate.at, 50)).await;
    assert_eq!(*gate.connections.borrow_and_update(), 1);
}

#[tokio::test]
async fn those_beyond_the_queue_are_told_at_once() {
    let mut gate = Gate::closed().await;
    let small = TcpRequestConfig { pool_size: 1, max_pipelined: 1, max_waiting: 1, ..defaults() };
    let client = caller(small);
    let first = storm(&client, gate.at, 1);
    gate.requests(1).await;
    let mut second = storm(&client, gate.at, 1);
    tokio::task::yield_now().await;
    let error = send(&client, gate.at, "p").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No));
    // A caller that has gone leaves its place in the queue.
    second[0].abort();
    let _ = (&mut second[0]).await;
    let third = storm(&client, gate.at, 1);
    tokio::task::yield_now().await;
    gate.open();
    all_accepted(first).await;
    all_accepted(third).await;
    assert_eq!(*gate.requests.borrow(), 2);
}

#[tokio::test]
async fn requests_sent_at_once_leave_in_few_writes() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(defaults());
    client.warm_up(&format!("{at}/p")).await.unwrap();
    let sends = (0..60).map(|_| send(&client, at, "1f/a/b/c"));
    for outcome in join_all(sends).await {
        outcome.unwrap();
    }
    assert!(client.writes() <= 10, "{} writes for 60 requests", client.writes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_arrive_whole_through_a_socket_that_takes_little_at_a_time() {
    let taker: Arc<Taker> = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(defaults());
    let bodies: Vec<_> = (0..6_u8).map(|n| Bytes::from(vec![n; 5 << 20])).collect();
    let sends = bodies
        .iter()
        .map(|body| client.send_request(format!("{at}/1f/a/b/c"), body.clone(), Headers::new()));
    for outcome in soon("the answers", join_all(sends)).await {
        outcome.unwrap();
    }
    let mut taken: Vec<_> = taker.0.lock().iter().map(|it| it.payload.clone()).collect();
    taken.sort_unstable();
    assert!(taken == bodies);
}

#[tokio::test]
async fn a_warm_up_connects_ahead_of_the_first_request() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(defaults());
    let address = format!("{at}/1f/a/b/c");
    for _ in 0..3 {
        soon("the warm-up", client.warm_up(&address)).await.unwrap();
    }
    assert_eq!((client.connections(), client.hosts(), client.writes()), (1, 1, 0));
    send(&client, at, "1f/a/b/c").await.unwrap();
    assert_eq!(server.connections(), 1);
    let error = client.warm_up("nowhere").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidPayload);
}

#[tokio::test]
async fn a_host_that_is_not_used_is_forgotten_and_its_connections_close() {
    let worker = RawWorker::new().await;
    let client = caller(TcpRequestConfig { idle_timeout: Duration::from_millis(40), ..defaults() });
    for _ in 0..2 {
        let storm = storm(&client, worker.at, 1);
        let mut raw = worker.accept().await;
        raw.request().await.unwrap();
        raw.write(&answer("")).await;
        all_accepted(storm).await;
        assert!(raw.request().await.is_none(), "closed");
    }
}

#[tokio::test]
async fn forgetting_hosts_spares_those_in_use() {
    let mut busy = Gate::closed().await;
    let taker = Arc::default();
    let servers = [worker(config(), &taker), worker(config(), &taker)];
    let [first, second] = servers.each_ref().map(|server| server.local_address().unwrap());
    let client = caller(TcpRequestConfig { max_hosts: 2, ..defaults() });
    let kept = storm(&client, busy.at, 5);
    busy.requests(5).await;
    // They take the other place in turns.
    for at in [first, second, first] {
        send(&client, at, "p").await.unwrap();
        assert_eq!(client.hosts(), 2);
    }
    let mut other = Gate::closed().await;
    let held = storm(&client, other.at, 1);
    other.requests(1).await;
    let error = send(&client, first, "p").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Exhausted, Executed::No));
    busy.open();
    other.open();
    all_accepted(kept).await;
    all_accepted(held).await;
    assert_eq!(*busy.connections.borrow(), 1);
}

#[tokio::test]
async fn dropping_the_client_closes_its_connections() {
    let worker = RawWorker::new().await;
    let client = caller(defaults());
    let warm = format!("{}/p", worker.at);
    soon("the warm-up", client.warm_up(&warm)).await.unwrap();
    let mut raw = worker.accept().await;
    let clone = client.clone();
    drop(client);
    assert_eq!(clone.connections(), 1);
    drop(clone);
    assert!(raw.request().await.is_none(), "closed");
}

#[tokio::test]
async fn closing_the_client_joins_its_tasks_and_fails_what_is_under_way() {
    let mut gate = Gate::closed().await;
    let small = TcpRequestConfig { pool_size: 1, max_pipelined: 2, ..defaults() };
    let client = caller(small);
    // Two on their way, three in the queue.
    let storm = storm(&client, gate.at, 5);
    gate.requests(2).await;
    soon("the end", client.close()).await;
    let mut safe = 0;
    for outcome in join_all(storm).await {
        safe += usize::from(outcome.unwrap().unwrap_err().executed() == Executed::No);
    }
    assert_eq!((safe, client.connections()), (3, 0));
    let error = send(&client, gate.at, "p").await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::ConnectFailed, Executed::No));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_come_and_go_leave_every_place_free() {
    let taker = Arc::default();
    let server = worker(config(), &taker);
    let at = server.local_address().unwrap();
    let client = caller(TcpRequestConfig { pool_size: 2, max_pipelined: 2, ..defaults() });
    for round in 0..30 {
        let storm = storm(&client, at, 40);
        for (n, task) in storm.iter().enumerate() {
            if n % 3 != round % 3 {
                task.abort();
            }
            if n % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for outcome in join_all(storm).await.into_iter().flatten() {
            outcome.unwrap();
        }
    }
    // With one place lost for good, 4 at a time would not get through in the end.
    all_accepted(storm(&client, at, 100)).await;
    assert!(server.connections() <= 2);
}

#[tokio::test]
async fn a_caller_that_gives_up_in_the_queue_takes_no_place() {
    let mut gate = Gate::closed().await;
    let client = caller(TcpRequestConfig { pool_size: 1, max_pipelined: 1, ..defaults() });
    let first = storm(&client, gate.at, 1);
    gate.requests(1).await;
    let mut gone = storm(&client, gate.at, 3);
    let waiting = storm(&client, gate.at, 1);
    tokio::task::yield_now().await;
    for task in &mut gone {
        task.abort();
        let _ = task.await;
    }
    gate.open();
    all_accepted(first).await;
    all_accepted(waiting).await;
    all_accepted(storm(&client, gate.at, 1)).await;
    assert_eq!(*gate.requests.borrow(), 3, "those who gave up are not sent");
}

#[tokio::test]
async fn a_caller_that_gives_up_before_its_request_is_written_is_not_sent_and_leaves_its_place() {
    let worker = RawWorker::new().await;
    let client = caller(TcpRequestConfig { pool_size: 1, max_pipelined: 2, ..defaults() });
    let (large, address) = (Bytes::from(vec![0; 20 << 20]), format!("{}/large", worker.at));
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.send_request(address, large, Headers::new()).await }
    });
    let mut raw = worker.accept().await;
    // It is begun, and more than the sockets hold is left of it: the next stays behind it.
    soon("its start", raw.socket.peek(&mut [0])).await.unwrap();
    let mut gone = storm(&client, worker.at, 1);
    tokio::task::yield_now().await;
    gone[0].abort();
    let _ = (&mut gone[0]).await;
    assert_eq!(raw.request().await.unwrap().path(), "large");
    raw.write(&answer("")).await;
    soon("the answer", first).await.unwrap().unwrap();
    // Both places are free again: two requests come before either is acknowledged.
    let pair = storm(&client, worker.at, 2);
    for _ in 0..2 {
        assert_eq!(raw.request().await.unwrap().path(), "1f/a/b/c");
    }
    raw.write(&[answer(""), answer("")].concat()).await;
    all_accepted(pair).await;
}

#[tokio::test]
async fn who_waits_while_the_last_connection_ends_gets_another() {
    let worker = RawWorker::new().await;
    let client = caller(TcpRequestConfig { pool_size: 1, max_pipelined: 1, ..defaults() });
    let first = storm(&client, worker.at, 1);
    let mut raw = worker.accept().await;
    raw.request().await.unwrap();
    let second = storm(&client, worker.at, 1);
    tokio::task::yield_now().await;
    drop(raw);
    join_all(first).await.remove(0).unwrap().unwrap_err();
    let mut raw = worker.accept().await;
    raw.request().await.unwrap();
    raw.write(&answer("")).await;
    all_accepted(second).await;
}
