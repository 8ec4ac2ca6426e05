//! Worker processes are killed while they answer, and what their endpoints declare decides.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unreachable_pub, reason = "the example is a program of its own")]
#[path = "../../crates/runtime-facade/examples/migration.rs"]
mod migration;

use std::{
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use sinew::{
    BodyEvent, Code, Context, Continuation, DiscoverySource, Endpoint, Error, InstanceId,
    MigrationCause, Outcome, Router, Runtime,
};

const COUNT: Endpoint<u64, String> = Endpoint::new("tests/death/count");

/// Set for a child that is to be a worker: its instance, its declaration, and what it adds to the
/// numbers that it counts, each behind a comma.
const WORKER: &str = "SINEW_TEST_DEAD_WORKER";
const FOLDER: &str = "SINEW_TEST_DEAD_WORKER_FOLDER";

/// Items of each response, and the item at which the worker that has it is killed.
const ITEMS: u64 = 4_000;
const KILLED_AT: u64 = 1_500;

/// Every how many items a handler with checkpoints attaches one.
const CHECKPOINT_EVERY: u64 = 100;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(value) => value,
        Err(_) => panic!("waited 60 s for {what}"),
    }
}

/// A worker in a process of its own: this program again, running the same test.
struct Worker(Child);

impl Worker {
    fn start(test: &str, folder: &Path, id: u64, continuation: Continuation, adds: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(FOLDER, folder);
        command.env(WORKER, format!("{id},{continuation},{adds}"));
        // It lives until it is killed, or until this process is and the pipe closes.
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
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
    let parts: Vec<_> = what.split(',').collect();
    let (id, adds): (u64, u64) = (parts[0].parse().unwrap(), parts[2].parse().unwrap());
    let source = DiscoverySource::File(std::env::var(FOLDER).unwrap().into());
    let runtime = Runtime::builder().discovery(source).build().await.unwrap();
    let count = move |last: u64, context: Context| async move {
        Ok::<_, Error>(count(last, adds, context))
    };
    let served = runtime
        .serve(&COUNT, count)
        .instance(InstanceId(id))
        .continuation(Continuation::from_name(parts[1]))
        .await
        .unwrap();
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await.unwrap().unwrap();
    drop(served);
    true
}

/// Counts to `last`, in steps that let the caller see the items as they come; from where it was
/// continued, with the number as its state.
fn count(last: u64, adds: u64, context: Context) -> impl Stream<Item = Result<String, Error>> {
    let begin = match context.continued() {
        Some(continued) => {
            let state = continued.checkpoint.as_deref().unwrap();
            let begin = u64::from_be_bytes(state.try_into().unwrap());
            assert_eq!(begin, continued.items);
            begin
        }
        None => 0,
    };
    stream::iter(begin..last).then(move |number| {
        let context = context.clone();
        async move {
            if number % 16 == 0 {
                tokio::task::yield_now().await;
            }
            if (number + 1).is_multiple_of(CHECKPOINT_EVERY) {
                context.checkpoint((number + 1).to_be_bytes().to_vec())?;
            }
            Ok(format!("item {}", number + adds))
        }
    })
}

/// A caller of two workers.
struct Place {
    folder: tempfile::TempDir,
    test: &'static str,
    continuation: Continuation,
    second_adds: u64,
    first: Option<Worker>,
    runtime: Runtime,
    router: Router<u64, String>,
}

impl Place {
    /// Worker 1 counts as it should. Worker 2, which comes when a request is with worker 1, adds that
    /// much to each number.
    async fn new(test: &'static str, continuation: Continuation, second_adds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = Some(Worker::start(test, folder.path(), 1, continuation, 0));
        let source = DiscoverySource::File(folder.path().to_path_buf());
        let runtime = Runtime::builder().discovery(source).build().await.unwrap();
        let router = runtime.router(&COUNT);
        router.wait_for_instances(Duration::from_secs(60)).await.unwrap();
        Self { folder, test, continuation, second_adds, first, runtime, router }
    }

