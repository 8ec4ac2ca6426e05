//! The clock, in one place that a simulation can set.
//!
//! Without a simulation it is tokio's clock, the one that timers use and tests can pause. Outside a
//! tokio runtime it is the clock of the system.
//!
//! ```
//! use std::time::Duration;
//! use sinew_plane::clock;
//!
//! let began = clock::now();
//! assert!(clock::since(began) < Duration::from_secs(60));
//! ```

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

static SOURCE: OnceLock<Source> = OnceLock::new();

/// A source of time.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The monotonic clock.
    pub now: fn() -> Instant,
    /// The time of day.
    pub time_of_day: fn() -> SystemTime,
}

/// Sets the source of time for the whole process. For simulations, before any code reads the clock.
/// Timers remain tokio's, so `source` has to agree with them. False if a source is set already;
/// that one stays.
pub fn set_source(source: Source) -> bool {
    SOURCE.set(source).is_ok()
}

/// The current instant.
pub fn now() -> Instant {
    match SOURCE.get() {
        Some(source) => (source.now)(),
        None => tokio::time::Instant::now().into_std(),
    }
}

/// The time since `start`; zero if `start` is in the future.
pub fn since(start: Instant) -> Duration {
    now().saturating_duration_since(start)
}

/// The time of day, which the system may set back and forth.
pub fn time_of_day() -> SystemTime {
    match SOURCE.get() {
        Some(source) => (source.time_of_day)(),
        // tidy-allow: clock, this is where all others read the time of day
        None => SystemTime::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_the_clock_that_timers_run_on() {
        let began = now();
        assert_eq!(since(began), Duration::ZERO, "it is paused");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(since(began).as_secs(), 3);
        assert_eq!(since(began + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn outside_of_a_runtime_it_goes_on() {
        let began = now();
        while now() == began {
            std::hint::spin_loop();
        }
        assert!(time_of_day() > SystemTime::UNIX_EPOCH);
    }
}
