//! How long it takes from the start of a pass until its last item has come.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::{
    engine,
    measure::{self, Latencies},
};

/// Timed passes that are kept: several seconds of them, flat out. Later ones are not timed.
const KEPT: usize = 1 << 15;

/// The timed passes of one engine.
pub(super) struct PassTimes {
    /// Nanoseconds from the start of each pass to its last item so far.
    last: Box<[AtomicU64]>,
}

impl Default for PassTimes {
    fn default() -> Self {
        Self { last: (0..KEPT).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl PassTimes {
    /// Takes in an item as it comes.
    pub(super) fn arrived(&self, item: &[u8]) {
        let Some((number, began)) = engine::stamp(item) else { return };
        if let Some(last) = self.last.get(number) {
            last.fetch_max(measure::shared_ns().saturating_sub(began), Ordering::Relaxed);
        }
    }

    /// One more than the number of the newest pass of which an item has come.
    pub(super) fn seen(&self) -> usize {
        let newest = self.last.iter().rposition(|last| last.load(Ordering::Relaxed) > 0);
        newest.map_or(0, |newest| newest + 1)
    }

    /// Adds all passes from the one with this number on, but for the newest, of which items may
    /// still be under way.
    pub(super) fn add_since(&self, number: usize, times: &mut Latencies) -> Result<()> {
        let whole = self.seen().saturating_sub(1);
        for last in self.last.get(number..whole).unwrap_or_default() {
            match last.load(Ordering::Relaxed) {
                // No stream had room for an item of this pass.
                0 => {}
                last => times.record(last)?,
            }
        }
        Ok(())
    }
}
