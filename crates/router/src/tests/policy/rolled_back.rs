//! Policies that are rolled back.

use std::{cell::RefCell, io, sync::OnceLock, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use sinew_discovery::{PlanePolicy, RollBack};
use sinew_plane::ManyOut;
use sinew_testkit::{Cut, Way, until, within};
use sinew_transport_tcp::{TCP, UNIX};
use tokio::{sync::watch, task::JoinSet};

use super::house::{House, count, number, to};

const STREAMS: usize = 40;

thread_local! {
    /// The warnings of this thread, and so of the one test that it runs.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Collects the warnings of each thread. One subscriber for all tests: one of its own for each
/// thread would now and then miss what another thread has logged first.
fn collect_warnings() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(|| Warnings)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

fn warnings() -> String {
    LOGGED.with_borrow(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

struct Warnings;

impl io::Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tasks that read streams, and check each item, until they are told to stop.
struct Readers {
    tasks: JoinSet<u64>,
    stop: watch::Sender<bool>,
}

impl Readers {
    async fn of(house: &House) -> Self {
        let mut readers = Self { tasks: JoinSet::new(), stop: watch::Sender::new(false) };
        for _ in 0..STREAMS {
            let (response, _) = house.call().await;
            let stop = readers.stop.subscribe();
            readers.tasks.spawn(read(response, stop));
        }
        readers
    }

    /// Ends the streams. Each had items.
    async fn end(mut self) {
        self.stop.send_replace(true);
        while let Some(read) = within("a reader", self.tasks.join_next()).await {
            assert!(read.unwrap() > 0);
        }
    }
}

async fn read(mut response: ManyOut<Bytes>, mut stop: watch::Receiver<bool>) -> u64 {
    let mut next = 0;
    loop {
        let item = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return next,
            item = response.next() => item.unwrap().unwrap(),
        };
        assert_eq!(number(&item), next);
        next += 1;
    }
}

fn careful() -> PlanePolicy {
    to(TCP, 100).rolled_back(RollBack::default())
}

fn rollbacks(house: &House, reason: &str) -> Option<f64> {
    house.metric(&format!(
        "plane_policy_rollbacks_total{{endpoint=\"test/policy/count\",reason=\"{reason}\"}}"
    ))
}

#[tokio::test]
async fn a_slow_target_is_rolled_back_and_reported_and_a_newer_version_begins_anew() {
    collect_warnings();
    // Long enough for the first stream that is moved to show on a busy machine how it fares.
    let house = House::comparing(Duration::from_millis(100), count).await;
    let readers = Readers::of(&house).await;
    assert_eq!(house.on(&UNIX), STREAMS);
    house.proxy.slow_down(Duration::from_millis(20));
    let version = house.put(careful()).await.version;
    until("the rollback", || rollbacks(&house, "gap") == Some(1.0)).await;
    let moved = house.moved_to("tcp");
    assert!(moved > 0, "the first share was moved");
    assert!(moved < STREAMS, "the rest was not: {moved}");
    assert_eq!((house.on(&UNIX), house.moved_to("unix")), (STREAMS, moved));
    let text = warnings();
    let parts = [
        "rolled back: the mean time between items over it is ",
        &format!("version={version}"),
        "author=\"somebody@somewhere\"",
        "reason=\"gap\"",
        "endpoint=test/policy/count",
    ];
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(text.lines().count(), 1, "{text}");
    // It is not tried again: new streams go as before, and none is moved.
    let (response, explanation) = house.call().await;
    assert_eq!((explanation.transport, explanation.policy), (UNIX, None));
    drop(response);
    assert_eq!(house.metric("plane_policy_share"), Some(0.0));
    house.proxy.slow_down(Duration::ZERO);
    house.put(to(TCP, 100)).await;
    until("the newer version", || house.on(&TCP) == STREAMS).await;
    assert_eq!(house.moved_to("tcp"), moved + STREAMS);
    readers.end().await;
    house.ends();
}

#[tokio::test]
async fn a_target_that_is_not_there_is_rolled_back_and_no_stream_notices() {
    collect_warnings();
    let house = House::with(count, |mut instance| {
        let tcp = instance.addresses.iter_mut().find(|it| it.scheme() == "tcp").unwrap();
        // Nothing listens on the port of another protocol's discard service in a test.
        *tcp = "tcp://127.0.0.1:9".parse().unwrap();
        instance
    })
    .await;
    let readers = Readers::of(&house).await;
    house.put(to(TCP, 100)).await;
    until("the rollback", || rollbacks(&house, "unreachable") == Some(1.0)).await;
    assert_eq!((house.on(&UNIX), house.moved_to("tcp")), (STREAMS, 0));
    assert!(warnings().contains("attempts to reach it failed"), "{}", warnings());
    assert_eq!(house.call().await.1.transport, UNIX);
    readers.end().await;
    house.ends();
}

/// Each time they go on over the other transport, and the policy takes them back.
#[tokio::test]
async fn a_target_that_loses_its_connections_again_and_again_is_rolled_back() {
    let house = House::new(count).await;
    let readers = Readers::of(&house).await;
    house.put(to(TCP, 100)).await;
    let is_over = || rollbacks(&house, "lost") == Some(1.0);
    let losses = async {
        while !is_over() {
            until("streams on the target", || house.on(&TCP) > 0 || is_over()).await;
            (&house.proxy as &dyn Way).cut(Cut::Reset);
            until("the loss", || house.on(&TCP) == 0 || is_over()).await;
        }
    };
    within("the rollback", losses).await;
    until("the way back", || house.on(&UNIX) == STREAMS).await;
    readers.end().await;
    house.ends();
}

#[tokio::test]
async fn the_task_ends_with_the_last_router() {
    let house = House::new(count).await;
    drop(house.call().await);
    let policies = house.router.shared().policies.clone().unwrap();
    let following = policies.ends_with();
    drop(policies);
    assert!(following.upgrade().is_some());
    drop(house);
    until("the end of the task", || following.upgrade().is_none()).await;
}
