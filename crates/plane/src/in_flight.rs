//! Counts of what is in flight: how many there are, whether more may enter, and when none is left.
//!
//! [`InFlight`] only counts, and costs one atomic number. [`InFlightSet`] also keeps a handle of
//! each entry, by which it can be cut.

mod set;

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

pub use self::set::{InFlightEntry, InFlightKey, InFlightSet};

/// Set while draining. Above every count, so one comparison refuses in both cases.
const DRAINING: usize = 1 << (usize::BITS - 1);

/// Counts what is in flight up to a limit, and can be drained. The count and the drain flag are one
/// atomic number, so nothing can enter after a drain has seen zero.
///
/// ```
/// use sinew_plane::{Closed, InFlight};
///
/// let in_flight = InFlight::new(1);
/// assert_eq!(in_flight.enter(), Ok(()));
/// assert_eq!(in_flight.enter(), Err(Closed::Full { max: 1 }));
/// in_flight.leave();
/// in_flight.drain();
/// assert_eq!(in_flight.enter(), Err(Closed::Draining));
/// ```
#[derive(Debug)]
pub struct InFlight {
    state: AtomicUsize,
    max: usize,
    drained: Notify,
}

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It drains: entries continue, and no further one may enter.
    Draining,
    /// The limit is reached.
    Full {
        /// The limit.
        max: usize,
    },
}

impl InFlight {
    /// Makes an empty count with the limit `max`.
    pub fn new(max: usize) -> Self {
        Self { state: AtomicUsize::new(0), max: max.min(DRAINING - 1), drained: Notify::new() }
    }

    /// Counts one entry. Call [`leave`](Self::leave) when it ends.
    ///
    /// # Errors
    /// [`Closed`]; nothing was counted.
    pub fn enter(&self) -> Result<(), Closed> {
        let entered = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state < self.max).then_some(state + 1)
        });
        entered.map(|_| ()).map_err(|state| self.closed(state))
    }

    fn closed(&self, state: usize) -> Closed {
        if state & DRAINING != 0 { Closed::Draining } else { Closed::Full { max: self.max } }
    }

    /// Removes one entry.
    pub fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::AcqRel) == DRAINING | 1 {
            self.drained.notify_waiters();
        }
    }

    /// Refuses all entries from now on. A drain cannot be undone.
    pub fn drain(&self) {
        self.state.fetch_or(DRAINING, Ordering::AcqRel);
    }

    /// True once [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.state.load(Ordering::Acquire) & DRAINING != 0
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.state.load(Ordering::Acquire) & !DRAINING
    }

    /// Waits until nothing is in flight. Call [`drain`](Self::drain) first. Cancel-safe.
    pub async fn drained(&self) {
        loop {
            // Before the check: from here on a notification is not missed.
            let drained = self.drained.notified();
            if self.count() == 0 {
                return;
            }
            drained.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[test]
    fn the_limit_is_exact_and_a_place_can_be_taken_again() {
        let in_flight = InFlight::new(2);
        assert_eq!([in_flight.enter(), in_flight.enter()], [Ok(()); 2]);
        assert_eq!(in_flight.enter(), Err(Closed::Full { max: 2 }));
        in_flight.leave();
        assert_eq!(in_flight.enter(), Ok(()));
        assert_eq!(in_flight.count(), 2);
        assert_eq!(InFlight::new(0).enter(), Err(Closed::Full { max: 0 }));
    }

    #[tokio::test]
    async fn what_has_drained_is_empty_and_stays_so() {
        let in_flight = InFlight::new(usize::MAX);
        in_flight.enter().unwrap();
        in_flight.drain();
        assert!(in_flight.is_draining());
        assert_eq!(in_flight.enter(), Err(Closed::Draining));
        let mut drained = pin!(in_flight.drained());
        assert!(poll!(drained.as_mut()).is_pending(), "one is still in");
        in_flight.leave();
        drained.await;
        assert_eq!((in_flight.count(), in_flight.enter()), (0, Err(Closed::Draining)));
    }
}
