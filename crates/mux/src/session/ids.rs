//! The stream ids that a caller has used: a stream that is open, or has ended recently, is not
//! served again.

use std::{
    collections::{VecDeque, hash_map::Entry},
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;
use sinew_plane::{
    Budget, BudgetUse, Code, Error, StreamId,
    budget::{Account, Tally, Work},
};

/// Ids that are remembered of a caller's streams that have ended: 8 KiB and its place in the table.
/// A caller whose answers come within a second remembers seconds of its calls in it.
pub(super) const REMEMBERED: usize = 512;

/// Ids that never begin, and how long they are remembered: longer than a connection can be silent on
/// which an open of theirs may still lie.
const REFUSED: usize = 512;
const REFUSED_FOR: Duration = Duration::from_secs(120);

/// What an id that is remembered costs, in bytes: itself, and an entry of a table that is half full.
pub(super) const ID_COST_BYTES: usize = 64;

/// An id as the key of a table, whose entries then take no more room than their own.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key([u32; 4]);

impl From<StreamId> for Key {
    fn from(id: StreamId) -> Self {
        Self([0, 32, 64, 96].map(|bits| (id.0 >> bits) as u32))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d] = self.0.map(u64::from);
        state.write_u64(a | b << 32);
        state.write_u64(c | d << 32);
    }
}

/// The stream ids of one caller, over all its connections.
#[derive(Default)]
pub(crate) struct StreamIds {
    /// Those that run, and those in `ended`, with the numbers that their streams have on their
    /// connections.
    known: FxHashMap<Key, u32>,
    ended: VecDeque<StreamId>,
    /// Where those in `ended` are charged; one that runs is charged with its request.
    account: Option<Arc<Account>>,
    charged: Tally,
    /// Those of which the caller was told that they never begin, and since when. None of them is in
    /// `known`.
    refused: VecDeque<(Instant, StreamId)>,
}

impl StreamIds {
    /// A stream wants to begin under a number. False when one of its id runs or has ended lately.
    pub(crate) fn begin(&mut self, id: StreamId, number: u32) -> bool {
        if !self.refused.is_empty() && self.is_refused(id) {
            return false;
        }
        match self.known.entry(id.into()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(number);
                true
            }
        }
    }

    /// The stream is on another connection, under another number.
    pub(super) fn renumber(&mut self, id: StreamId, number: u32) {
        if let Some(known) = self.known.get_mut(&id.into()) {
            *known = number;
        }
    }

    /// Sees to it that no stream of this id begins. False when one has, or when that cannot be
    /// promised.
    pub(super) fn refuse(&mut self, id: StreamId, now: Instant) -> bool {
        let is_over = |(since, _): &(Instant, StreamId)| now.duration_since(*since) > REFUSED_FOR;
        while self.refused.front().is_some_and(is_over) {
            self.refused.pop_front();
        }
        if self.known.contains_key(&id.into()) {
            return false;
        }
        if !self.is_refused(id) {
            if self.refused.len() >= REFUSED {
                return false;
            }
            self.refused.push_back((now, id));
        }
        true
    }

    #[cold]
    fn is_refused(&self, id: StreamId) -> bool {
        self.refused.iter().any(|(_, refused)| *refused == id)
    }

    /// A stream that had begun was refused after all: nothing ran under its id.
    pub(crate) fn withdraw(&mut self, id: StreamId) {
        self.known.remove(&id.into());
    }

    /// A stream that had begun has ended.
    pub(crate) fn end(&mut self, id: StreamId) {
        if self.ended.len() == REMEMBERED || !self.has_room() {
            let Some(oldest) = self.ended.pop_front() else {
                // The memory budget is spent: nothing is remembered.
                self.known.remove(&id.into());
                return;
            };
            self.known.remove(&oldest.into());
        }
        self.ended.push_back(id);
    }

    /// Whether the memory budget has room for one more that is remembered.
    fn has_room(&mut self) -> bool {
        let Some(account) = &self.account else { return true };
        let bytes = (self.ended.len() + 1) * ID_COST_BYTES;
        self.charged.cover(bytes, BudgetUse::Ids, account, Work::Running)
    }

    /// The number of the stream of this id that runs or has ended lately.
    pub(super) fn number(&self, id: StreamId) -> Option<u32> {
        self.known.get(&id.into()).copied()
    }

    /// Charges what is remembered to a budget.
    pub(super) fn charged_to(budget: Option<&Arc<Budget>>) -> Self {
        let mut ids = Self::default();
        ids.account = budget.map(Budget::open);
        ids
    }

    /// No stream runs: keeps no more than what is remembered.
    pub(super) fn shrink(&mut self) {
        self.known.shrink_to_fit();
        self.ended.shrink_to_fit();
    }
}

impl Drop for StreamIds {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            self.charged.clear(BudgetUse::Ids, account);
        }
    }
}

/// The error of a stream whose id is taken. The other stream of that id has run or runs, so it is
/// no refusal after which the request could be sent elsewhere.
pub(crate) fn duplicate(id: StreamId) -> Error {
    let message = format!(
        "the stream {id} runs at this worker or has ended here a moment ago: each stream needs an id \
         of its own"
    );
    Error::new(Code::DuplicateStream, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_while_it_runs_and_for_a_while_behind_its_end() {
        let mut ids = StreamIds::default();
        let id = |number: usize| StreamId(number as u128);
        assert!(ids.begin(id(0), 1) && ids.begin(id(1), 1));
        assert!(!ids.begin(id(0), 1), "it runs");
        ids.end(id(0));
        assert!(!ids.begin(id(0), 1), "it has ended just now");
        for number in 2..REMEMBERED + 1 {
            assert!(ids.begin(id(number), 1));
            ids.end(id(number));
            assert!(!ids.begin(id(0), 1), "after {number}");
        }
        assert!(ids.begin(id(REMEMBERED + 1), 1));
        ids.end(id(REMEMBERED + 1));
        assert!(ids.begin(id(0), 1), "it was long ago");
        assert!(!ids.begin(id(1), 1), "it still runs, however long ago it began");
        assert!(ids.known.len() <= REMEMBERED + 2);
    }
}
