//! Requests that were admitted and whose callers have no answer yet.

use std::time::Duration;

/// Time between two checks. The second check after the admission sends the acceptance, so the
/// caller gets it after 40 to 80 ms.
pub const ACCEPTANCE_LOOK: Duration = Duration::from_millis(40);

/// The admitted requests, by their keys, until they have been checked twice.
///
/// A request that is answered before costs only an entry here: no packet, no clock, and no memory
/// once the lists have grown. Entries of requests that have ended are removed when a list would
/// grow, so there are at most about twice as many entries as requests in flight.
#[derive(Debug)]
pub struct Unanswered<T> {
    fresh: Vec<T>,
    older: Vec<T>,
    watched: bool,
}

impl<T> Default for Unanswered<T> {
    fn default() -> Self {
        Self { fresh: Vec::new(), older: Vec::new(), watched: false }
    }
}

impl<T> Unanswered<T> {
    /// Adds a request that was admitted. `is_live` says which of the earlier ones still run. True
    /// if the caller has to start the periodic [check](Self::look).
    pub fn push(&mut self, request: T, is_live: impl FnMut(&T) -> bool) -> bool {
        if self.fresh.len() == self.fresh.capacity() {
            self.fresh.retain(is_live);
        }
        self.fresh.push(request);
        !std::mem::replace(&mut self.watched, true)
    }

    /// One check: calls `due` with each request that was there at the last check. False if no
    /// others are left, so that the checks can end.
    pub fn look(&mut self, due: impl FnMut(T)) -> bool {
        self.older.drain(..).for_each(due);
        // What a burst has left behind is let go of.
        self.older.shrink_to(64);
        std::mem::swap(&mut self.fresh, &mut self.older);
        self.watched = !self.older.is_empty();
        self.watched
    }

    /// Entries that are held.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.older.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(unanswered: &mut Unanswered<u32>) -> (Vec<u32>, bool) {
        let mut due = Vec::new();
        let more = unanswered.look(|request| due.push(request));
        (due, more)
    }

    #[test]
    fn each_is_due_at_the_second_look_and_looking_ends_with_the_last() {
        let mut unanswered = Unanswered::default();
        assert!(unanswered.push(1, |_| true), "nobody looks yet");
        assert!(!unanswered.push(2, |_| true));
        assert_eq!(look(&mut unanswered), (vec![], true));
        unanswered.push(3, |_| true);
        assert_eq!(look(&mut unanswered), (vec![1, 2], true));
        assert_eq!(look(&mut unanswered), (vec![3], false));
        assert!(unanswered.is_empty() && unanswered.push(4, |_| true));
    }

    #[test]
    fn what_has_ended_does_not_pile_up_however_many_come_between_two_looks() {
        let mut unanswered = Unanswered::default();
        for request in 0..1_000_000_u32 {
            // One in a thousand runs on.
            unanswered.push(request, |it| it % 1_000 == 0);
        }
        assert!(unanswered.len() < 4_000, "{}", unanswered.len());
        look(&mut unanswered);
        let (due, _) = look(&mut unanswered);
        assert!((0..1_000).all(|it| due.contains(&(it * 1_000))), "those that run are all told");
    }
}
