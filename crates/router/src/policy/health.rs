//! Whether the streams over the transport of a policy fare worse than the others.
//!
//! Two things are compared: how many streams end with an error of the transport, and the mean time
//! between items. A stream that was moved is compared with itself before the move, because streams
//! of one endpoint may differ much from each other; streams that stayed show by how much all of them
//! became slower or faster meanwhile. A stream that began after the policy has no such past, and is
//! compared with the mean of those that began elsewhere.

use std::{collections::VecDeque, fmt};

use super::config::CheckedPolicyConfig;

/// How many intervals are looked at together. Short enough that what went well before does not hide
/// what goes wrong now.
const WINDOW: usize = 10;

/// The least number of streams in each of two groups whose means are compared.
const MIN_STREAMS: u32 = 16;

/// In how many of these intervals streams may lose their connections there. One loss takes all
/// streams of a connection, and may be noticed within two intervals.
const MAX_LOSSES: usize = 2;

/// The least number of failures that say anything.
const MIN_FAILED: u64 = 3;

/// From so many ends on, older ones count for half.
const MAX_ENDED: u64 = 1000;

/// By how much the streams over the transport of a policy may fare worse.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Margins {
    /// Points in percent of the streams that end with an error.
    pub(crate) error_points: f64,
    /// Percent by which the mean time between items may be longer.
    pub(crate) gap_percent: f64,
}

/// What the streams of a group did in an interval. Of the slab's own streams; see
/// [`Running`](super::running::Running).
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Flow {
    pub(crate) streams: u32,
    /// The time that they were observed, all added, in seconds.
    pub(crate) seconds: f64,
    pub(crate) items: u64,
    /// How many items they would have had at their own pace of before.
    pub(crate) due: f64,
    /// From how many items that pace is known.
    pub(crate) known_from: u64,
}

impl Flow {
    fn add(&mut self, other: &Self) {
        // Each interval has the same streams again.
        self.streams = self.streams.max(other.streams);
        self.known_from = self.known_from.max(other.known_from);
        self.seconds += other.seconds;
        self.items += other.items;
        self.due += other.due;
    }

    /// Items in a second of a stream.
    fn pace(&self) -> f64 {
        if self.seconds > 0.0 { self.items as f64 / self.seconds } else { 0.0 }
    }
}

/// The flows of one interval.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    /// Of streams that were moved to the transport of the policy.
    pub(crate) moved: Flow,
    /// Of streams that are elsewhere, and were there before.
    pub(crate) stayed: Flow,
    /// Of streams that began over the transport of the policy.
    pub(crate) began_there: Flow,
    /// Of streams that began elsewhere after the policy.
    pub(crate) began_elsewhere: Flow,
    /// How many streams that the policy had brought there are elsewhere again, because they lost
    /// their connection.
    pub(crate) left: u32,
}

/// How many streams have ended, and how many of them with an error of the transport. Also used for
/// attempts to get there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) ended: u64,
    pub(crate) failed: u64,
}

impl Ends {
    pub(crate) fn count(&mut self, is_failed: bool) {
        if self.ended >= MAX_ENDED {
            (self.ended, self.failed) = (self.ended / 2, self.failed / 2);
        }
        self.ended += 1;
        self.failed += u64::from(is_failed);
    }

    /// In percent.
    fn share(&self) -> f64 {
        if self.ended == 0 { 0.0 } else { self.failed as f64 * 100.0 / self.ended as f64 }
    }
}

/// The ends that a look at the health compares.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AllEnds {
    /// Over the transport of the policy.
    pub(crate) there: Ends,
    /// Over others since the policy began.
    pub(crate) elsewhere: Ends,
    /// Over all before.
    pub(crate) before: Ends,
    /// Attempts to get there: by a move, or with a new stream.
    pub(crate) attempts: Ends,
}

/// Compares the streams of one policy.
#[derive(Debug)]
pub(crate) struct Health {
    margins: Margins,
    min_items: f64,
    min_ended: u64,
    window: VecDeque<Interval>,
}

impl Health {
    pub(crate) fn new(margins: Margins, config: &CheckedPolicyConfig) -> Self {
        Self {
            margins,
            min_items: f64::from(config.min_items),
            min_ended: config.min_ended.into(),
            window: VecDeque::with_capacity(WINDOW),
        }
    }

    /// Adds what was seen in one more interval.
    pub(crate) fn add(&mut self, interval: Interval) {
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(interval);
    }

    /// What is worse by more than the margin, if anything is.
    pub(crate) fn worse(&self, ends: &AllEnds) -> Option<Worse> {
        let of_ends = self.unreachable(&ends.attempts).or_else(|| self.errors(ends));
        of_ends.or_else(|| self.losses()).or_else(|| self.gaps())
    }

