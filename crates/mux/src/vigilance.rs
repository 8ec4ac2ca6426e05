//! How much useless work a peer may cause, and how long it may be silent.

use std::time::{Duration, Instant};

/// A token bucket: a burst, refilled at a rate.
#[derive(Debug)]
pub(crate) struct Allowance {
    tokens: u32,
    burst: u32,
    /// Time that earns one token back.
    interval: Duration,
    refilled: Instant,
}

impl Allowance {
    pub(crate) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { tokens: burst, burst, interval, refilled: now }
    }

    /// Spends one token; false when there is none.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        if self.tokens == 0 {
            self.refill(now);
        }
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                true
            }
            None => false,
        }
    }

    /// Earns tokens back, never over the burst.
    pub(crate) fn earn(&mut self, tokens: u32) {
        self.tokens = self.tokens.saturating_add(tokens).min(self.burst);
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        let earned = elapsed.as_nanos() / self.interval.as_nanos().max(1);
        if earned > 0 {
            self.tokens = u32::try_from(earned).unwrap_or(u32::MAX).min(self.burst);
            self.refilled = now;
        }
    }
}

/// The last part of the timeout: a peer that is silent for all of it before is suspected, and
/// dead if it says nothing in this time either. Long enough for a driver to fetch what lies in
/// the socket.
const SUSPICION: Duration = Duration::from_millis(50);

/// A look that comes so late means that this process did not run: it was stopped, or starved.
const PAUSE: Duration = Duration::from_millis(500);

/// A look at a suspect may be late by this much and still count.
const LATE: Duration = Duration::from_millis(100);

/// Looks at a suspect that may be late before one of them counts. A machine on which no timer is
/// ever on time still finds its dead.
const LATE_LOOKS: u8 = 20;

