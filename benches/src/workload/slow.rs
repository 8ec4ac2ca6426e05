//! One reader that is slow: what does it cost those that are fast?

use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt;

use super::exchange;
use crate::{Ask, Caller, Control, Pace, Sample};

const REQUEST_BYTES: usize = 512;

/// Items of each fast stream, as the workload of short streams has them.
const FAST_ITEMS: u32 = 256;

/// More than the slow reader takes in any measurement, so that its stream is never at its end.
const SLOW_ITEMS: u32 = 4_000_000;

/// From item to item of the slow reader.
const SLOW_EVERY: Duration = Duration::from_millis(10);

pub(super) async fn run<C: Caller>(
    caller: C,
    callers: usize,
    item_bytes: u32,
    pace: Pace,
    control: &mut dyn Control,
) -> Result<Sample> {
    let pace = Pace { measured: pace.measured / 2, ..pace };
    let rate = |sample: &Sample| sample.get("items_per_second").unwrap_or(f64::NAN);
    let fast = (FAST_ITEMS, item_bytes);
    let alone = exchange::stream(caller.clone(), callers, fast, pace, control).await?;
    let ask = Ask::Stream { items: SLOW_ITEMS, item_bytes };
    let mut response = caller.open(ask.body(REQUEST_BYTES)).await?;
    let reader = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SLOW_EVERY);
        while response.next().await.is_some_and(|item| item.is_ok()) {
            ticks.tick().await;
        }
    });
    // With its last clone a caller may end its connections, and the slow stream with them.
    let beside = exchange::stream(caller.clone(), callers, fast, pace, control).await?;
    anyhow::ensure!(!reader.is_finished(), "the slow stream ended");
    reader.abort();
    drop(caller);
    Ok(Sample::default()
        .with("kept_percent", 100.0 * rate(&beside) / rate(&alone))
        .with("items_per_second", rate(&beside)))
}
