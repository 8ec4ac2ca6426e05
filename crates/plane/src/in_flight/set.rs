//! A set of what is in flight, with a handle of each entry by which it can be cut.

use std::{fmt, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use slab::Slab;
use tokio::{sync::Notify, time::timeout};

use super::Closed;

/// A set of what is in flight, up to a limit. Each entry has a `T`, a handle by which it can be
/// cut. The set can be drained, and the rest can be cut.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::{sync::Arc, time::Duration};
/// use sinew_plane::{CancelReason, Context, InFlightSet, StopKind};
///
/// let set = Arc::new(InFlightSet::new(16));
/// let context = Context::new();
/// let _entry = set.enter(context.clone()).unwrap();
/// assert_eq!(set.close(Duration::from_millis(1)).await, 1);
/// for left in set.cut() {
///     left.cancel(StopKind::Kill, CancelReason::Shutdown);
/// }
/// assert!(context.is_killed() && set.enter(Context::new()).is_err());
/// # });
/// ```
pub struct InFlightSet<T> {
    state: Mutex<State<T>>,
    max: usize,
    /// The last one left, or what is there was cut.
    changed: Notify,
}

struct State<T> {
    /// Numbered, as places are taken again.
    entries: Slab<(u64, T)>,
    next_number: u64,
    is_draining: bool,
    is_cut: bool,
}

/// The key of an entry of a set. No key is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlightKey {
    place: usize,
    number: u64,
}

/// An entry of a set, until it leaves or is dropped.
pub struct InFlightEntry<T> {
    set: Arc<InFlightSet<T>>,
    key: InFlightKey,
}

impl<T> InFlightSet<T> {
    /// Makes an empty set with the limit `max`.
    pub fn new(max: usize) -> Self {
        let state =
            State { entries: Slab::new(), next_number: 0, is_draining: false, is_cut: false };
        Self { state: Mutex::new(state), max, changed: Notify::new() }
    }

    /// Adds an entry, which is removed when the result is dropped.
    ///
    /// # Errors
    /// [`Closed`]; nothing was added.
    pub fn enter(self: &Arc<Self>, handle: T) -> Result<InFlightEntry<T>, Closed> {
        let key = self.insert(handle)?;
        Ok(InFlightEntry { set: Arc::clone(self), key })
    }

    /// Adds an entry. Call [`remove`](Self::remove) when it ends.
    ///
    /// # Errors
    /// [`Closed`]; nothing was added.
    pub fn insert(&self, handle: T) -> Result<InFlightKey, Closed> {
        let mut state = self.state.lock();
        if state.is_draining {
            return Err(Closed::Draining);
        }
        if state.entries.len() >= self.max {
            return Err(Closed::Full { max: self.max });
        }
        let number = state.next_number;
        state.next_number += 1;
        Ok(InFlightKey { place: state.entries.insert((number, handle)), number })
    }

    /// Replaces the handle of an entry. False if the entries were cut or this one was removed
    /// meanwhile; the caller then has to cut by `handle` itself.
    pub fn replace(&self, key: InFlightKey, handle: T) -> bool {
        let mut state = self.state.lock();
        let is_cut = state.is_cut;
        let replaced = match state.entries.get_mut(key.place) {
            Some((number, before)) if *number == key.number => Some(mem::replace(before, handle)),
            _ => None,
        };
        // A handle may do anything when it is dropped.
        drop(state);
        replaced.is_some() && !is_cut
    }

