//! The second half of the demo: all connections are cut, and all workers replaced, while streams run.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use comfy_table::{Table, presets};
use futures_util::{StreamExt, future::join_all};
use sinew::{
    Client, Config, Context, DiscoverySource, EndpointName, Outcome, PushRouter, RouterMode,
    SingleIn, Window,
};
use sinew_telemetry::console::tell;
use tokio::{
    process::{Child, Command},
    time::{interval, timeout},
};

use super::{
    cutter::Cutter,
    words::{Range, Word},
};
use crate::{
    exit::{Exit, Failure},
    settings,
};

/// Streams at once, and words of each: of a short text several times over.
const STREAMS: usize = 200;
const WORDS: usize = 600;
const WORKERS: usize = 3;
/// Items that a worker may be ahead of the router, so that none is through at once.
const WINDOW: Window = Window { items: 64, bytes: 64 << 10 };
/// Longest time of a stream, and of a worker to appear and to end.
const STREAM_LIMIT: Duration = Duration::from_secs(60);
const WORKER_LIMIT: Duration = Duration::from_secs(10);
/// How many hundredths of all items have come before each step.
const CUTS_AT: [u64; 2] = [10, 22];
const REPLACED_AT: [u64; WORKERS] = [34, 48, 62];
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What became of the streams, and of their words.
#[derive(Debug, Default)]
pub(crate) struct Survival {
    complete: AtomicUsize,
    truncated: AtomicUsize,
    words: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    wrong: AtomicU64,
    moves: AtomicUsize,
    cut: AtomicUsize,
    replaced: AtomicUsize,
}

/// A worker process behind a way that can be cut. Dropping it kills it.
struct Worker {
    process: Child,
    way: Cutter,
}

/// What the workers are started with.
struct Place<'a> {
    name: &'a EndpointName,
    folder: &'a Path,
    text: &'a Path,
}

/// Runs it with the words of a text, in a discovery of its own.
pub(crate) async fn run(
    name: &EndpointName,
    folder: &Path,
    text: &Path,
    words: &[String],
) -> Result<Survival, Failure> {
    tell(&format!(
        "now {STREAMS} streams run while every connection is cut twice and all {WORKERS} workers are \
         replaced"
    ));
    let discovery = DiscoverySource::File(folder.to_path_buf());
    let runtime = settings::start(Config { discovery, ..Config::default() }, &|_| {}).await?;
    let client = runtime.client(name.clone());
    let place = Place { name, folder, text };
    let mut workers = Vec::new();
    for id in 1..=WORKERS {
        workers.push(Worker::start(&place, id).await?);
    }
    appeared(&client, WORKERS).await?;
    let router = PushRouter::from_client(client.clone(), RouterMode::RoundRobin).await?;
    let router = router.with_window(WINDOW);
    let survival = Survival::default();
    let streams = join_all((0..STREAMS).map(|_| survival.stream(&router, words)));
    let (_, disturbed) = tokio::join!(streams, survival.disturb(&place, &client, workers));
    let workers = disturbed?;
    for worker in workers {
        worker.end().await?;
    }
    runtime.shutdown(Duration::from_secs(1)).await;
    Ok(survival)
}

impl Worker {
    async fn start(place: &Place<'_>, id: usize) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| not_started(&error.to_string());
        let listen = free_address().map_err(failed)?;
        let way = Cutter::start(listen).await.map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let process = Command::new(program)
            .arg("demo-worker")
            .args(["--name", place.name.as_str(), "--id", &format!("{id:x}"), "--long"])
            .args(["--listen", &listen.to_string(), "--advertise", &way.address().to_string()])
            .arg("--place")
            .args([place.folder, place.text])
            // Its end tells the worker to drain.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Ok(Self { process: process.map_err(failed)?, way })
    }

    /// Has it drain, and waits until it has ended. Its streams go on elsewhere.
    async fn end(mut self) -> Result<(), Failure> {
        drop(self.process.stdin.take());
        match timeout(WORKER_LIMIT, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            ended => {
                let message =
                    format!("a worker did not end in order within {WORKER_LIMIT:?}: {ended:?}");
                Err(Failure::new(Exit::Failed, message))
            }
        }
    }
}

impl Survival {
    /// Cuts the connections and replaces the workers, as the streams come forward. Returns the
    /// workers of the end.
    async fn disturb(
        &self,
        place: &Place<'_>,
        client: &Client,
        mut workers: Vec<Worker>,
    ) -> Result<Vec<Worker>, Failure> {
        for part in CUTS_AT {
            self.reached(part).await;
            let cut: usize = workers.iter().map(|worker| worker.way.cut()).sum();
            self.cut.fetch_add(cut, Ordering::Relaxed);
            tell(&format!("{part} % of the words have come: all {cut} connections are cut"));
        }
        for (number, part) in REPLACED_AT.into_iter().enumerate() {
            self.reached(part).await;
            workers.push(Worker::start(place, WORKERS + number + 1).await?);
            appeared(client, WORKERS + 1).await?;
            workers.remove(0).end().await?;
            self.replaced.fetch_add(1, Ordering::Relaxed);
            tell(&format!("{part} %: worker {} is replaced, and has ended", number + 1));
        }
        Ok(workers)
    }

