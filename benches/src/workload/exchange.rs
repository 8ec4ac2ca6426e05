//! Callers that ask, take the whole answer, and ask again: unary calls and short streams.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use crate::{
    Ask, Caller, Command, Control, Pace, PoolCount, Sample,
    measure::{self, Latencies, latencies, quantile_us},
};

const STREAM_REQUEST_BYTES: usize = 512;

/// Exchanges of each caller, on average, before a measurement ends: with fewer, what is under way
/// at its begin and at its end would decide what comes out.
const LEAST_EXCHANGES: usize = 2;

/// Longest that a measurement goes on for them.
const PATIENCE: Duration = Duration::from_secs(10);

/// From look to look whether there are enough.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Exchanges of `bytes` each way.
pub(super) async fn unary<C: Caller>(
    caller: C,
    callers: usize,
    bytes: usize,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    let load = Load { request: Ask::Echo.body(bytes), items: 1, item_bytes: bytes };
    let done = drive(caller, load, callers, pace, control).await?;
    let per_second = done.exchanges() / done.seconds;
    let moved_mib = 2.0 * bytes as f64 / f64::from(1 << 20);
    Ok(done
        .sharing()
        .with("p50_us", quantile_us(&done.whole, 0.5))
        .with("p99_us", quantile_us(&done.whole, 0.99))
        .with("per_second", per_second)
        .with("mib_per_second", per_second * moved_mib)
        .with("cpu_us", done.cpu_ns / done.exchanges() / 1e3))
}

/// Streams of so many items, each of so many bytes.
pub(super) async fn stream<C: Caller>(
    caller: C,
    callers: usize,
    (items, item_bytes): (u32, u32),
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    let request = Ask::Stream { items, item_bytes }.body(STREAM_REQUEST_BYTES);
    let load = Load { request, items: u64::from(items), item_bytes: item_bytes as usize };
    let done = drive(caller, load, callers, pace, control).await?;
    let received = done.exchanges() * f64::from(items);
    Ok(done
        .sharing()
        .with("items_per_second", received / done.seconds)
        .with("first_p50_us", quantile_us(&done.first, 0.5))
        .with("first_p99_us", quantile_us(&done.first, 0.99))
        .with("cpu_ns", done.cpu_ns / received))
}

/// What is asked and what must come.
#[derive(Clone)]
struct Load {
    request: Bytes,
    items: u64,
    item_bytes: usize,
}

/// What was counted between the end of the warm-up and the end.
struct Done {
    /// From before the request until the first item.
    first: Latencies,
    /// Until the end of the response.
    whole: Latencies,
    seconds: f64,
    /// Both sides.
    cpu_ns: f64,
    /// As the server counted it since its start.
    pool: Option<PoolCount>,
    /// At the end, under load.
    response_connections: Option<usize>,
}

impl Done {
    fn exchanges(&self) -> f64 {
        self.whole.len() as f64
    }

    /// A sample with how connections for responses were used, where there are such.
    fn sharing(&self) -> Sample {
        let mut sample = Sample::default();
        if let Some(pool) = self.pool {
            sample = sample.with("pool_reuse_percent", pool.reuse_percent());
        }
        if let Some(connections) = self.response_connections {
            sample = sample.with("response_connections", connections as f64);
        }
        sample
    }
}

async fn drive<C: Caller>(
    caller: C,
    load: Load,
    callers: usize,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Done> {
    // The connection is made before the clock starts.
    exchange(&caller, &load).await?;
    let begin = Instant::now() + pace.warm_up;
    let end = Arc::new(OnceLock::new());
    let mut tasks = JoinSet::new();
    let mut counters = Vec::with_capacity(callers);
    for _ in 0..callers {
        // A counter of its own, so that callers on different cores do not share a line.
        let counter = Arc::new(AtomicUsize::new(0));
        let period = Period { begin, end: Arc::clone(&end), ended: Arc::clone(&counter) };
        tasks.spawn(call_again(caller.clone(), load.clone(), period));
        counters.push(counter);
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu_before = control.command(Command::Report).await?.cpu_ns + measure::cpu_ns();
    tokio::time::sleep_until((begin + pace.measured).into()).await;
    let ended = || counters.iter().map(|it| it.load(Ordering::Relaxed)).sum::<usize>();
    while ended() < LEAST_EXCHANGES * callers && begin.elapsed() < pace.measured + PATIENCE {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let seconds = end.get_or_init(Instant::now).duration_since(begin).as_secs_f64();
    let response_connections = caller.response_connections();
    let server = control.command(Command::Report).await?;
    let cpu_ns = (server.cpu_ns + measure::cpu_ns()).saturating_sub(cpu_before) as f64;
    let (mut first, mut whole) = (latencies()?, latencies()?);
    while let Some(task) = tasks.join_next().await {
        let (task_first, task_whole) = task??;
        first.add(task_first)?;
        whole.add(task_whole)?;
    }
    ensure!(!whole.is_empty(), "no exchange ended within {seconds} s");
    Ok(Done { first, whole, seconds, cpu_ns, pool: server.pool, response_connections })
}

/// What ends in it counts.
struct Period {
    begin: Instant,
    /// Once it is known.
    end: Arc<OnceLock<Instant>>,
    /// Exchanges of one caller so far.
    ended: Arc<AtomicUsize>,
}

/// One caller.
async fn call_again<C: Caller>(
    caller: C,
    load: Load,
    period: Period,
) -> Result<(Latencies, Latencies)> {
    let (mut first, mut whole) = (latencies()?, latencies()?);
    loop {
        let asked = Instant::now();
        let first_came = exchange(&caller, &load).await?;
        let ended = Instant::now();
        if period.end.get().is_some_and(|end| ended > *end) {
            return Ok((first, whole));
        }
        if ended >= period.begin {
            first.record(nanoseconds(first_came - asked))?;
            whole.record(nanoseconds(ended - asked))?;
            period.ended.store(whole.len() as usize, Ordering::Relaxed);
        }
    }
}

/// One request and its whole response; when its first item came.
async fn exchange<C: Caller>(caller: &C, load: &Load) -> Result<Instant> {
    let mut response = caller.open(load.request.clone()).await?;
    let item = response.next().await.context("a response without an item")??;
    let first_came = Instant::now();
    ensure!(item.len() == load.item_bytes, "an item of {} bytes", item.len());
    let mut items = 1;
    while let Some(item) = response.next().await {
        item?;
        items += 1;
    }
    ensure!(items == load.items, "{items} items came instead of {}", load.items);
    Ok(first_came)
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}
