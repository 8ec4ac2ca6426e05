//! What the running streams did in an interval.

use sinew_plane::TransportId;

use super::{
    health::{Flow, Interval},
    running::{Came, Entry},
};

/// What is known of a stream from the intervals before.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Past {
    /// True once it was looked at.
    is_known: bool,
    /// True if it was on the transport of the policy then.
    was_there: bool,
    /// How many items had arrived by then, and how many of them were taken.
    items: u64,
    taken: u64,
    /// What it did elsewhere: items, and seconds.
    elsewhere: (u64, f64),
}

impl Past {
    /// Items in a second, elsewhere. `None` if it was never elsewhere.
    fn pace(&self) -> Option<f64> {
        let (items, seconds) = self.elsewhere;
        (seconds > 0.0).then(|| items as f64 / seconds)
    }
}

/// One look at all streams.
pub(super) struct Look<'a> {
    pub(super) target: &'a TransportId,
    /// Since the last look.
    pub(super) seconds: f64,
    /// The policy that is followed.
    pub(super) epoch: u32,
    pub(super) interval: Interval,
}

impl Look<'_> {
    /// Adds what one stream did. True if items have come.
    pub(super) fn at(&mut self, entry: &mut Entry) -> bool {
        let Some(place) = entry.stream.place() else { return false };
        // A stream that has lost its connection may have gone on over another transport.
        entry.transport = place.transport;
        let is_there = entry.transport == *self.target;
        if !is_there && entry.came != Came::ByDefault {
            entry.came = Came::ByDefault;
            self.interval.left += 1;
        }
        let is_new = entry.epoch == self.epoch;
        let past = &mut entry.past;
        let (before, items) = (past.items, place.items.saturating_sub(past.items));
        let is_first = !past.is_known || past.was_there != is_there;
        let is_idle = place.taken == past.taken && place.taken < place.items;
        (past.is_known, past.was_there) = (true, is_there);
        (past.items, past.taken) = (place.items, place.taken);
        // Only an interval that it was in one place for as a whole says something of the place.
        if is_first {
            return false;
        }
        // A reader that takes nothing holds its stream up, over any transport.
        if is_idle {
            return items > 0;
        }
        let flow = |pace: f64| Flow {
            streams: 1,
            seconds: self.seconds,
            items,
            due: pace * self.seconds,
            known_from: past.elsewhere.0,
        };
        let Interval { moved, stayed, began_there, began_elsewhere, .. } = &mut self.interval;
        match past.pace() {
            Some(pace) if is_there => join(moved, flow(pace)),
            Some(pace) => join(stayed, flow(pace)),
            None => {}
        }
        // Until its first item a stream waits for its handler.
        if is_new && before > 0 {
            match (is_there, past.pace()) {
                (true, None) => join(began_there, flow(0.0)),
                (true, Some(_)) => {}
                (false, _) => join(began_elsewhere, flow(0.0)),
            }
        }
        if !is_there {
            past.elsewhere = (past.elsewhere.0 + items, past.elsewhere.1 + self.seconds);
        }
        items > 0
    }
}

/// Adds a stream to its group.
fn join(group: &mut Flow, one: Flow) {
    group.streams += one.streams;
    group.known_from += one.known_from;
    group.seconds += one.seconds;
    group.items += one.items;
    group.due += one.due;
}
