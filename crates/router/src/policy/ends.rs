//! Which streams ended with an error of the transport, and not because their worker died.

use sinew_plane::InstanceId;

use super::health::{AllEnds, Ends};

/// Most instances whose losses wait for a sign of life. Beyond, losses count at once.
const MAX_WAITING: usize = 64;

/// For how many intervals a loss waits for a sign of life.
const MAX_AGE: u32 = 10;

/// Counts the ends. A worker that dies takes all its streams with it, over whatever transport: so a
/// loss counts once its instance has shown that it lives, by an item or by a stream that it accepts.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) all: AllEnds,
    /// True while a policy is followed.
    is_followed: bool,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    instance: InstanceId,
    there: bool,
    losses: u64,
    age: u32,
}

impl Counted {
    /// A policy begins: the others' ends are counted anew.
    pub(super) fn begin(&mut self) {
        let before = self.all.before;
        *self = Self {
            all: AllEnds { before, ..AllEnds::default() },
            is_followed: true,
            ..Self::default()
        };
    }

    /// The policy has ended.
    pub(super) fn finish(&mut self) {
        self.is_followed = false;
        self.waiting.clear();
    }

    fn group(&mut self, there: bool) -> &mut Ends {
        match (self.is_followed, there) {
            (false, _) => &mut self.all.before,
            (true, true) => &mut self.all.there,
            (true, false) => &mut self.all.elsewhere,
        }
    }

    /// A stream has ended.
    pub(super) fn ended(&mut self, instance: InstanceId, there: bool, is_lost: bool) {
        if !is_lost {
            return self.group(there).count(false);
        }
        let is_same = |one: &&mut Waiting| one.instance == instance && one.there == there;
        if let Some(one) = self.waiting.iter_mut().find(is_same) {
            one.losses += 1;
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.push(Waiting { instance, there, losses: 1, age: 0 });
        } else {
            self.group(there).count(true);
        }
    }

    /// The instance has accepted a stream, or sent an item after a loss.
    pub(super) fn lives(&mut self, instance: InstanceId) {
        while let Some(index) = self.waiting.iter().position(|one| one.instance == instance) {
            let Waiting { there, losses, .. } = self.waiting.swap_remove(index);
            let group = self.group(there);
            (0..losses).for_each(|_| group.count(true));
        }
    }

    /// True if nothing waits for a sign of life, which is usual.
    pub(super) fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if losses of the instance from before the last interval wait for a sign of life.
    pub(super) fn awaits(&self, instance: InstanceId) -> bool {
        self.waiting.iter().any(|one| one.instance == instance && one.age > 0)
    }

    /// An interval is over.
    pub(super) fn age(&mut self) {
        self.waiting.iter_mut().for_each(|one| one.age += 1);
        self.waiting.retain(|one| one.age <= MAX_AGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: InstanceId = InstanceId(1);
    const OTHER: InstanceId = InstanceId(2);

    #[test]
    fn the_losses_of_a_worker_that_died_count_for_nothing() {
        let mut counted = Counted::default();
        counted.begin();
        (0..50).for_each(|_| counted.ended(ONE, true, true));
        counted.lives(OTHER);
        for _ in 0..=MAX_AGE {
            assert_eq!(counted.all.there, Ends::default());
            counted.age();
        }
        counted.lives(ONE);
        assert_eq!(counted.all.there, Ends::default(), "another life");
    }

    #[test]
    fn those_of_a_worker_that_lives_count_all() {
        let mut counted = Counted::default();
        counted.begin();
        (0..50).for_each(|_| counted.ended(ONE, true, true));
        counted.ended(ONE, false, true);
        counted.ended(ONE, true, false);
        counted.age();
        assert!(counted.awaits(ONE) && !counted.awaits(OTHER) && !counted.is_settled());
        counted.lives(ONE);
        assert_eq!(counted.all.there, Ends { ended: 51, failed: 50 });
        assert_eq!(counted.all.elsewhere, Ends { ended: 1, failed: 1 });
        assert!(counted.is_settled());
    }

    #[test]
    fn the_number_of_instances_that_wait_is_bounded() {
        let mut counted = Counted::default();
        counted.begin();
        for id in 0..200 {
            counted.ended(InstanceId(id), true, true);
        }
        assert_eq!(counted.waiting.len(), MAX_WAITING);
        assert_eq!(counted.all.there.failed, 200 - MAX_WAITING as u64);
    }

    #[test]
    fn what_ended_before_the_policy_is_kept_apart() {
        let mut counted = Counted::default();
        counted.ended(ONE, false, false);
        counted.ended(ONE, false, true);
        counted.lives(ONE);
        counted.begin();
        counted.ended(ONE, true, false);
        assert_eq!(counted.all.before, Ends { ended: 2, failed: 1 });
        assert_eq!(counted.all.there, Ends { ended: 1, failed: 0 });
    }
}
