//! Records when etcd last did not answer for so long that leases may have ended meanwhile.
//!
//! Contains rules only: it does not access etcd or a clock.

use std::time::Duration;

use tokio::time::Instant;

/// A shorter silence is an election, or a busy machine.
const SILENCE: Duration = Duration::from_secs(2);

/// What is known of answers and of their lack.
#[derive(Debug, Default)]
pub(super) struct OutageLog {
    answered: Option<Instant>,
    /// Since when something has been asked for and nothing answered.
    silent: Option<Instant>,
    /// The end of the last outage.
    ended: Option<Instant>,
}

impl OutageLog {
    /// Nobody has answered what was asked for then.
    pub(super) fn note_silence(&mut self, since: Instant) {
        // What another question got meanwhile was an answer, too.
        let since = self.answered.map_or(since, |answered| answered.max(since));
        self.silent = Some(self.silent.map_or(since, |silent| silent.min(since)));
    }

    pub(super) fn note_answer(&mut self, now: Instant) {
        if self.silent.take().is_some_and(|since| now - since >= SILENCE) {
            self.ended = Some(now);
        }
        self.answered = Some(now);
    }

    /// True during an outage, and for `window` after it.
    pub(super) fn was_within(&self, window: Duration, now: Instant) -> bool {
        self.silent.is_some_and(|since| now - since >= SILENCE)
            || self.ended.is_some_and(|ended| now - ended < window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    #[test]
    fn a_silence_of_two_seconds_is_an_outage_and_counts_for_the_window() {
        let (mut outages, start) = (OutageLog::default(), Instant::now());
        outages.note_answer(start);
        assert!(!outages.was_within(WINDOW, start));
        outages.note_silence(start + secs(1.0));
        outages.note_silence(start + secs(2.5));
        assert!(!outages.was_within(WINDOW, start + secs(2.9)));
        assert!(outages.was_within(WINDOW, start + secs(3.0)), "it has not ended");
        outages.note_answer(start + secs(5.0));
        outages.note_answer(start + secs(6.0));
        assert!(outages.was_within(WINDOW, start + secs(34.9)));
        assert!(!outages.was_within(WINDOW, start + secs(35.0)));
    }

    #[test]
    fn a_shorter_silence_is_none() {
        let (mut outages, start) = (OutageLog::default(), Instant::now());
        outages.note_silence(start);
        outages.note_answer(start + secs(1.9));
        outages.note_silence(start + secs(2.0));
        outages.note_answer(start + secs(3.9));
        assert!(!outages.was_within(WINDOW, start + secs(4.0)));
    }

    #[test]
    fn silence_to_one_question_counts_from_the_answer_to_another() {
        let (mut outages, start) = (OutageLog::default(), Instant::now());
        outages.note_answer(start + secs(1.5));
        outages.note_silence(start);
        outages.note_answer(start + secs(2.0));
        assert!(!outages.was_within(WINDOW, start + secs(2.0)));
    }
}
