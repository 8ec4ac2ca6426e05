//! Streams with an item at an even pace each, as long generations have: how even is it on arrival?

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use tokio::{sync::watch, task::JoinSet};

use super::idle;
use crate::{
    Ask, Caller, Command, Control, Pace, Sample,
    measure::{self, latencies, quantile_us},
};

const REQUEST_BYTES: usize = 512;

pub(super) async fn run<C: Caller>(
    caller: C,
    streams: usize,
    (every, item_bytes): (Duration, u32),
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    idle::ask_once(&caller).await?;
    let ask = Ask::Paced { every_us: every.as_micros().try_into()?, item_bytes };
    let request = ask.body(REQUEST_BYTES);
    let (tell, told) = watch::channel(None);
    let mut consumers = JoinSet::new();
    for _ in 0..streams {
        consumers.spawn(gaps(caller.open(request.clone()).await?, told.clone()));
    }
    let begin = Instant::now() + pace.warm_up;
    tell.send_replace(Some(begin..begin + pace.measured));
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

/// When to count, once all streams are open.
type Period = Option<Range<Instant>>;

/// The times between the items that come in the period.
async fn gaps<I>(mut response: I, period: watch::Receiver<Period>) -> Result<Vec<Duration>>
where
    I: futures_core::Stream<Item = Result<bytes::Bytes>> + Unpin,
{
    let mut gaps = Vec::new();
    let mut before = None;
    loop {
        response.next().await.context("a stream ended")??;
        let now = Instant::now();
        let gap = before.replace(now).map(|before| now - before);
        match &*period.borrow() {
            Some(period) if now >= period.end => return Ok(gaps),
            Some(period) if period.contains(&now) => gaps.extend(gap),
            _ => {}
        }
    }
}
