//! How many are in, and whether more may come in.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Set while draining. Above every count, so one comparison refuses in both cases.
const DRAINING: usize = 1 << (usize::BITS - 1);

/// Counts what is in flight against a limit, and can be closed. Count and closing are one atomic
/// number, so nothing slips in behind a drain that has seen zero.
pub(crate) struct Gate {
    state: AtomicUsize,
    max: usize,
    drained: Notify,
}

/// Why nothing may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Draining,
    Full { max: usize },
}

impl Gate {
    pub(crate) fn new(max: usize) -> Self {
        Self { state: AtomicUsize::new(0), max: max.min(DRAINING - 1), drained: Notify::new() }
    }

    /// Comes in; [`leave`](Self::leave) must follow.
    pub(crate) fn enter(&self) -> Result<(), Closed> {
        let entered = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state < self.max).then_some(state + 1)
        });
        entered.map(|_| ()).map_err(|state| self.closed(state))
    }

    /// Whether [`enter`](Self::enter) would let in now.
    pub(crate) fn check(&self) -> Result<(), Closed> {
        let state = self.state.load(Ordering::Acquire);
        if state < self.max { Ok(()) } else { Err(self.closed(state)) }
    }

    fn closed(&self, state: usize) -> Closed {
        if state & DRAINING != 0 { Closed::Draining } else { Closed::Full { max: self.max } }
    }

    pub(crate) fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::AcqRel) == DRAINING | 1 {
            self.drained.notify_waiters();
        }
    }

    pub(crate) fn drain(&self) {
        self.state.fetch_or(DRAINING, Ordering::AcqRel);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.state.load(Ordering::Acquire) & DRAINING != 0
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.state.load(Ordering::Acquire) & !DRAINING
    }

    /// Waits until nothing is in flight. Only for a gate that drains. Cancel-safe.
    pub(crate) async fn drained(&self) {
        loop {
            // Before the check: from here on a notification is not missed.
            let drained = self.drained.notified();
            if self.in_flight() == 0 {
                return;
            }
            drained.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_a_place_can_be_taken_again() {
        let gate = Gate::new(2);
        assert_eq!([gate.enter(), gate.enter()], [Ok(()); 2]);
        assert_eq!(gate.enter(), Err(Closed::Full { max: 2 }));
        gate.leave();
        assert_eq!(gate.enter(), Ok(()));
        assert_eq!(gate.in_flight(), 2);
        assert_eq!(Gate::new(0).enter(), Err(Closed::Full { max: 0 }));
    }

    #[tokio::test]
    async fn a_drained_gate_is_empty_and_stays_so() {
        let gate = Gate::new(usize::MAX);
        gate.enter().unwrap();
        gate.drain();
        assert_eq!(gate.enter(), Err(Closed::Draining));
        let drained = gate.drained();
        let mut drained = std::pin::pin!(drained);
        let pending = tokio::select! { biased; () = &mut drained => false, () = async {} => true };
        assert!(pending, "one is still in");
        gate.leave();
        drained.await;
        assert_eq!((gate.in_flight(), gate.enter()), (0, Err(Closed::Draining)));
    }
}
