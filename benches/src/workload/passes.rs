//! The forward pass: engines that emit one item on each of many live streams per step.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::{Lanes, Received, Shape, idle, pass_times};
use crate::{
    Command, Control, Pace, Sample, Stats,
    measure::{latencies, quantile_us},
};

/// All consumers of the passes, wherever they are.
pub(crate) trait Consumers: Send {
    /// What has come so far in each process, as [`Lanes::received`] tells it.
    fn received(&mut self, since: &[usize]) -> impl Future<Output = Result<Vec<Received>>> + Send;
}

/// Those of this process alone.
pub(super) struct Here(pub(super) Box<dyn Lanes>);

impl Consumers for Here {
    async fn received(&mut self, since: &[usize]) -> Result<Vec<Received>> {
        Ok(vec![self.0.received(since)?])
    }
}

/// Measures passes of this shape whose streams are open.
pub(crate) async fn run(
    consumers: &mut impl Consumers,
    shape: &Shape,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    let &Shape::Passes { streams, every, item_bytes, .. } = shape else {
        bail!("not a forward pass: {shape:?}")
    };
    idle::wait_for(control, |stats| stats.lanes == streams).await?;
    let every_us = every.map(|every| every.as_micros().try_into()).transpose()?;
    control.command(Command::StartPasses { every_us, item_bytes }).await?;
    tokio::time::sleep(pace.warm_up).await;
    let before = Moment::take(consumers, &[], control).await?;
    let timed_before = before.timed();
    tokio::time::sleep(pace.measured).await;
    let after = Moment::take(consumers, &timed_before, control).await?;
    control.command(Command::StopPasses).await?;
    let mut last = latencies()?;
    for engine in 0..after.engines() {
        let seen: Vec<_> = after.last_ns(engine).collect();
        pass_times::combine(&seen, &mut last)?;
    }
    Ok(sample(&before, &after)?
        .with("last_p50_us", quantile_us(&last, 0.5))
        .with("last_p99_us", quantile_us(&last, 0.99)))
}

/// The state of all counters at one time.
struct Moment {
    at: Instant,
    received: Vec<Received>,
    server: Stats,
}

impl Moment {
    async fn take(
        consumers: &mut impl Consumers,
        since: &[usize],
        control: &mut dyn Control,
    ) -> Result<Self> {
        let server = control.command(Command::Report).await?;
        let at = Instant::now();
        Ok(Self { at, received: consumers.received(since).await?, server })
    }

    fn items(&self) -> u64 {
        self.received.iter().map(|received| received.items).sum()
    }

    fn client_cpu_ns(&self) -> u64 {
        self.received.iter().map(|received| received.cpu_ns).sum()
    }

    fn client_writes(&self) -> Option<u64> {
        self.received.iter().map(|received| received.writes).sum()
    }

    fn engines(&self) -> usize {
        self.received.iter().map(|received| received.last_ns.len()).max().unwrap_or(0)
    }

    /// What each process saw of the passes of an engine.
    fn last_ns(&self, engine: usize) -> impl Iterator<Item = &[u64]> {
        self.received.iter().map(move |received| {
            received.last_ns.get(engine).map(Vec::as_slice).unwrap_or_default()
        })
    }

    /// One more than the number of the newest pass that anybody has seen, by engine, if this
    /// moment was asked for all passes.
    fn timed(&self) -> Vec<usize> {
        let seen = |engine| self.last_ns(engine).map(<[u64]>::len).max().unwrap_or(0);
        (0..self.engines()).map(seen).collect()
    }
}

fn sample(before: &Moment, after: &Moment) -> Result<Sample> {
    let received = (after.items() - before.items()) as f64;
    let sent = (after.server.items - before.server.items) as f64;
    let passes = (after.server.passes - before.server.passes) as f64;
    ensure!(received > 0.0 && passes > 0.0, "no items came through");
    let cpu_ns = (after.client_cpu_ns() - before.client_cpu_ns())
        + (after.server.cpu_ns - before.server.cpu_ns);
    let mut sample = Sample::default()
        .with("items_per_second", received / (after.at - before.at).as_secs_f64())
        .with("cpu_ns", cpu_ns as f64 / received);
    if let (Some(before), Some(after)) = (before.server.writes, after.server.writes) {
        let writes = (after - before) as f64;
        sample =
            sample.with("writes_per_pass", writes / passes).with("items_per_write", sent / writes);
    }
    if let (Some(before), Some(after)) = (before.client_writes(), after.client_writes()) {
        sample = sample.with("client_writes_per_pass", (after - before) as f64 / passes);
    }
    Ok(sample)
}
