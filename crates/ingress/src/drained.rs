//! What a drain did with the requests that were in flight.

use std::fmt;

use sinew_plane::Shutdown;
use sinew_telemetry::handovers;

/// What became of the requests that were in flight when a drain began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Requests whose responses ended by themselves, or that their callers cancelled.
    pub finished_streams: usize,
    /// Requests whose routers continue them at other instances.
    pub handed_over_streams: usize,
    /// Requests that had not ended when the grace was over. They were killed.
    pub cut_streams: usize,
    /// Tasks that had to be aborted.
    pub cut_tasks: usize,
}

impl Drained {
    /// Of `count` requests that were in flight.
    pub(crate) fn of(count: usize, handed_over: usize, cut: usize) -> Self {
        Self {
            finished_streams: count.saturating_sub(handed_over + cut),
            handed_over_streams: handed_over,
            cut_streams: cut,
            cut_tasks: 0,
        }
    }

    /// Counts it in the metrics.
    pub(crate) fn counted(self) -> Self {
        handovers(self.finished_streams, self.handed_over_streams, self.cut_streams);
        self
    }

    /// Adds what the shutdown of a transport had to cut.
    #[must_use]
    pub fn and(mut self, shutdown: Shutdown) -> Self {
        self.cut_streams += shutdown.cut_streams;
        self.cut_tasks += shutdown.cut_tasks;
        self
    }

    /// True if nothing was cut.
    pub fn is_clean(&self) -> bool {
        self.cut_streams == 0 && self.cut_tasks == 0
    }
}

/// For people: `3 finished, 1 handed over, 0 cut`.
impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { finished_streams, handed_over_streams, cut_streams, cut_tasks } = self;
        write!(f, "{finished_streams} finished, {handed_over_streams} handed over, ")?;
        write!(f, "{cut_streams} cut")?;
        if *cut_tasks > 0 {
            write!(f, ", {cut_tasks} tasks aborted")?;
        }
        Ok(())
    }
}
