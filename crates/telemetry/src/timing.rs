//! The clock is read only when somebody collects what it measures.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use sinew_plane::clock;

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Lets handles made from now on measure durations. `Metrics::install` does it by itself; a
/// program with a recorder of its own calls it behind the installation of that recorder.
///
/// Counters and gauges need no switch. Durations have one because the `metrics` crate cannot say
/// whether anyone records, and two clock reads per request are not free.
pub fn enable_timing() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Whether handles made now measure durations.
pub fn is_timing_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// The beginning of a duration, or nothing when nobody wants to know it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stopwatch(Option<Instant>);

impl Stopwatch {
    /// Reads the clock if `timed`.
    pub(crate) fn start(timed: bool) -> Self {
        Self(timed.then(clock::now))
    }

    /// Records the time since the start.
    pub(crate) fn record(self, histogram: &metrics::Histogram) {
        if let Some(start) = self.0 {
            histogram.record(clock::since(start));
        }
    }
}
