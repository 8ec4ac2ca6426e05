//! The timers of a connection. The clock is read only when one is due.

use std::time::{Duration, Instant};

/// Something that is due once nothing has happened for a while.
///
/// What happens is counted and not timed, so it costs nothing: the clock is looked at when a part of
/// the while is over, and if something has happened, the while begins anew. So it is over at the
/// latest one part after it should be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuietTimer {
    part: Duration,
    parts: u32,
    since: Option<Instant>,
    /// What was counted when the part began.
    count: u32,
    /// Parts before this one in which nothing happened.
    quiet: u32,
}

impl QuietTimer {
    /// A timer that is not set, of so many parts.
    pub(crate) fn new(period: Duration, parts: u32) -> Self {
        Self { part: period / parts, parts, since: None, count: 0, quiet: 0 }
    }

    /// When to look; `None` while it is not set.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.and_then(|since| since.checked_add(self.part))
    }

    /// What was counted when the part began.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Sets it, unless it is set. True when it was not.
    pub(crate) fn start(&mut self, now: Instant, count: u32) -> bool {
        let starts = self.since.is_none();
        if starts {
            (self.since, self.count, self.quiet) = (Some(now), count, 0);
        }
        starts
    }

    /// A look at the clock: true when nothing has happened for the whole period, and the timer is
    /// not set any more.
    pub(crate) fn is_over(&mut self, now: Instant, count: u32) -> bool {
        if self.due().is_none_or(|due| now < due) {
            return false;
        }
        let was_quiet = std::mem::replace(&mut self.count, count) == count;
        self.quiet = if was_quiet { self.quiet + 1 } else { 0 };
        let over = self.quiet == self.parts;
        self.since = if over { None } else { Some(now) };
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_after_a_period_in_which_nothing_was_counted() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut timer = QuietTimer::new(Duration::from_secs(4), 2);
        assert!(timer.due().is_none() && !timer.is_over(at(9), 1), "it is not set");
        assert!(timer.start(start, 1));
        assert!(!timer.start(at(1), 5), "the first start counts");
        assert_eq!(timer.due(), Some(at(2)));
        assert!(!timer.is_over(at(1), 1));
        assert!(!timer.is_over(at(2), 1), "one part of two");
        assert!(!timer.is_over(at(4), 5), "something happened");
        assert_eq!(timer.due(), Some(at(6)));
        assert!(!timer.is_over(at(6), 5));
        assert!(timer.is_over(at(8), 5));
        assert!(timer.due().is_none());
    }
}
