//! The keep-alive: how long a peer may be silent.

use std::time::{Duration, Instant};

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
pub(crate) struct KeepAlive {
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

/// What a look at the clock calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAliveStep {
    /// Nothing.
    Alive,
    /// Ask the peer whether it is there.
    Ask,
    /// Give the peer up.
    Dead,
}

impl KeepAlive {
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
    pub(crate) fn on_tick(&mut self, now: Instant) -> KeepAliveStep {
        let due = self.next_look();
        let Some(late) = now.checked_duration_since(due) else { return KeepAliveStep::Alive };
        match self.stage {
            Stage::Suspected { late: looks, .. } if late > LATE && late <= PAUSE => {
                if looks == LATE_LOOKS {
                    return KeepAliveStep::Dead;
                }
                self.stage = Stage::Suspected { at: now, late: looks + 1 };
                KeepAliveStep::Alive
            }
            Stage::Suspected { .. } if late <= LATE => KeepAliveStep::Dead,
            Stage::Asked { .. } if late <= PAUSE => {
                self.stage = Stage::Suspected { at: now, late: 0 };
                KeepAliveStep::Alive
            }
            // Also when it was asked before a pause: it may have paused too.
            Stage::Listening | Stage::Asked { .. } | Stage::Suspected { .. } => self.ask(now),
        }
    }

    fn ask(&mut self, now: Instant) -> KeepAliveStep {
        self.stage = Stage::Asked { at: now };
        KeepAliveStep::Ask
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

    const INTERVAL: Duration = Duration::from_secs(5);
    const TIMEOUT: Duration = Duration::from_secs(15);

    fn keep_alive() -> (KeepAlive, Instant) {
        let start = Instant::now();
        (KeepAlive::new(INTERVAL, TIMEOUT, start), start)
    }

    /// Looks when it has to, each time `delay` too late, until something is to be done.
    fn run(keep_alive: &mut KeepAlive, delay: Duration) -> (KeepAliveStep, Instant) {
        loop {
            let now = keep_alive.next_look() + delay;
            match keep_alive.on_tick(now) {
                KeepAliveStep::Alive => {}
                step => return (step, now),
            }
        }
    }

    #[test]
    fn silence_asks_once_and_then_gives_up_at_the_timeout() {
        let (mut keep_alive, start) = keep_alive();
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(keep_alive.on_tick(at(4)), KeepAliveStep::Alive);
        assert_eq!(run(&mut keep_alive, Duration::ZERO), (KeepAliveStep::Ask, at(5)));
        assert_eq!(keep_alive.on_tick(at(6)), KeepAliveStep::Alive);
        assert!(keep_alive.on_bytes(at(7)), "the next look is earlier now");
        assert!(!keep_alive.on_bytes(at(7)));
        assert_eq!(run(&mut keep_alive, Duration::ZERO), (KeepAliveStep::Ask, at(12)));
        assert_eq!(run(&mut keep_alive, Duration::ZERO), (KeepAliveStep::Dead, at(22)));
    }

    #[test]
    fn timers_that_are_a_little_late_make_the_verdict_no_later_than_that() {
        let (mut keep_alive, start) = keep_alive();
        let delay = Duration::from_millis(20);
        assert_eq!(run(&mut keep_alive, delay).0, KeepAliveStep::Ask);
        let (step, at) = run(&mut keep_alive, delay);
        assert_eq!(step, KeepAliveStep::Dead);
        assert!(at <= start + TIMEOUT + 3 * delay, "{:?}", at - start);
    }

    #[test]
    fn a_pause_at_any_moment_is_no_silence_of_the_peer() {
        let long = Duration::from_secs(18);
        for begins in [0, 100, 4_990, 5_010, 9_000, 14_900, 14_960, 14_999] {
            let (mut keep_alive, start) = keep_alive();
            let begins = start + Duration::from_millis(begins);
            let mut asked = false;
            while keep_alive.next_look() < begins {
                let now = keep_alive.next_look();
                asked |= keep_alive.on_tick(now) == KeepAliveStep::Ask;
            }
            let resumed = begins + long;
            let step = keep_alive.on_tick(resumed);
            assert_eq!(step, KeepAliveStep::Ask, "paused at {begins:?}, asked before: {asked}");
            // Silent from here on, it still is found dead, and not later than in its time.
            let (step, at) = run(&mut keep_alive, Duration::ZERO);
            assert_eq!((step, at), (KeepAliveStep::Dead, resumed + (TIMEOUT - INTERVAL)));
        }
    }

    #[test]
    fn a_short_pause_before_the_verdict_postpones_it() {
        let (mut keep_alive, start) = keep_alive();
        assert_eq!(run(&mut keep_alive, Duration::ZERO).0, KeepAliveStep::Ask);
        // Suspected at 14.95 s, stopped until 15.3 s.
        let suspected = keep_alive.next_look();
        assert_eq!(keep_alive.on_tick(suspected), KeepAliveStep::Alive);
        let resumed = start + Duration::from_millis(15_300);
        assert_eq!(
            keep_alive.on_tick(resumed),
            KeepAliveStep::Alive,
            "what came meanwhile is read first"
        );
        assert_eq!(
            run(&mut keep_alive, Duration::ZERO),
            (KeepAliveStep::Dead, resumed + SUSPICION)
        );
    }

    #[test]
    fn a_machine_whose_timers_are_always_late_still_finds_its_dead() {
        let (mut keep_alive, start) = keep_alive();
        let delay = Duration::from_millis(300);
        assert_eq!(run(&mut keep_alive, delay).0, KeepAliveStep::Ask);
        let (step, at) = run(&mut keep_alive, delay);
        assert_eq!(step, KeepAliveStep::Dead);
        assert!(at < start + 2 * TIMEOUT, "{:?}", at - start);
    }
}
