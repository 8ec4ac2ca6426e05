//! The forward pass: an engine that emits one item on each of many live streams per step.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::{idle, pass_times::PassTimes};
use crate::{
    Ask, Caller, Command, Control, Pace, Sample, Stats,
    measure::{self, latencies, quantile_us},
};

const REQUEST_BYTES: usize = 512;

pub(super) async fn run<C: Caller>(
    callers: &[(usize, C)],
    streams: usize,
    every: Option<Duration>,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    let mut consumers = JoinSet::new();
    let mut counters = Vec::with_capacity(streams);
    let engines = callers.iter().map(|(engine, _)| engine + 1).max().unwrap_or(0);
    let times: Vec<_> = (0..engines).map(|_| Arc::new(PassTimes::default())).collect();
    let request = Ask::Lane.body(REQUEST_BYTES);
    for (engine, caller) in callers.iter().cycle().take(streams) {
        let response = caller.open(request.clone()).await?;
        // A counter of its own, so that consumers on different cores do not share a line.
        let counter = Arc::new(AtomicU64::new(0));
        consumers.spawn(consume(response, Arc::clone(&counter), Arc::clone(&times[*engine])));
        counters.push(counter);
    }
    idle::wait_for(control, |stats| stats.lanes == streams).await?;
    let every_us = every.map(|every| every.as_micros().try_into()).transpose()?;
    control.command(Command::StartPasses { every_us }).await?;
    tokio::time::sleep(pace.warm_up).await;
    let before = Moment::take(callers, &counters, control).await?;
    let timed_before: Vec<_> = times.iter().map(|times| times.seen()).collect();
    tokio::time::sleep(pace.measured).await;
    let after = Moment::take(callers, &counters, control).await?;
    let mut last = latencies()?;
    for (times, before) in times.iter().zip(timed_before) {
        times.add_since(before, &mut last)?;
    }
    control.command(Command::StopPasses).await?;
    ensure!(consumers.try_join_next().is_none(), "a stream ended during the passes");
    Ok(sample(&before, &after)?
        .with("last_p50_us", quantile_us(&last, 0.5))
        .with("last_p99_us", quantile_us(&last, 0.99)))
}

async fn consume<I>(mut response: I, counter: Arc<AtomicU64>, times: Arc<PassTimes>) -> Result<()>
where
    I: futures_core::Stream<Item = Result<bytes::Bytes>> + Unpin,
{
    while let Some(item) = response.next().await {
        times.arrived(&item?);
        counter.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The state of all counters at one time.
struct Moment {
    at: Instant,
    received: u64,
    client_cpu_ns: u64,
    client_writes: Option<u64>,
    server: Stats,
}

impl Moment {
    async fn take<C: Caller>(
        callers: &[(usize, C)],
        counters: &[Arc<AtomicU64>],
        control: &mut dyn Control,
    ) -> Result<Self> {
        let server = control.command(Command::Report).await?;
        Ok(Self {
            at: Instant::now(),
            received: counters.iter().map(|counter| counter.load(Ordering::Relaxed)).sum(),
            client_cpu_ns: measure::cpu_ns(),
            client_writes: callers.iter().map(|(_, caller)| caller.writes()).sum(),
            server,
        })
    }
}

fn sample(before: &Moment, after: &Moment) -> Result<Sample> {
    let received = (after.received - before.received) as f64;
    let sent = (after.server.items - before.server.items) as f64;
    let passes = (after.server.passes - before.server.passes) as f64;
    ensure!(received > 0.0 && passes > 0.0, "no items came through");
    let cpu_ns =
        (after.client_cpu_ns - before.client_cpu_ns) + (after.server.cpu_ns - before.server.cpu_ns);
    let mut sample = Sample::default()
        .with("items_per_second", received / (after.at - before.at).as_secs_f64())
        .with("cpu_ns", cpu_ns as f64 / received);
    if let (Some(before), Some(after)) = (before.server.writes, after.server.writes) {
        let writes = (after - before) as f64;
        sample =
            sample.with("writes_per_pass", writes / passes).with("items_per_write", sent / writes);
    }
    if let (Some(before), Some(after)) = (before.client_writes, after.client_writes) {
        sample = sample.with("client_writes_per_pass", (after - before) as f64 / passes);
    }
    Ok(sample)
}
