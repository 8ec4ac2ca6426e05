//! Lets go of retained responses before their time, when their memory is needed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_plane::budget::Dispensable;

use super::{
    Retention,
    log::{Log, Worth},
};

/// Time between two looks for what can go, after one that found nothing.
const DRY: Duration = Duration::from_millis(100);

/// The part of what may be retained that is made free at once, so that not each item looks for room.
const STEP: usize = 8;

impl Retention {
    /// The logs that can do without something, in the order in which they are to be asked.
    fn dispensable(&self) -> Vec<(Worth, Arc<Log>)> {
        let logs: Vec<_> = self.logs.lock().values().cloned().collect();
        let with_worth = logs.into_iter().filter_map(|log| Some((log.worth()?, log)));
        let mut all: Vec<_> = with_worth.collect();
        all.sort_by_key(|(worth, _)| *worth);
        all
    }

    /// A response finds no room for its items within what may be retained: others make some.
    pub(super) fn make_room(&self, now: Instant) {
        let Some(account) = &self.account else { return };
        if now < *self.dry_until.lock() {
            return;
        }
        if self.give_back(account.budget().share() / STEP) == 0 {
            *self.dry_until.lock() = now + DRY;
        }
    }

    /// Lets go of up to `count` responses that have ended and that nobody reads.
    pub(super) fn end_idle(&self, count: usize) {
        let all = self.dispensable();
        let idle = all.iter().filter(|(worth, _)| *worth != Worth::InUse);
        for (_, log) in idle.take(count) {
            log.give_back(0);
        }
    }
}

impl Dispensable for Retention {
    fn give_back(&self, bytes: usize) -> usize {
        let mut released = 0;
        for (_, log) in self.dispensable() {
            if released >= bytes {
                break;
            }
            released += log.give_back(bytes - released);
        }
        released
    }
}
