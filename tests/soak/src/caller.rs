//! A caller: opens streams, checks each item, and reports once a second on standard output.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, future::join_all};
use serde::{Deserialize, Serialize};
use sinew::{DiscoverySource, EndpointName, Error, Outcome, PushRouter, RouterMode, Runtime};
use tokio::time;

use crate::{
    check::{Checker, Faults},
    content::Ask,
    forced::Forced,
    worker::settings,
};

/// How often a request that certainly did not run is sent again: a connection that is cut every few
/// milliseconds is often cut before a request has left.
const SENT_AGAIN: u64 = 1_000;

/// How long the workers may take to be seen.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The folder of discovery
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    endpoint: EndpointName,
    /// The number of the first stream
    #[arg(long)]
    first: u64,
    #[arg(long)]
    streams: u64,
    #[arg(long)]
    items: u64,
    #[arg(long)]
    pace_micros: u64,
    #[arg(long)]
    seed: u64,
}

/// What a caller reports: the last line of its output is the sum of the run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) items: u64,
    /// Streams that have ended.
    pub(crate) ended: u64,
    /// Those of them that ended as truncated.
    pub(crate) truncated: u64,
    /// Requests that were sent again, none of which had run.
    pub(crate) sent_again: u64,
    /// Moves of streams to other workers.
    pub(crate) moves: u64,
    /// How many streams each forced move has moved to another transport.
    pub(crate) forced: Vec<u64>,
    /// The longest time that any stream was without an item, in milliseconds.
    pub(crate) longest_wait_millis: u64,
    pub(crate) faults: Faults,
    /// How streams ended that are not complete; the first few.
    pub(crate) endings: Vec<String>,
    /// All streams have ended.
    pub(crate) is_over: bool,
}

/// What the streams of the process count together.
#[derive(Default)]
pub(crate) struct Counts {
    items: AtomicU64,
    ended: AtomicU64,
    truncated: AtomicU64,
    sent_again: AtomicU64,
    moves: AtomicU64,
    forced: Forced,
    longest_wait_millis: AtomicU64,
}

impl Counts {
    pub(crate) fn told(&self) -> Told {
        Told {
            items: self.items.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Relaxed),
            truncated: self.truncated.load(Ordering::Relaxed),
            sent_again: self.sent_again.load(Ordering::Relaxed),
            moves: self.moves.load(Ordering::Relaxed),
            forced: self.forced.counts(),
            longest_wait_millis: self.longest_wait_millis.load(Ordering::Relaxed),
            ..Told::default()
        }
    }
}

/// A router of the endpoint, once there is an instance.
pub(crate) async fn router(
    folder: &Path,
    endpoint: &EndpointName,
) -> Result<(Runtime, PushRouter<Bytes, Bytes>)> {
    let source = DiscoverySource::File(folder.to_owned());
    let runtime = Runtime::builder().discovery(source).configure(|config| {
        settings(config);
        // It reaches workers over both.
        config.unix = true;
    });
    let runtime = runtime.build().await?;
    let client = runtime.client(endpoint.clone());
    client.wait_for_instances(FOUND_WITHIN).await?;
    let router = PushRouter::from_client(client, RouterMode::RoundRobin).await?;
    Ok((runtime, router))
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let (runtime, router) = router(&options.folder, &options.endpoint).await?;
    let counts = Arc::new(Counts::default());
    let reporting = tokio::spawn(report(Arc::clone(&counts)));
    let following = tokio::spawn({
        let (counts, runtime) = (Arc::clone(&counts), runtime.clone());
        let client = runtime.client(options.endpoint.clone());
        async move { counts.forced.follow(&runtime, &client).await }
    });
    let streams = (options.first..options.first + options.streams).map(|stream| {
        let Options { seed, items, pace_micros, .. } = *options;
        one(&router, Ask { stream, seed, items, pace_micros }, SENT_AGAIN, &counts)
    });
    let ended = join_all(streams).await;
    reporting.abort();
    following.abort();
    let mut told = Told { is_over: true, ..counts.told() };
    ended.into_iter().for_each(|one| told.add(one));
    println!("{}", serde_json::to_string(&told)?);
    runtime.shutdown(Duration::from_secs(5)).await;
    if !told.faults.is_none() {
        bail!("{:?}", told.faults);
    }
    Ok(())
}

/// The faults of a stream, and how it ended if that is not complete.
pub(crate) type Ended = (Faults, Option<String>);

impl Told {
    pub(crate) fn add(&mut self, (faults, ending): Ended) {
        self.faults += faults;
        self.endings.extend(ending.filter(|_| self.endings.len() < 10));
    }
}

pub(crate) async fn report(counts: Arc<Counts>) {
    let mut ticks = time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        if let Ok(line) = serde_json::to_string(&counts.told()) {
            println!("{line}");
        }
    }
}

/// One stream to its end. A request that certainly did not run is sent again, `tries` times in all.
pub(crate) async fn one(
    router: &PushRouter<Bytes, Bytes>,
    ask: Ask,
    tries: u64,
    counts: &Counts,
) -> Ended {
    let body = Bytes::from(serde_json::to_vec(&ask).unwrap_or_default());
    let mut checker = Checker::new(ask);
    for left in (0..tries).rev() {
        let mut stream = match router.generate(body.clone()).await {
            Ok(stream) => stream,
            Err(error) if left > 0 && error.is_safe_to_resend() => {
                counts.sent_again.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Err(error) => {
                counts.ended.fetch_add(1, Ordering::Relaxed);
                return (checker.end(None), Some(error.to_string()));
            }
        };
        let mut failure = None;
        let mut last = Instant::now();
        while let Some(item) = stream.next().await {
            match item {
                Ok(item) => {
                    checker.item(&item);
                    counts.items.fetch_add(1, Ordering::Relaxed);
                    let waited = last.elapsed().as_millis() as u64;
                    counts.longest_wait_millis.fetch_max(waited, Ordering::Relaxed);
                    last = Instant::now();
                }
                Err(error) => failure = Some(error),
            }
        }
        counts.moves.fetch_add(stream.migrations().len() as u64, Ordering::Relaxed);
        let is_resent = |error: Error| stream.received() == 0 && error.is_safe_to_resend();
        if left > 0 && failure.is_some_and(is_resent) {
            counts.sent_again.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        counts.ended.fetch_add(1, Ordering::Relaxed);
        return match stream.outcome() {
            Some(Outcome::Complete { items }) => (checker.end(Some(*items)), None),
            outcome => {
                let is_truncated = matches!(outcome, Some(Outcome::Truncated { .. }));
                counts.truncated.fetch_add(u64::from(is_truncated), Ordering::Relaxed);
                (checker.end(None), Some(format!("stream {}: {outcome:?}", ask.stream)))
            }
        };
    }
    (checker.end(None), Some(format!("stream {}: never begun", ask.stream)))
}
