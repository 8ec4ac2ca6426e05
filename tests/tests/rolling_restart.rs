//! All workers are replaced, one after the other, while streams run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{Stream, StreamExt, future::join_all, stream};
use rustix::process::{Pid, Signal, kill_process};
use sinew::{
    BodyEvent, Context, Continuation, DiscoverySource, Endpoint, Error, InstanceId, MigrationCause,
    Outcome, Router, Runtime,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
};

const COUNT: Endpoint<u64, u64> = Endpoint::new("tests/rolling/count");

/// Set for a child that is to be a worker: its instance and its declaration, with a comma.
const WORKER: &str = "SINEW_TEST_ROLLING_WORKER";
const FOLDER: &str = "SINEW_TEST_ROLLING_FOLDER";

const STREAMS: usize = 60;
const WORKERS: u64 = 3;
/// Items that each caller reads before each restart; a worker may be a window of 1,024 ahead.
const PART: u64 = 2_000;
const ITEMS: u64 = PART * (WORKERS + 1);
const CHECKPOINT_EVERY: u64 = 64;

async fn soon<T>(what: &str, limit: u64, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(limit), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit} s for {what}"),
    }
}

/// A worker in a process of its own: this program again, running the same test.
struct Worker(Child);

impl Worker {
    fn start(test: &str, folder: &Path, id: u64, continuation: Continuation) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(FOLDER, folder);
        command.env(WORKER, format!("{id},{continuation}"));
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Ends it in order, and returns what it says of the requests that it had.
    async fn replace(mut self) -> String {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let mut stdout = self.0.stdout.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            stdout.read_to_string(&mut said).unwrap();
            (self.0.wait().unwrap(), said)
        });
        let (status, said) = soon("a worker to end", 10, ended).await.unwrap();
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True when this process is such a child: then its life is over already.
async fn was_worker() -> bool {
    let Ok(what) = std::env::var(WORKER) else { return false };
    let (id, continuation) = what.split_once(',').unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let source = DiscoverySource::File(std::env::var(FOLDER).unwrap().into());
    let runtime = Runtime::builder().discovery(source).build().await.unwrap();
    let count = |_: u64, context: Context| async move { Ok::<_, Error>(count(context)) };
    let served = runtime
        .serve(&COUNT, count)
        .instance(InstanceId(id.parse().unwrap()))
        .continuation(Continuation::from_name(continuation))
        .await
        .unwrap();
    terminated.recv().await;
    let said = format!("drained: {}\n", served.drain().await);
    std::io::stdout().write_all(said.as_bytes()).unwrap();
    runtime.shutdown(Duration::from_secs(1)).await;
    true
}

fn count(context: Context) -> impl Stream<Item = Result<u64, Error>> {
    let begin = context.continued().map_or(0, |continued| continued.items);
    stream::iter(begin..ITEMS).then(move |number| {
        let context = context.clone();
        async move {
            if (number + 1).is_multiple_of(CHECKPOINT_EVERY) || context.is_checkpoint_wanted() {
                context.checkpoint(vec![1])?;
            }
            Ok(number)
        }
    })
}

/// Reads one response, a part for each step. Returns how often it was handed over.
async fn read(
    router: &Router<u64, u64>,
    parts: &Semaphore,
    mut step: watch::Receiver<u64>,
) -> usize {
    let mut events = router.call(0_u64).await.unwrap().events();
    let (mut next, mut moves) = (0, 0);
    while let Some(event) = soon("an item", 60, events.next()).await {
        match event.unwrap() {
            BodyEvent::Item(number) => {
                assert_eq!(number, next, "a gap or a double");
                next += 1;
                if next % PART == 0 && next < ITEMS {
                    parts.add_permits(1);
                    let wanted = next / PART;
                    soon("the next step", 60, step.wait_for(|now| *now >= wanted)).await.unwrap();
                }
            }
            BodyEvent::Migrated(moved) => {
                assert_eq!(moved.why, MigrationCause::HandedOver, "{moved}");
                moves += 1;
            }
            _ => {}
        }
    }
    assert!(matches!(events.body().outcome(), Some(Outcome::Complete { items: ITEMS })));
    assert_eq!(next, ITEMS);
    moves
}

async fn roll(test: &'static str, continuation: Continuation) {
    if was_worker().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let start = |id| Worker::start(test, folder.path(), id, continuation);
    let mut workers: Vec<_> = (1..=WORKERS).map(start).collect();
    let source = DiscoverySource::File(folder.path().to_path_buf());
    let runtime = Runtime::builder().discovery(source).build().await.unwrap();
    let router = runtime.router(&COUNT);
    let known = async |count: usize| {
        let mut view = runtime.browse(Some(&COUNT.name())).await.unwrap();
        while view.snapshot().of(&COUNT.name()).count() < count {
            view.changed().await.unwrap();
        }
    };
    soon("all workers", 60, known(WORKERS as usize)).await;
    let (parts, (steps, step)) = (Semaphore::new(0), watch::channel(0));
    let reading = join_all((0..STREAMS).map(|_| read(&router, &parts, step.clone())));
    let rolling = async {
        let mut handed_over = 0;
        for now in 1..=WORKERS {
            parts.acquire_many(STREAMS as u32).await.unwrap().forget();
            let successor = start(WORKERS + now);
            soon("the successor", 60, known(WORKERS as usize + 1)).await;
            let said = workers.remove(0).replace().await;
            workers.push(successor);
            let counts = said.lines().find_map(|line| line.strip_prefix("drained: ")).unwrap();
            let (finished, rest) = counts.split_once(" finished, ").unwrap();
            let (moved, rest) = rest.split_once(" handed over, ").unwrap();
            assert_eq!((finished, rest), ("0", "0 cut"), "{counts}");
            handed_over += moved.parse::<usize>().unwrap();
            steps.send_replace(now);
        }
        handed_over
    };
    let (moves, handed_over) = tokio::join!(reading, rolling);
    assert!(handed_over >= STREAMS, "each stream was with a worker that ended: {handed_over}");
    assert_eq!(moves.into_iter().sum::<usize>(), handed_over);
    runtime.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_can_be_made_again_outlive_all_their_workers() {
    roll("responses_that_can_be_made_again_outlive_all_their_workers", Continuation::Replayable)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_with_checkpoints_outlive_all_their_workers() {
    roll("responses_with_checkpoints_outlive_all_their_workers", Continuation::Checkpoint).await;
}
