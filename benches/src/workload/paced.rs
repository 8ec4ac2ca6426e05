//! Streams with an item at an even pace each, as long generations have: how even is it on arrival?

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::idle;
use crate::{
    Ask, Caller, Command, Control, Pace, Sample,
    measure::{self, latencies, quantile_us},
};

const REQUEST_BYTES: usize = 512;

pub(super) async fn run<C: Caller>(
    caller: C,
    streams: usize,
    every: Duration,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    idle::ask_once(&caller).await?;
    let request = Ask::Paced { every_us: every.as_micros().try_into()? }.body(REQUEST_BYTES);
    let mut open = Vec::with_capacity(streams);
    for _ in 0..streams {
        open.push(caller.open(request.clone()).await?);
    }
    let begin = Instant::now() + pace.warm_up;
    let mut consumers = JoinSet::new();
    for response in open {
        consumers.spawn(gaps(response, begin, begin + pace.measured));
    }
    tokio::time::sleep_until(begin.into()).await;
    let cpu_before = control.command(Command::Report).await?.cpu_ns + measure::cpu_ns();
    tokio::time::sleep_until((begin + pace.measured).into()).await;
    let cpu_after = control.command(Command::Report).await?.cpu_ns + measure::cpu_ns();
    let mut deviations = latencies()?;
    while let Some(gaps) = consumers.join_next().await {
        for gap in gaps?? {
            deviations.record(gap.abs_diff(every).as_nanos().try_into()?)?;
        }
    }
    let items = deviations.len() as f64;
    ensure!(items > 0.0, "no items came through");
    let expected = pace.measured.as_secs_f64() / every.as_secs_f64() * streams as f64;
    Ok(Sample::default()
        .with("deviation_p50_us", quantile_us(&deviations, 0.5))
        .with("deviation_p99_us", quantile_us(&deviations, 0.99))
        .with("cpu_us", cpu_after.saturating_sub(cpu_before) as f64 / items / 1e3)
        .with("items_percent", 100.0 * items / expected))
}

/// The times between items that came between `begin` and `end`.
async fn gaps<I>(mut response: I, begin: Instant, end: Instant) -> Result<Vec<Duration>>
where
    I: futures_core::Stream<Item = Result<bytes::Bytes>> + Unpin,
{
    let mut gaps = Vec::new();
    let mut before = None;
    loop {
        let item = match tokio::time::timeout_at(end.into(), response.next()).await {
            Ok(item) => item,
            Err(_) => return Ok(gaps),
        };
        item.context("a stream ended")??;
        let now = Instant::now();
        if let Some(before) = before.replace(now).filter(|_| now >= begin) {
            gaps.push(now - before);
        }
    }
}
