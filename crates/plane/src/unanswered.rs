//! Requests that were admitted, and whose callers have heard nothing yet.

use std::time::Duration;

/// How often they are looked at. A caller hears of its admission at the second look behind it:
/// after 40 to 80 ms.
pub const ACCEPTANCE_LOOK: Duration = Duration::from_millis(40);

/// Requests that were admitted, by what names them, until they have been looked at twice.
///
/// A request that is answered soon costs an entry here and nothing else: no packet, no clock, and
/// no memory once the lists have grown. Entries of requests that have ended are swept when a list
/// would grow, so there are at most about twice as many as requests that run.
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
    /// A request was admitted; `is_live` knows which of the earlier ones still run. True when
    /// somebody has to begin to [look](Self::look).
    pub fn push(&mut self, request: T, is_live: impl FnMut(&T) -> bool) -> bool {
        if self.fresh.len() == self.fresh.capacity() {
            self.fresh.retain(is_live);
        }
        self.fresh.push(request);
        !std::mem::replace(&mut self.watched, true)
    }

    /// One look: passes on those that have waited since the look before. False when there are no
    /// others to look for, and looking ends.
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
