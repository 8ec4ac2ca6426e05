//! How long to wait between two tries at something that does not answer.

use std::time::Duration;

/// Doubling pauses with jitter: half of each is fixed, so that nobody spins, and half is random,
/// so that a fleet that lost one server does not come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.longest);
        whole.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// The next pause, a short one if what failed has done its work for longer than any pause.
    pub(crate) fn pause_after(&mut self, lasted: Duration) -> Duration {
        if lasted > self.longest {
            self.reset();
        }
        self.pause()
    }

    /// The next pause is a short one again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_never_short() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(250), ms(5000));
        for whole in [250, 500, 1000, 2000, 4000, 5000, 5000].map(ms) {
            let pause = backoff.pause();
            assert!((whole / 2..=whole).contains(&pause), "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= ms(250));
        assert!(backoff.pause_after(ms(5000)) >= ms(250));
        assert!(backoff.pause_after(ms(5001)) <= ms(250));
    }
}
