//! How long a stream waits for another connection, where its call or its endpoint says so.

use std::time::{Duration, Instant};

/// Milliseconds that stand for "as the connection has it".
const UNSET: u32 = u32::MAX;

/// How long a stream waits for another connection: a time of its own, or that of its connection. In
/// milliseconds, because each stream has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace(u32);

impl Grace {
    /// This time, rounded up and at most 49 days; that of the connection without one.
    pub(crate) fn new(own: Option<Duration>) -> Self {
        let Some(own) = own else { return Self(UNSET) };
        let millis = own.as_nanos().div_ceil(1_000_000);
        Self(u32::try_from(millis).map_or(UNSET - 1, |millis| millis.min(UNSET - 1)))
    }

    /// Until when a stream waits that has lost its connection now; `None` if it does not.
    pub(crate) fn until(self, now: Instant, of_connection: Duration) -> Option<Instant> {
        match self.0 {
            0 => None,
            UNSET => now.checked_add(of_connection),
            millis => now.checked_add(Duration::from_millis(millis.into())),
        }
    }

    /// True if the stream ends with its connection.
    pub(crate) fn is_off(self) -> bool {
        self.0 == 0
    }

    /// As a number for an atomic.
    pub(crate) fn to_bits(self) -> u32 {
        self.0
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_the_streams_own_or_that_of_its_connection() {
        let (now, secs) = (Instant::now(), Duration::from_secs);
        let until = |own| Grace::new(own).until(now, secs(20));
        assert_eq!(until(None), Some(now + secs(20)));
        assert_eq!(until(Some(secs(3))), Some(now + secs(3)));
        assert_eq!(until(Some(Duration::from_nanos(1))), Some(now + Duration::from_millis(1)));
        assert_eq!(until(Some(Duration::ZERO)), None);
        assert!(until(Some(Duration::MAX)) > Some(now + secs(86_400)));
        assert_eq!(
            Grace::from_bits(Grace::new(Some(secs(3))).to_bits()),
            Grace::new(Some(secs(3)))
        );
    }
}