    /// Removes an entry. A second call changes nothing.
    pub fn remove(&self, key: InFlightKey) {
        let mut state = self.state.lock();
        if state.entries.get(key.place).is_none_or(|(number, _)| *number != key.number) {
            return;
        }
        let removed = state.entries.remove(key.place);
        let is_empty = state.entries.is_empty();
        drop(state);
        drop(removed);
        if is_empty {
            self.changed.notify_waiters();
        }
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// Refuses all entries from now on. A drain cannot be undone.
    pub fn drain(&self) {
        self.state.lock().is_draining = true;
    }

    /// Drains, and waits until the set is empty, for at most `grace`. Returns how many entries are
    /// left. Call it within a tokio runtime with a clock. If the future is dropped, the set stays
    /// drained.
    pub async fn close(&self, grace: Duration) -> usize {
        self.drain();
        // Over or not: what is left is counted next.
        let _ = timeout(grace, self.reached(|state| state.entries.is_empty())).await;
        self.count()
    }

    /// Drains, and returns the handles of the entries, by which the caller cuts them. The entries
    /// stay until they are removed.
    pub fn cut(&self) -> Vec<T>
    where
        T: Clone,
    {
        let mut state = self.state.lock();
        (state.is_draining, state.is_cut) = (true, true);
        let handles = state.entries.iter().map(|(_, (_, handle))| handle.clone()).collect();
        drop(state);
        self.changed.notify_waiters();
        handles
    }

    /// Waits until [`cut`](Self::cut) was called, for entries whose handle does not say so.
    /// Cancel-safe.
    pub async fn was_cut(&self) {
        self.reached(|state| state.is_cut).await;
    }

    async fn reached(&self, reached: impl Fn(&State<T>) -> bool) {
        loop {
            // Before the look, so that no change between the two is missed.
            let changed = self.changed.notified();
            if reached(&self.state.lock()) {
                return;
            }
            changed.await;
        }
    }
}

impl<T> InFlightEntry<T> {
    /// As [`InFlightSet::replace`].
    pub fn replace(&self, handle: T) -> bool {
        self.set.replace(self.key, handle)
    }

    /// Removes the entry. A second call changes nothing.
    pub fn leave(&self) {
        self.set.remove(self.key);
    }
}

impl<T> Drop for InFlightEntry<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T> fmt::Debug for InFlightSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("InFlightSet")
            .field("count", &state.entries.len())
            .field("is_draining", &state.is_draining)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for InFlightEntry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InFlightEntry").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn the_limit_is_exact_and_a_key_stands_for_one_entry_only() {
        let set = InFlightSet::new(2);
        let keys = [set.insert('a'), set.insert('b')].map(Result::unwrap);
        assert_eq!(set.insert('c'), Err(Closed::Full { max: 2 }));
        set.remove(keys[0]);
        let last = set.insert('c').unwrap();
        set.remove(keys[0]);
        assert!(!set.replace(keys[0], 'x'), "its place is taken again");
        assert_eq!(set.count(), 2);
        assert!(set.replace(last, 'd'));
        let mut left = set.cut();
        left.sort_unstable();
        assert_eq!(left, ['b', 'd']);
        assert!(!set.replace(last, 'e'), "it was cut");
        assert_eq!((set.insert('f'), set.count()), (Err(Closed::Draining), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_close_waits_for_the_last_entry_and_no_longer_than_its_grace() {
        let set = Arc::new(InFlightSet::new(8));
        let entries = [set.enter(()), set.enter(())].map(Result::unwrap);
        let began = tokio::time::Instant::now();
        assert_eq!(set.close(GRACE).await, 2);
        assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
        let mut closing = pin!(set.close(GRACE));
        assert!(poll!(closing.as_mut()).is_pending());
        entries[0].leave();
        assert!(poll!(closing.as_mut()).is_pending(), "one is still in");
        drop(entries);
        assert_eq!(closing.await, 0);
        assert_eq!(set.enter(()).unwrap_err(), Closed::Draining);
    }

    #[tokio::test]
    async fn who_waits_for_a_cut_hears_of_it_also_behind_it() {
        let set = InFlightSet::<()>::new(8);
        let mut cut = pin!(set.was_cut());
        set.drain();
        assert!(poll!(cut.as_mut()).is_pending());
        set.cut();
        cut.await;
        set.was_cut().await;
    }
}
