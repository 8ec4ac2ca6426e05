//! What a cut costs a stream, and how soon a cancel arrives: with a live connection in each case, and
//! through the interface that services use.
//!
//! Worker and caller are processes of their own. What is measured from one to the other is read from
//! the host's monotonic clock, which all processes share.

mod cancels;
mod cuts;
mod server;

use std::{fmt::Write, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use sinew::{Config, DiscoverySource, PushRouter, RouterMode, Runtime};
use sinew_testkit::Cut;

pub(crate) use self::server::{ServeOptions, serve};
use crate::machine::{LoadWatch, Machine};

/// Streams that live on the connection, in the two shapes of each measurement.
const FEW: usize = 1;
const MANY: usize = 1_000;

/// How long the machine is watched before the run: is something else going on?
const QUIET: Duration = Duration::from_secs(2);

/// How long a caller waits for discovery to show the worker.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// The time without items after a cut, and from a cancel to the handler.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Cuts of each kind, with one stream; a tenth of it with 1,000
    #[arg(long, default_value_t = 500)]
    cuts: usize,
    /// Cancels of each kind
    #[arg(long, default_value_t = 500)]
    cancels: usize,
}

/// Times that were measured, and what they must keep below.
pub(crate) struct Row {
    what: String,
    events: usize,
    millis: Vec<f64>,
    /// Milliseconds for the median and the 99th percentile.
    targets: (Option<f64>, f64),
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    let machine = Machine::look();
    let watch = LoadWatch::start(QUIET);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rows = runtime.block_on(async {
        let mut rows = Vec::new();
        for streams in [FEW, MANY] {
            let cuts = if streams == FEW { options.cuts } else { options.cuts.div_ceil(10) };
            for how in [Cut::Fin, Cut::Reset] {
                rows.push(cuts::measure(streams, cuts, how).await?);
            }
        }
        for streams in [FEW, MANY] {
            rows.extend(cancels::measure(streams, options.cancels).await?);
        }
        anyhow::Ok(rows)
    })?;
    let load = watch.end();
    println!("{}", table(&rows));
    println!(
        "{}, commit {}; {}, {} hardware threads, {}; {}",
        machine.date,
        machine.revision,
        machine.processor,
        machine.cpus,
        machine.system,
        load.sentence()
    );
    Ok(())
}

/// As it stands in docs/benchmarks.md.
fn table(rows: &[Row]) -> String {
    let mut text = "| measure | events | times | p50 | p99 | largest | target | |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for Row { what, events, millis, targets } in rows {
        let mut sorted = millis.clone();
        sorted.sort_by(f64::total_cmp);
        let (p50, p99) = (quantile(&sorted, 0.50), quantile(&sorted, 0.99));
        let largest = sorted.last().copied().unwrap_or(f64::NAN);
        let is_met = targets.0.is_none_or(|most| p50 < most) && p99 < targets.1;
        let median = targets.0.map_or_else(String::new, |most| format!("p50 < {most} ms, "));
        let verdict = if is_met { "met" } else { "**missed**" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {what} | {events} | {} | {p50:.2} ms | {p99:.2} ms | {largest:.2} ms | {median}p99 < {} \
             ms | {verdict} |",
            sorted.len(),
            targets.1
        );
    }
    text
}

/// The smallest value that this part of all values does not exceed.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds of the clock that all processes of the host share.
fn nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn millis_since(nanos_then: u64, nanos_now: u64) -> f64 {
    nanos_now.saturating_sub(nanos_then) as f64 / 1e6
}

/// What both ends have in common.
fn settings(config: &mut Config) {
    config.unix = false;
    config.max_in_flight = 4 * MANY;
}

/// A caller of an endpoint of the worker whose discovery is in this folder.
async fn router(
    folder: &std::path::Path,
    endpoint: &str,
) -> Result<(Runtime, PushRouter<bytes::Bytes, bytes::Bytes>)> {
    let source = DiscoverySource::File(PathBuf::from(folder));
    let runtime = Runtime::builder().discovery(source).configure(settings).build().await?;
    let client = runtime.client(endpoint.parse()?);
    client.wait_for_instances(FOUND_WITHIN).await.context("finding the worker")?;
    Ok((runtime, PushRouter::from_client(client, RouterMode::RoundRobin).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<_> = (1..=200).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99)), (100.0, 198.0));
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_row_says_whether_it_meets_its_target() {
        let row = |slow| Row {
            what: "gap".to_owned(),
            events: 2,
            millis: vec![1.0, slow],
            targets: (Some(5.0), 20.0),
        };
        let text = table(&[row(19.0), row(21.0)]);
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert!(lines[0].ends_with("| p50 < 5 ms, p99 < 20 ms | met |"), "{}", lines[0]);
        assert!(lines[1].ends_with("| **missed** |"), "{}", lines[1]);
    }
}
