//! What requests and replies hold, with a small memory budget.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use sinew_plane::{
    Budget, BudgetUse, Code, Error, Executed, Headers, InstanceId, PlaneRequest,
    RequestPlaneClient, RequestPlaneHandler, budget::Work,
};
use sinew_transport_nats::{NatsConfig, NatsConnection, NatsRequestClient, NatsServer};

use crate::{
    handler::{Recorder, SUBJECT, name, send, serve},
    server::{Server, connect, until},
};

const MIB: usize = 1 << 20;

async fn connect_with(budget: &Arc<Budget>, server: &Server) -> NatsConnection {
    connect(NatsConfig { budget: Some(Arc::clone(budget)), ..server.config() }).await
}

/// Sends so many requests of 512 KiB at once.
async fn flood(caller: &NatsConnection, to: &str, count: usize) -> Vec<Result<Bytes, Error>> {
    let client = NatsRequestClient::new(caller.clone());
    let payload = Bytes::from(vec![7; MIB / 2]);
    let send = || client.send_request(to.to_owned(), payload.clone(), Headers::new());
    join_all((0..count).map(|_| send())).await
}

/// How many were taken. The others were refused before anything ran.
fn taken(answers: Vec<Result<Bytes, Error>>) -> usize {
    let (taken, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    for error in refused.into_iter().filter_map(Result::err) {
        assert_eq!((error.code(), error.executed()), (Code::Overloaded, Executed::No), "{error}");
        assert!(error.message().contains("memory_budget"), "{error}");
    }
    taken.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_fills_the_share_of_its_connection_and_the_rest_is_refused() {
    let server = Server::start();
    let budget = Budget::new(16 * MIB);
    let (worker, caller) = (connect_with(&budget, &server).await, server.connect().await);
    // It keeps what it is given.
    let handler = Recorder::accepting();
    let _endpoint = serve(&worker, &handler).await;
    let other = NatsServer::new(worker.clone(), Arc::clone(&handler) as _);
    let other = other.serve(&name("ns1/backend/other"), InstanceId(0x1f)).await.unwrap();

    assert_eq!(taken(flood(&caller, SUBJECT, 5).await), 5);
    // Of 4 MiB seven fit, each with what a message costs.
    assert_eq!(taken(flood(&caller, other.subject(), 32).await), 2, "one share for both endpoints");
    assert_eq!(handler.count(), 7, "the others have run nothing");
    let held = budget.used(BudgetUse::Frames);
    assert!((7 * MIB / 2..=budget.share()).contains(&held), "{held}");

    // Another connection has a share of its own.
    let second = connect_with(&budget, &server).await;
    let plane = NatsServer::new(second.clone(), Arc::clone(&handler) as _);
    let third = plane.serve(&name("ns1/backend/third"), InstanceId(0x1f)).await.unwrap();
    assert_eq!(taken(flood(&caller, third.subject(), 8).await), 7);

    handler.seen.lock().clear();
    assert_eq!(budget.total(), 0, "everything is given back");
    assert_eq!(taken(flood(&caller, SUBJECT, 4).await), 4);
}

/// Lets go of each request at once, and notes how much was charged at most.
struct Forgetful {
    recorder: Arc<Recorder>,
    budget: Arc<Budget>,
    most: AtomicUsize,
}

impl RequestPlaneHandler for Forgetful {
    fn accept(&self, request: PlaneRequest<'_>) -> Result<(), Error> {
        self.most.fetch_max(self.budget.total(), Ordering::SeqCst);
        let accepted = self.recorder.accept(request);
        self.recorder.seen.lock().last_mut().unwrap().payload = Bytes::new();
        accepted
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_handler_is_charged() {
    let server = Server::start();
    let budget = Budget::new(16 * MIB);
    let (worker, caller) = (connect_with(&budget, &server).await, server.connect().await);
    let recorder = Recorder::accepting();
    let (seen, charged) = (Arc::clone(&recorder), Arc::clone(&budget));
    let handler = Forgetful { recorder: seen, budget: charged, most: AtomicUsize::new(0) };
    let handler = Arc::new(handler);
    let plane = NatsServer::new(worker, Arc::clone(&handler) as _);
    let _endpoint = plane.serve(&name("ns1/backend/generate"), InstanceId(0x1f)).await.unwrap();

    recorder.close_gate();
    let all = |count: usize| {
        let caller = caller.clone();
        tokio::spawn(async move { flood(&caller, SUBJECT, count).await })
    };
    let first = all(1);
    until("the handler is held up", async || recorder.count() == 1).await;
    let others = all(31);
    until("all are on their way", async || caller.stats().in_flight == 32).await;
    // The server sends in order: with the answer to this, all of them have been sent.
    let client = NatsRequestClient::new(caller.clone());
    let nobody = client.send_request("nobody".to_owned(), Bytes::new(), Headers::new()).await;
    assert_eq!(nobody.unwrap_err().code(), Code::UnknownEndpoint);
    recorder.open_gate();

    assert_eq!(taken(first.await.unwrap()), 1);
    let accepted = taken(others.await.unwrap());
    assert!((7..31).contains(&accepted), "{accepted}");
    assert_eq!(recorder.count(), accepted + 1);
    let most = handler.most.load(Ordering::SeqCst);
    assert!((3 * MIB..=budget.share()).contains(&most), "{most}");
    assert_eq!(budget.total(), 0, "everything is given back");
}

#[tokio::test]
async fn a_long_reply_without_room_fails_its_request_and_a_short_one_needs_none() {
    let server = Server::start();
    let budget = Budget::new(4 * MIB);
    let (worker, caller) = (server.connect().await, connect_with(&budget, &server).await);
    let _endpoint = serve(&worker, &Recorder::accepting()).await;
    let (stranger, mut requests) = server.listener("stranger").await;
    let client = NatsRequestClient::new(caller.clone());
    let hold = |_| budget.open().hold(BudgetUse::Kept, MIB, Work::Running).unwrap();
    let full: Vec<_> = (0..4).map(hold).collect();

    let answering = async {
        let reply = requests.next().await.unwrap().reply.unwrap();
        stranger.publish(reply, vec![b' '; 100 << 10].into()).await.unwrap();
        stranger.flush().await.unwrap();
    };
    let sending = client.send_request("stranger".to_owned(), Bytes::new(), Headers::new());
    let (error, ()) = tokio::join!(sending, answering);
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Exhausted, Executed::Maybe), "{error}");
    send(&caller, "x").await.unwrap();
    drop(full);
    assert_eq!(budget.total(), 0);
}

#[cfg(feature = "jetstream")]
#[tokio::test]
async fn no_more_items_are_taken_from_a_queue_than_its_share_has_room_for() {
    use std::time::Duration;

    use sinew_transport_nats::{NatsQueue, QueueConfig};

    let folder = tempfile::tempdir().unwrap();
    let server =
        Server::with(&format!("jetstream {{ store_dir: \"{}\" }}", folder.path().display()));
    let budget = Budget::new(4 * MIB);
    let connection = connect_with(&budget, &server).await;
    let config = QueueConfig::new("jobs").checked().unwrap();
    let queue = NatsQueue::open(&connection, config).await.unwrap();
    for number in 0..7 {
        let payload = Bytes::from(vec![number; 300 << 10]);
        queue.enqueue(&number.to_string(), payload, Headers::new()).await.unwrap();
    }
    let wait = Duration::from_secs(30);
    let mut numbers = Vec::new();
    for expected in [3, 3, 1] {
        let items = queue.take(256, wait).await.unwrap();
        assert_eq!(items.len(), expected);
        let held = budget.used(BudgetUse::Queued);
        assert!((expected * (300 << 10)..=budget.share()).contains(&held), "{held}");
        if expected == 3 {
            let refusal = queue.take(256, wait).await.unwrap_err();
            assert_eq!((refusal.code(), refusal.executed()), (Code::Overloaded, Executed::No));
        }
        for item in items {
            assert_eq!(item.deliveries(), 1, "nothing was given out and not taken");
            numbers.push(item.payload()[0]);
            item.ack().await.unwrap();
        }
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(budget.total(), 0, "everything is given back");
}
