//! What an open stream costs while it says nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::StreamExt;

use crate::{Ask, Caller, Command, Control, Sample, Stats, measure};

/// Longest wait for the server to have seen all streams.
const PATIENCE: Duration = Duration::from_secs(20);

/// A short prompt, as the other workloads with small messages have.
const REQUEST_BYTES: usize = 128;

pub(super) async fn run<C: Caller>(
    caller: C,
    streams: usize,
    control: &mut dyn Control,
) -> Result<Sample> {
    ask_once(&caller).await?;
    let server_before = control.command(Command::Report).await?.resident_bytes;
    let client_before = measure::resident_bytes();
    let mut open = Vec::with_capacity(streams);
    let request = Ask::Park.body(REQUEST_BYTES);
    for _ in 0..streams {
        open.push(caller.open(request.clone()).await?);
    }
    let server = wait_for(control, |stats| stats.parked == streams).await?;
    // What the server said to each stream came before this answer.
    ask_once(&caller).await?;
    let client_after = measure::resident_bytes();
    ensure!(open.len() == streams);
    let each = |before: Option<u64>, after: Option<u64>| match (before, after) {
        (Some(before), Some(after)) => after.saturating_sub(before) as f64 / streams as f64,
        _ => f64::NAN,
    };
    let mut sample = Sample::default()
        .with("client_bytes", each(client_before, client_after))
        .with("server_bytes", each(server_before, server.resident_bytes));
    if let Some(connections) = caller.response_connections() {
        sample = sample.with("response_connections", connections as f64);
    }
    Ok(sample)
}

pub(super) async fn ask_once<C: Caller>(caller: &C) -> Result<()> {
    let mut response = caller.open(Ask::Echo.body(REQUEST_BYTES)).await?;
    while let Some(item) = response.next().await {
        item?;
    }
    Ok(())
}

/// Asks the server until it says so.
pub(super) async fn wait_for(
    control: &mut dyn Control,
    reached: impl Fn(&Stats) -> bool,
) -> Result<Stats> {
    let started = Instant::now();
    loop {
        let stats = control.command(Command::Report).await?;
        if reached(&stats) {
            return Ok(stats);
        }
        ensure!(started.elapsed() < PATIENCE, "the server has not seen all streams: {stats:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