/// Decides from silence when to ask, and when to give up.
///
/// Only silence that this process was there to hear counts. It may be stopped for any time, by a
/// signal or with its machine, and what the peer says meanwhile lies in the socket. So the peer
/// is dead when it was asked, had its time to answer, and two looks in short succession found
/// nothing.
#[derive(Debug)]
pub(crate) struct Pulse {
    interval: Duration,
    timeout: Duration,
    heard: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Listening,
    Asked {
        at: Instant,
    },
    /// It had its time to answer. `late` looks since then were too late to count.
    Suspected {
        at: Instant,
        late: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    Alive,
    Ask,
    Dead,
}

impl Pulse {
    pub(crate) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, heard: now, stage: Stage::Listening }
    }

    /// Bytes arrived. True when the next look is due earlier than was said.
    pub(crate) fn on_bytes(&mut self, now: Instant) -> bool {
        self.heard = now;
        !matches!(std::mem::replace(&mut self.stage, Stage::Listening), Stage::Listening)
    }

    /// When [`on_tick`](Self::on_tick) has to be called at the latest. Earlier does no harm.
    pub(crate) fn next_look(&self) -> Instant {
        match self.stage {
            Stage::Listening => self.heard + self.interval,
            Stage::Asked { at } => at + (self.time_to_answer() - self.suspicion()),
            Stage::Suspected { at, .. } => at + self.suspicion(),
        }
    }

    /// A look at the clock.
    pub(crate) fn on_tick(&mut self, now: Instant) -> Beat {
        let due = self.next_look();
        let Some(late) = now.checked_duration_since(due) else { return Beat::Alive };
        match self.stage {
            Stage::Suspected { late: looks, .. } if late > LATE && late <= PAUSE => {
                if looks == LATE_LOOKS {
                    return Beat::Dead;
                }
                self.stage = Stage::Suspected { at: now, late: looks + 1 };
                Beat::Alive
            }
            Stage::Suspected { .. } if late <= LATE => Beat::Dead,
            Stage::Asked { .. } if late <= PAUSE => {
                self.stage = Stage::Suspected { at: now, late: 0 };
                Beat::Alive
            }
            // Also when it was asked before a pause: it may have paused too.
            Stage::Listening | Stage::Asked { .. } | Stage::Suspected { .. } => self.ask(now),
        }
    }

    fn ask(&mut self, now: Instant) -> Beat {
        self.stage = Stage::Asked { at: now };
        Beat::Ask
    }

    /// From the question to the verdict; at the latest `timeout` after the last bytes, unless
    /// this process paused.
    fn time_to_answer(&self) -> Duration {
        self.timeout.saturating_sub(self.interval)
    }

    fn suspicion(&self) -> Duration {
        SUSPICION.min(self.time_to_answer() / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let start = Instant::now();
        let mut allowance = Allowance::new(3, 2, start);
        for _ in 0..3 {
            assert!(allowance.spend(start));
        }
        assert!(!allowance.spend(start + Duration::from_millis(499)));
        assert!(allowance.spend(start + Duration::from_millis(500)));
        assert!(!allowance.spend(start + Duration::from_millis(501)));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| allowance.spend(later)).count(), 3, "never over the burst");
    }

    const INTERVAL: Duration = Duration::from_secs(5);
    const TIMEOUT: Duration = Duration::from_secs(15);

    fn pulse() -> (Pulse, Instant) {
        let start = Instant::now();
        (Pulse::new(INTERVAL, TIMEOUT, start), start)
    }

    /// Looks when it has to, each time `delay` too late, until something is to be done.
    fn run(pulse: &mut Pulse, delay: Duration) -> (Beat, Instant) {
        loop {
            let now = pulse.next_look() + delay;
            match pulse.on_tick(now) {
                Beat::Alive => {}
                beat => return (beat, now),
            }
        }
    }

    #[test]
    fn silence_asks_once_and_then_gives_up_at_the_timeout() {
        let (mut pulse, start) = pulse();
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(pulse.on_tick(at(4)), Beat::Alive);
        assert_eq!(run(&mut pulse, Duration::ZERO), (Beat::Ask, at(5)));
        assert_eq!(pulse.on_tick(at(6)), Beat::Alive);
        assert!(pulse.on_bytes(at(7)), "the next look is earlier now");
        assert!(!pulse.on_bytes(at(7)));
        assert_eq!(run(&mut pulse, Duration::ZERO), (Beat::Ask, at(12)));
        assert_eq!(run(&mut pulse, Duration::ZERO), (Beat::Dead, at(22)));
    }

    #[test]
    fn timers_that_are_a_little_late_make_the_verdict_no_later_than_that() {
        let (mut pulse, start) = pulse();
        let delay = Duration::from_millis(20);
        assert_eq!(run(&mut pulse, delay).0, Beat::Ask);
        let (beat, at) = run(&mut pulse, delay);
        assert_eq!(beat, Beat::Dead);
        assert!(at <= start + TIMEOUT + 3 * delay, "{:?}", at - start);
    }

    #[test]
    fn a_pause_at_any_moment_is_no_silence_of_the_peer() {
        let long = Duration::from_secs(18);
        for begins in [0, 100, 4_990, 5_010, 9_000, 14_900, 14_960, 14_999] {
            let (mut pulse, start) = pulse();
            let begins = start + Duration::from_millis(begins);
            let mut asked = false;
            while pulse.next_look() < begins {
                let now = pulse.next_look();
                asked |= pulse.on_tick(now) == Beat::Ask;
            }
            let resumed = begins + long;
            let beat = pulse.on_tick(resumed);
            assert_eq!(beat, Beat::Ask, "paused at {begins:?}, asked before: {asked}");
            // Silent from here on, it still is found dead, and not later than in its time.
            let (beat, at) = run(&mut pulse, Duration::ZERO);
            assert_eq!((beat, at), (Beat::Dead, resumed + (TIMEOUT - INTERVAL)));
        }
    }

    #[test]
    fn a_short_pause_before_the_verdict_postpones_it() {
        let (mut pulse, start) = pulse();
        assert_eq!(run(&mut pulse, Duration::ZERO).0, Beat::Ask);
        // Suspected at 14.95 s, stopped until 15.3 s.
        let suspected = pulse.next_look();
        assert_eq!(pulse.on_tick(suspected), Beat::Alive);
        let resumed = start + Duration::from_millis(15_300);
        assert_eq!(pulse.on_tick(resumed), Beat::Alive, "what came meanwhile is read first");
        assert_eq!(run(&mut pulse, Duration::ZERO), (Beat::Dead, resumed + SUSPICION));
    }

    #[test]
    fn a_machine_whose_timers_are_always_late_still_finds_its_dead() {
        let (mut pulse, start) = pulse();
        let delay = Duration::from_millis(300);
        assert_eq!(run(&mut pulse, delay).0, Beat::Ask);
        let (beat, at) = run(&mut pulse, delay);
        assert_eq!(beat, Beat::Dead);
        assert!(at < start + 2 * TIMEOUT, "{:?}", at - start);
    }
}
