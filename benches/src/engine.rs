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

/// Flat out, one pass of so many is timed.
const TIMED_OF: u64 = 16;

/// Timed passes of an engine: several seconds of them, flat out. Later ones have no time.
pub(crate) const TIMED_PASSES: usize = 1 << (NUMBER_DIGITS * BITS);

/// What a timed item begins with; its number and its time follow. Text, because some peers carry
/// nothing else.
const STAMP: u8 = b'T';

/// Digits of five bits, in characters that JSON leaves as they are: `0` to `9`, `:` to `@`, `A` to
/// `O`.
const BITS: usize = 5;
const FIRST_DIGIT: u8 = b'0';
const NUMBER_DIGITS: usize = 3;

/// Nanoseconds of a clock of 45 bits, which comes round after 9 hours.
const TIME_DIGITS: usize = 9;

/// Shorter items have no time, and what needs one is not measured with them.
const STAMP_BYTES: usize = 1 + NUMBER_DIGITS + TIME_DIGITS;

fn write_digits(out: &mut [u8], number: u64) {
    for (index, digit) in out.iter_mut().rev().enumerate() {
        *digit = FIRST_DIGIT + (number >> (BITS * index)) as u8 % (1 << BITS);
    }
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.checked_sub(FIRST_DIGIT).filter(|digit| *digit < 1 << BITS)?;
        Some(number << BITS | u64::from(digit))
    })
}

/// An item of the timed pass with this number, which begins now; without number and time where it
/// has no room for them.
pub(crate) fn stamped(number: usize, bytes: usize) -> Bytes {
    let mut item = vec![b't'; bytes];
    if let Some((kind, digits)) = item.get_mut(..STAMP_BYTES).and_then(<[u8]>::split_first_mut) {
        *kind = STAMP;
        let (of_number, of_time) = digits.split_at_mut(NUMBER_DIGITS);
        write_digits(of_number, number as u64);
        write_digits(of_time, measure::shared_ns());
    }
    item.into()
}

/// Which timed pass an item belongs to, and nanoseconds since that began; `None` for an item
/// without a time.
pub(crate) fn stamp(item: &[u8]) -> Option<(usize, u64)> {
    let (&STAMP, digits) = item.get(..STAMP_BYTES)?.split_first()? else { return None };
    let (of_number, of_time) = digits.split_at(NUMBER_DIGITS);
    let since = measure::shared_ns().wrapping_sub(read_digits(of_time)?);
    Some((read_digits(of_number)?.try_into().ok()?, since % (1 << (TIME_DIGITS * BITS))))
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

    /// Starts the passes: one per `pace`, or one after the other, with items of so many bytes.
    /// Starting twice changes nothing.
    pub(crate) fn start(self: &Arc<Self>, pace: Option<Duration>, item_bytes: usize) {
        let mut running = self.running.lock();
        if running.is_none() {
            let stop = CancellationToken::new();
            // A pass asks more sockets than a task may between two yields, and it yields itself.
            let run = tokio::task::unconstrained(Arc::clone(self).run(pace, item_bytes));
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

    async fn run(self: Arc<Self>, pace: Option<Duration>, item_bytes: usize) {
        let plain = Bytes::from(vec![b't'; item_bytes]);
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
            let item = match usize::try_from(pass / timed_of) {
                Ok(number) if pass % timed_of == 0 && number < TIMED_PASSES => {
                    stamped(number, item_bytes)
                }
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
    fn a_timed_item_says_how_long_ago_its_pass_began() {
        for bytes in [STAMP_BYTES, 16, 64, 4096] {
            for expected in [0, 77, TIMED_PASSES - 1] {
                let before = measure::shared_ns();
                let item = stamped(expected, bytes);
                let (number, since) = stamp(&item).unwrap();
                assert_eq!((item.len(), number), (bytes, expected));
                assert!(since <= measure::shared_ns() - before, "{since}");
            }
        }
    }

    #[test]
    fn what_has_no_time_is_not_taken_for_one_that_has() {
        assert_eq!(stamp(&stamped(7, STAMP_BYTES - 1)), None);
        assert_eq!(stamp(&[b't'; 64]), None);
        assert_eq!(stamp(b"T123"), None);
        assert_eq!(stamp(b"T123 not digits"), None);
    }
}
