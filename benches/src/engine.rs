//! The loop of an inference engine: one item on every live stream per pass.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::burst;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Sent, Sink, measure};

/// A token with its metadata.
pub(crate) const ITEM_BYTES: usize = 64;

/// Flat out, one pass of so many is timed.
const TIMED_OF: u64 = 16;

/// What a timed item begins with; its number and its time follow, in as many hexadecimal digits.
/// Text, because some peers carry nothing else.
const STAMP: u8 = b'T';
const NUMBER_DIGITS: usize = 8;
const TIME_DIGITS: usize = 16;

fn stamped(number: u64) -> Bytes {
    let now = measure::shared_ns();
    let mut item = format!("T{:0NUMBER_DIGITS$x}{now:0TIME_DIGITS$x}", number as u32).into_bytes();
    item.resize(ITEM_BYTES, b't');
    item.into()
}

/// Which timed pass an item belongs to, and when that began; `None` for an item without a time.
pub(crate) fn stamp(item: &[u8]) -> Option<(usize, u64)> {
    let (&STAMP, digits) = item.split_first()? else { return None };
    let hexadecimal = |from: usize, count: usize| {
        let digits = digits.get(from..from + count)?;
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let number = hexadecimal(0, NUMBER_DIGITS)?;
    Some((number.try_into().ok()?, hexadecimal(NUMBER_DIGITS, TIME_DIGITS)?))
}

/// The streams it feeds and how far it has come.
pub(crate) struct Engine<S> {
    lanes: Mutex<Vec<S>>,
    passes: AtomicU64,
    items: AtomicU64,
    running: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl<S> Default for Engine<S> {
    fn default() -> Self {
        Self {
            lanes: Mutex::default(),
            passes: AtomicU64::new(0),
            items: AtomicU64::new(0),
            running: Mutex::new(None),
        }
    }
}

impl<S: Sink> Engine<S> {
    pub(crate) fn add(&self, sink: S) {
        self.lanes.lock().push(sink);
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes.lock().len()
    }

    pub(crate) fn passes(&self) -> u64 {
        self.passes.load(Ordering::Relaxed)
    }

    pub(crate) fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }

    /// Starts the passes: one per `pace`, or one after the other. Starting twice changes nothing.
    pub(crate) fn start(self: &Arc<Self>, pace: Option<Duration>) {
        let mut running = self.running.lock();
        if running.is_none() {
            let stop = CancellationToken::new();
            // A pass asks more sockets than a task may between two yields, and it yields itself.
            let run = tokio::task::unconstrained(Arc::clone(self).run(pace));
            let until = stop.clone();
            let task = tokio::spawn(async move {
                until.run_until_cancelled_owned(run).await;
            });
            *running = Some((stop, task));
        }
    }

    /// Ends the passes and waits until the last is over.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().take();
        if let Some((stop, task)) = running {
            stop.cancel();
            // It cannot fail: it is not aborted and a panic has been reported.
            let _ = task.await;
        }
    }

    async fn run(self: Arc<Self>, pace: Option<Duration>) {
        let plain = Bytes::from(vec![b't'; ITEM_BYTES]);
        // Flat out, reading the clock for every item would be part of what is measured.
        let timed_of = if pace.is_some() { 1 } else { TIMED_OF };
        let mut ticks = pace.map(|pace| {
            let mut ticks = tokio::time::interval(pace);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        });
        let mut without_room = Vec::new();
        for pass in 0u64.. {
            match &mut ticks {
                Some(ticks) => {
                    ticks.tick().await;
                }
                None => tokio::task::yield_now().await,
            }
            let item = match pass % timed_of {
                0 => stamped(pass / timed_of),
                _ => plain.clone(),
            };
            self.pass(&item, &mut without_room);
            for lane in without_room.drain(..) {
                poll_fn(|cx| self.poll_lane(lane, cx)).await;
            }
        }
    }

    fn pass(&self, item: &Bytes, without_room: &mut Vec<usize>) {
        let mut lanes = self.lanes.lock();
        let mut sent = 0;
        burst(|| {
            for (index, lane) in lanes.iter_mut().enumerate() {
                match lane.try_send(item) {
                    Sent::Taken => sent += 1,
                    Sent::Full => without_room.push(index),
                    Sent::Closed => {}
                }
                lane.flush();
            }
        });
        self.items.fetch_add(sent, Ordering::Relaxed);
        if sent > 0 {
            self.passes.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll_lane(&self, lane: usize, cx: &mut std::task::Context<'_>) -> Poll<()> {
        match self.lanes.lock().get_mut(lane) {
            Some(lane) => lane.poll_ready(cx).map(|_| ()),
            None => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timed_item_says_when_its_pass_began() {
        let before = measure::shared_ns();
        let item = stamped(77);
        let (number, began) = stamp(&item).unwrap();
        assert_eq!((item.len(), number), (ITEM_BYTES, 77));
        assert!((before..=measure::shared_ns()).contains(&began));
        assert_eq!(stamp(&[b't'; ITEM_BYTES]), None);
        assert_eq!(stamp(b"T123"), None);
    }
}