    /// Waits until so many hundredths of all words have come, or all streams have ended.
    async fn reached(&self, part: u64) {
        let wanted = (STREAMS * WORDS) as u64 * part / 100;
        let mut looks = interval(LOOK_EVERY);
        while self.words.load(Ordering::Relaxed) < wanted && self.ended() < STREAMS {
            looks.tick().await;
        }
    }

    fn ended(&self) -> usize {
        self.complete.load(Ordering::Relaxed) + self.truncated.load(Ordering::Relaxed)
    }

    /// Reads one stream to its end, and looks at each word.
    async fn stream(&self, router: &PushRouter<Range, Word>, words: &[String]) {
        let context = Context::builder().timeout(STREAM_LIMIT).build();
        let request = SingleIn::with_context(Range { first: 0, count: WORDS }, context);
        let Ok(mut response) = router.generate(request).await else {
            self.truncated.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut next = 0;
        while let Some(Ok(word)) = response.next().await {
            self.words.fetch_add(1, Ordering::Relaxed);
            next = self.word(&word, next, words);
        }
        self.lost.fetch_add((WORDS - next.min(WORDS)) as u64, Ordering::Relaxed);
        self.moves.fetch_add(response.migrations().len(), Ordering::Relaxed);
        let is_complete = matches!(response.outcome(), None | Some(Outcome::Complete { .. }));
        let ended = if is_complete { &self.complete } else { &self.truncated };
        ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Judges a word where the one of position `next` was due. Returns which is due then.
    fn word(&self, word: &Word, next: usize, words: &[String]) -> usize {
        if word.word != words[word.position % words.len()] {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
        if word.position < next {
            self.doubled.fetch_add(1, Ordering::Relaxed);
            return next;
        }
        self.lost.fetch_add((word.position - next) as u64, Ordering::Relaxed);
        word.position + 1
    }

    /// True if every stream came whole.
    pub(crate) fn is_whole(&self) -> bool {
        let faults = [&self.lost, &self.doubled, &self.wrong];
        let replaced = self.replaced.load(Ordering::Relaxed) == WORKERS;
        self.complete.load(Ordering::Relaxed) == STREAMS
            && replaced
            && faults.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }

    /// The table, and what was done to the streams.
    pub(crate) fn report(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["streams", "complete", "truncated", "words", "lost", "doubled", "wrong"]);
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed).to_string();
        let words = |count: &AtomicU64| count.load(Ordering::Relaxed).to_string();
        table.add_row([
            STREAMS.to_string(),
            count(&self.complete),
            count(&self.truncated),
            words(&self.words),
            words(&self.lost),
            words(&self.doubled),
            words(&self.wrong),
        ]);
        let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
        let mut text: String = lines.collect();
        let (cut, replaced, moves) = (count(&self.cut), count(&self.replaced), count(&self.moves));
        text.push_str(&format!(
            "{cut} connections were cut, {replaced} workers replaced; streams moved to another worker \
             {moves} times.\n"
        ));
        text
    }
}

async fn appeared(client: &Client, count: usize) -> Result<(), Failure> {
    let waiting = async {
        let mut looks = interval(LOOK_EVERY);
        while client.instances().len() < count {
            looks.tick().await;
        }
    };
    let appeared = timeout(WORKER_LIMIT, waiting).await;
    appeared.map_err(|_| not_started(&format!("not all within {WORKER_LIMIT:?}")))
}

/// An address of loopback that is free now.
fn free_address() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn not_started(why: &str) -> Failure {
    Failure::new(Exit::SetUp, format!("the workers did not start: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_judged_by_its_place() {
        let words = ["a", "b", "c"].map(str::to_owned);
        let survival = Survival::default();
        let word = |position: usize, word: &str| Word { position, word: word.to_owned() };
        assert_eq!(survival.word(&word(0, "a"), 0, &words), 1);
        assert_eq!(survival.word(&word(3, "a"), 3, &words), 4, "the text begins anew");
        assert_eq!(survival.word(&word(2, "c"), 3, &words), 3);
        assert_eq!(survival.word(&word(5, "x"), 3, &words), 6);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = [&survival.doubled, &survival.lost, &survival.wrong].map(read);
        assert_eq!(counts, [1, 2, 1]);
        assert!(!survival.is_whole());
        assert!(survival.report().contains("0 connections were cut"), "{}", survival.report());
    }
}
