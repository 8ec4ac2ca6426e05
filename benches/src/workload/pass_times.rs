//! How long it takes from the start of a pass until its last item has come.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::{
    engine::{self, TIMED_PASSES},
    measure::Latencies,
};

/// The timed passes of one engine, as far as they came here.
pub(super) struct PassTimes {
    /// Nanoseconds from the start of each pass to its last item so far.
    last: Box<[AtomicU64]>,
}

impl Default for PassTimes {
    fn default() -> Self {
        Self { last: (0..TIMED_PASSES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl PassTimes {
    /// Takes in an item as it comes.
    pub(super) fn arrived(&self, item: &[u8]) {
        let Some((number, nanoseconds)) = engine::stamp(item) else { return };
        if let Some(last) = self.last.get(number) {
            last.fetch_max(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Of each pass from the one with this number on, up to the newest of which an item has come;
    /// 0 where there was no room for one.
    pub(super) fn since(&self, number: usize) -> Vec<u64> {
        let newest = self.last.iter().rposition(|last| last.load(Ordering::Relaxed) > 0);
        let passes = self.last.get(number..newest.map_or(0, |newest| newest + 1));
        passes.unwrap_or_default().iter().map(|last| last.load(Ordering::Relaxed)).collect()
    }
}

/// Adds what several processes saw of the same passes: the last item of a pass is the last of all.
/// The newest that all have seen is left out, because its items may still be under way.
pub(super) fn combine(seen: &[&[u64]], times: &mut Latencies) -> Result<()> {
    let whole = seen.iter().map(|seen| seen.len()).min().unwrap_or(0).saturating_sub(1);
    for pass in 0..whole {
        match seen.iter().filter_map(|seen| seen.get(pass)).max() {
            // No stream had room for an item of this pass.
            None | Some(0) => {}
            Some(last) => times.record(*last)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::latencies;

    #[test]
    fn a_pass_ends_with_the_last_item_of_all_processes() {
        let mut times = latencies().unwrap();
        // One had no room in the second pass, one has seen more passes than the other.
        combine(&[&[10, 0, 30, 40], &[20, 5, 9, 50, 60]], &mut times).unwrap();
        let recorded: Vec<_> = times.iter_recorded().map(|it| it.value_iterated_to()).collect();
        assert_eq!(recorded, [5, 20, 30]);
        combine(&[], &mut times).unwrap();
        combine(&[&[], &[1, 2]], &mut times).unwrap();
        assert_eq!(times.len(), 3);
    }

    #[test]
    fn passes_are_told_from_a_number_on() {
        let times = PassTimes::default();
        assert!(times.since(0).is_empty());
        for number in [0, 2] {
            times.arrived(&engine::stamped(number, 64));
        }
        times.arrived(&[b't'; 64]);
        let seen = times.since(0);
        assert_eq!(seen.len(), 3);
        assert!(seen[0] > 0 && seen[1] == 0 && seen[2] > 0, "{seen:?}");
        assert_eq!((times.since(2).len(), times.since(3).len()), (1, 0));
    }
}