    fn losses(&self) -> Option<Worse> {
        let with_losses = self.window.iter().filter(|one| one.left > 0);
        let (times, left) = with_losses.fold((0, 0), |sum, one| (sum.0 + 1, sum.1 + one.left));
        (times > MAX_LOSSES).then_some(Worse::Lost { times, left })
    }

    fn unreachable(&self, attempts: &Ends) -> Option<Worse> {
        let Ends { ended: tried, failed } = *attempts;
        let is_worse = failed >= MIN_FAILED && failed * 2 > tried;
        is_worse.then_some(Worse::Unreachable { failed, tried })
    }

    fn errors(&self, ends: &AllEnds) -> Option<Worse> {
        let AllEnds { there, elsewhere, before, .. } = ends;
        if there.ended < self.min_ended || there.failed < MIN_FAILED {
            return None;
        }
        let others = [elsewhere, before].into_iter().find(|one| one.ended >= self.min_ended);
        let (share, base) = (there.share(), others.map_or(0.0, Ends::share));
        let is_worse = share > base + self.margins.error_points;
        is_worse.then_some(Worse::Errors { share, base, ended: there.ended })
    }

    fn gaps(&self) -> Option<Worse> {
        let mut sum = Interval::default();
        for one in &self.window {
            sum.moved.add(&one.moved);
            sum.stayed.add(&one.stayed);
            sum.began_there.add(&one.began_there);
            sum.began_elsewhere.add(&one.began_elsewhere);
        }
        let Interval { moved, stayed, began_there, began_elsewhere, .. } = sum;
        let is_known = |flow: &Flow| flow.known_from as f64 >= self.min_items;
        // How the pace of all has changed, as far as those that stayed show it: in each interval by
        // itself, because the moved ones were not there in all of them.
        let shows_drift = is_known(&stayed) && stayed.due >= self.min_items;
        let due_in = |one: &Interval| {
            let is_shown = shows_drift && one.stayed.due > 0.0;
            let drift = if is_shown { one.stayed.items as f64 / one.stayed.due } else { 1.0 };
            one.moved.due * drift
        };
        let due = self.window.iter().map(due_in).sum();
        let of_moved = is_known(&moved).then(|| self.compare(&moved, due)).flatten();
        of_moved.or_else(|| {
            let are_enough = began_there.streams >= MIN_STREAMS
                && began_elsewhere.streams >= MIN_STREAMS
                && began_elsewhere.items as f64 >= self.min_items;
            let due = began_elsewhere.pace() * began_there.seconds;
            are_enough.then(|| self.compare(&began_there, due)).flatten()
        })
    }

    fn compare(&self, flow: &Flow, due: f64) -> Option<Worse> {
        let items = flow.items as f64;
        if due < self.min_items || items * (100.0 + self.margins.gap_percent) >= due * 100.0 {
            return None;
        }
        let millis = |items: f64| flow.seconds * 1000.0 / items;
        // Without any item the time is that of one, which is the least it can be.
        Some(Worse::Gap { millis: millis(items.max(1.0)), base: millis(due), items: flow.items })
    }
}

/// What became worse, with the figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Worse {
    /// The shares of streams that end with an error of the transport, in percent.
    Errors { share: f64, base: f64, ended: u64 },
    /// The mean times between two items, in milliseconds.
    Gap { millis: f64, base: f64, items: u64 },
    /// Streams lose their connections there again and again.
    Lost { times: usize, left: u32 },
    /// Most attempts to get there fail.
    Unreachable { failed: u64, tried: u64 },
}

impl Worse {
    /// One word, the value of a label.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Errors { .. } => "errors",
            Self::Gap { .. } => "gap",
            Self::Lost { .. } => "lost",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

impl fmt::Display for Worse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors { share, base, ended } => write!(
                f,
                "{share:.1} % of {ended} streams over it ended with an error of the transport, \
                 elsewhere {base:.1} %"
            ),
            Self::Gap { millis, base, items } => write!(
                f,
                "the mean time between items over it is {millis:.3} ms instead of {base:.3} ms, by \
                 {items} items"
            ),
            Self::Lost { times, left } => write!(
                f,
                "streams lost their connections there in {times} of the last {WINDOW} intervals, \
                 {left} in all, and went on over others"
            ),
            Self::Unreachable { failed, tried } => {
                write!(f, "{failed} of {tried} attempts to reach it failed")
            }
        }
    }
}

#[cfg(test)]
mod tests;
