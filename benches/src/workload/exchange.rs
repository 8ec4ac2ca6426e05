//! Callers that ask, take the whole answer, and ask again: unary calls and short streams.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use crate::{
    Ask, Caller, Command, Control, Pace, PoolCount, Sample, engine,
    measure::{self, Latencies, latencies, quantile_us},
};

const STREAM_REQUEST_BYTES: usize = 512;

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

/// Streams of `items`.
pub(super) async fn stream<C: Caller>(
    caller: C,
    callers: usize,
    items: u32,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    let ask = Ask::Stream { items, item_bytes: engine::ITEM_BYTES as u32 };
    let request = ask.body(STREAM_REQUEST_BYTES);
    let load = Load { request, items: u64::from(items), item_bytes: engine::ITEM_BYTES };
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
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        tasks.spawn(call_again(caller.clone(), load.clone(), begin, begin + pace.measured));
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu_before = control.command(Command::Report).await?.cpu_ns + measure::cpu_ns();
    tokio::time::sleep_until((begin + pace.measured).into()).await;
    let response_connections = caller.response_connections();
    let server = control.command(Command::Report).await?;
    let cpu_ns = (server.cpu_ns + measure::cpu_ns()).saturating_sub(cpu_before) as f64;
    let (mut first, mut whole) = (latencies()?, latencies()?);
    while let Some(task) = tasks.join_next().await {
        let (task_first, task_whole) = task??;
        first.add(task_first)?;
        whole.add(task_whole)?;
    }
    ensure!(!whole.is_empty(), "no exchange ended within {:?}", pace.measured);
    let (seconds, pool) = (pace.measured.as_secs_f64(), server.pool);
    Ok(Done { first, whole, seconds, cpu_ns, pool, response_connections })
}

/// One caller. What ends between `begin` and `end` counts.
async fn call_again<C: Caller>(
    caller: C,
    load: Load,
    begin: Instant,
    end: Instant,
) -> Result<(Latencies, Latencies)> {
    let (mut first, mut whole) = (latencies()?, latencies()?);
    loop {
        let asked = Instant::now();
        let first_came = exchange(&caller, &load).await?;
        let ended = Instant::now();
        if ended > end {
            return Ok((first, whole));
        }
        if ended >= begin {
            first.record(nanoseconds(first_came - asked))?;
            whole.record(nanoseconds(ended - asked))?;
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
