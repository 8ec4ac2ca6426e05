//! Detects whether names in the directory have changed since the last scan.

use std::time::{Duration, Instant};

use super::directory::Edition;

/// For this long after a change another one may show in none of the directory's times, so coarse
/// are those of some file systems.
const UNSETTLED: Duration = Duration::from_millis(100);

/// The last edition of the directory that was seen.
#[derive(Debug, Default)]
pub(super) struct Changes {
    last: Option<(Edition, Instant)>,
}

impl Changes {
    /// True when names may have changed since the last time.
    pub(super) fn note(&mut self, edition: Edition, now: Instant) -> bool {
        match self.last {
            Some((last, since)) if last == edition => {
                now.saturating_duration_since(since) <= UNSETTLED
            }
            _ => {
                self.last = Some((edition, now));
                true
            }
        }
    }

    /// The edition that was seen last.
    pub(super) fn last(&self) -> Option<Edition> {
        self.last.map(|(edition, _)| edition)
    }
}