    /// Reads a response whose worker is killed at [`KILLED_AT`]: how many items came, each as it
    /// should be, the moves with the number of items before each, and the error at the end.
    async fn read(&mut self) -> Read {
        let response = self.router.call(ITEMS).await.unwrap();
        let Self { folder, test, continuation, second_adds, .. } = self;
        let _second = Worker::start(test, folder.path(), 2, *continuation, *second_adds);
        let (mut events, mut items, mut error) = (response.events(), 0, None);
        while let Some(event) = soon("the next item", events.next()).await {
            match event {
                Ok(BodyEvent::Item(item)) => {
                    assert_eq!(item, format!("item {items}"));
                    items += 1;
                    if items == KILLED_AT {
                        drop(self.first.take().unwrap());
                    }
                }
                Ok(BodyEvent::Migrated(moved)) => assert_eq!(moved.at_item, items),
                Ok(_) => panic!("an event that is not known"),
                Err(failed) => error = Some(failed),
            }
        }
        let outcome = events.body().outcome().cloned().unwrap();
        let migrations = events.body().migrations();
        Read { items, migrations, error, outcome }
    }

    async fn end(self) {
        self.runtime.shutdown(Duration::from_secs(1)).await;
    }
}

struct Read {
    items: u64,
    migrations: Vec<sinew::Migrated>,
    error: Option<Error>,
    outcome: Outcome,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayable_stream_goes_on_at_another_worker() {
    if was_worker().await {
        return;
    }
    let test = "a_replayable_stream_goes_on_at_another_worker";
    let mut place = Place::new(test, Continuation::Replayable, 0).await;
    let Read { items, migrations, error, outcome } = place.read().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items, ITEMS);
    assert!(matches!(outcome, Outcome::Complete { items: ITEMS }), "{outcome:?}");
    let [moved] = &migrations[..] else { panic!("{migrations:?}") };
    assert_eq!((moved.from, moved.to), (InstanceId(1), InstanceId(2)));
    assert_eq!((moved.why, moved.repeated), (MigrationCause::Lost, moved.at_item));
    assert!(moved.at_item >= KILLED_AT);
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_checkpoints_goes_on_from_the_last_one() {
    if was_worker().await {
        return;
    }
    let test = "a_stream_with_checkpoints_goes_on_from_the_last_one";
    let mut place = Place::new(test, Continuation::Checkpoint, 0).await;
    let Read { items, migrations, error, outcome } = place.read().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items, ITEMS);
    assert!(matches!(outcome, Outcome::Complete { items: ITEMS }), "{outcome:?}");
    let [moved] = &migrations[..] else { panic!("{migrations:?}") };
    // The checkpoint is sent behind its run of at most 64 items; what was lost with the connection
    // may be one more.
    assert!(moved.repeated <= 2 * CHECKPOINT_EVERY + 64, "{moved}");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_declaration_a_stream_is_truncated() {
    if was_worker().await {
        return;
    }
    let test = "without_a_declaration_a_stream_is_truncated";
    let mut place = Place::new(test, Continuation::None, 0).await;
    let Read { items, migrations, error, outcome } = place.read().await;
    assert_eq!(error.map(|error| error.code()), Some(Code::Truncated));
    assert!(matches!(outcome, Outcome::Truncated { received } if received == items));
    assert!((KILLED_AT..ITEMS).contains(&items), "{items}");
    assert!(migrations.is_empty());
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_gives_other_items_is_not_spliced() {
    if was_worker().await {
        return;
    }
    let test = "a_handler_that_gives_other_items_is_not_spliced";
    let mut place = Place::new(test, Continuation::Replayable, 1).await;
    let Read { items, error, outcome, .. } = place.read().await;
    let error = error.unwrap();
    assert_eq!(error.code(), Code::Diverged);
    // All items differ, and the first hash that is known is the one before the last 128 items.
    assert_eq!(error.diverged_at(), Some(items - 129));
    assert!(matches!(outcome, Outcome::Failed { .. }));
    assert!((KILLED_AT..ITEMS).contains(&items), "{items}");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_a_token_stream_runs() {
    if let Ok(folder) = std::env::var(migration::FOLDER) {
        migration::work(&folder).await.unwrap();
        return;
    }
    let worker = || {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "the_example_of_a_token_stream_runs"]).stdout(Stdio::null());
        Ok(command)
    };
    soon("the example", migration::ask(worker)).await.unwrap();
}
