//! Durations, which are measured only if a recorder collects them.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use sinew_plane::clock;

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Makes handles that are made from now on measure durations. `Metrics::install` calls it; a
/// program with its own recorder calls it after it has installed the recorder.
///
/// Counters and gauges need no switch. Durations have one because the `metrics` crate does not say
/// whether a recorder is installed, and two clock reads per request have a cost.
pub fn enable_timing() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Whether handles made now measure durations.
pub fn is_timing_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// The beginning of a duration, or nothing if durations are not measured.
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
