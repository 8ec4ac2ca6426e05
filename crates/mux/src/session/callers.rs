//! The stream ids that callers have used: one that runs, or has ended lately, is not served again.

use std::{collections::VecDeque, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};
use sinew_plane::{
    Budget, BudgetUse, Code, Error, StreamId,
    budget::{Account, Tally, Work},
};

use crate::sync::Mutex;

/// Ids that are remembered of a caller's streams that have ended: 8 KiB and its place in the set.
/// A caller whose answers come within a second remembers seconds of its calls in it.
const REMEMBERED: usize = 512;

/// What an id that is remembered costs, in bytes: twice itself, in a table that is half full.
const ID_COST_BYTES: usize = 64;

/// Callers without a connection that are remembered, in the order in which they left. One that
/// comes back finds its ids still in use.
const PARTED: usize = 64;

/// The stream ids of one caller, over all its connections.
#[derive(Default)]
pub(crate) struct StreamIds {
    /// Those that run, and those in `ended`.
    known: FxHashSet<StreamId>,
    ended: VecDeque<StreamId>,
    /// Where those in `ended` are charged; one that runs is charged with its request.
    account: Option<Arc<Account>>,
    charged: Tally,
}

impl StreamIds {
    /// A stream wants to begin. False when one of its id runs or has ended lately.
    pub(crate) fn begin(&mut self, id: StreamId) -> bool {
        self.known.insert(id)
    }

    /// A stream that had begun was refused after all: nothing ran under its id.
    pub(crate) fn withdraw(&mut self, id: StreamId) {
        self.known.remove(&id);
    }

    /// A stream that had begun has ended.
    pub(crate) fn end(&mut self, id: StreamId) {
        if self.ended.len() == REMEMBERED || !self.has_room() {
            let Some(oldest) = self.ended.pop_front() else {
                // The memory budget is spent: nothing is remembered.
                self.known.remove(&id);
                return;
            };
            self.known.remove(&oldest);
        }
        self.ended.push_back(id);
    }

    /// Whether the memory budget has room for one more that is remembered.
    fn has_room(&mut self) -> bool {
        let Some(account) = &self.account else { return true };
        let bytes = (self.ended.len() + 1) * ID_COST_BYTES;
        self.charged.cover(bytes, BudgetUse::Ids, account, Work::Running)
    }

    /// No stream runs: keeps no more than what is remembered.
    fn shrink(&mut self) {
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

/// Callers by the process that they say they are. Those that say nothing count as one.
#[derive(Default)]
pub struct Callers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_process: FxHashMap<u64, Caller>,
    parted: VecDeque<u64>,
}

struct Caller {
    ids: Arc<Mutex<StreamIds>>,
    connections: usize,
}

impl Caller {
    fn new(budget: Option<&Arc<Budget>>) -> Self {
        let mut ids = StreamIds::default();
        ids.account = budget.map(Budget::open);
        Self { ids: Arc::new(Mutex::new(ids)), connections: 0 }
    }
}

/// One connection of a caller, until it is dropped.
pub(crate) struct Presence {
    callers: Arc<Callers>,
    process: u64,
}

impl Callers {
    /// A connection of this process came up: the ids that it shares with its others. What is
    /// remembered of them is charged to an account of their own in `budget`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        process: u64,
        budget: Option<&Arc<Budget>>,
    ) -> (Presence, Arc<Mutex<StreamIds>>) {
        let mut state = self.state.lock();
        let caller = state.by_process.entry(process).or_insert_with(|| Caller::new(budget));
        caller.connections += 1;
        let ids = Arc::clone(&caller.ids);
        (Presence { callers: Arc::clone(self), process }, ids)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.state.lock().by_process.len()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let State { by_process, parted } = &mut *self.callers.state.lock();
        let Some(caller) = by_process.get_mut(&self.process) else { return };
        caller.connections -= 1;
        if caller.connections > 0 {
            return;
        }
        caller.ids.lock().shrink();
        parted.push_back(self.process);
        if parted.len() > PARTED
            && let Some(oldest) = parted.pop_front()
            && by_process.get(&oldest).is_some_and(|caller| caller.connections == 0)
            // It may have parted again since.
            && !parted.contains(&oldest)
        {
            by_process.remove(&oldest);
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
        assert!(ids.begin(id(0)) && ids.begin(id(1)));
        assert!(!ids.begin(id(0)), "it runs");
        ids.end(id(0));
        assert!(!ids.begin(id(0)), "it has ended just now");
        for number in 2..REMEMBERED + 1 {
            assert!(ids.begin(id(number)));
            ids.end(id(number));
            assert!(!ids.begin(id(0)), "after {number}");
        }
        assert!(ids.begin(id(REMEMBERED + 1)));
        ids.end(id(REMEMBERED + 1));
        assert!(ids.begin(id(0)), "it was long ago");
        assert!(!ids.begin(id(1)), "it still runs, however long ago it began");
        assert!(ids.known.len() <= REMEMBERED + 2);
    }

    #[test]
    fn the_connections_of_a_process_share_its_ids_and_other_processes_have_their_own() {
        let callers = Arc::<Callers>::default();
        let (first, ids) = callers.enter(7, None);
        let (_second, same) = callers.enter(7, None);
        let (_other, others) = callers.enter(8, None);
        let id = StreamId(1);
        assert!(ids.lock().begin(id) && !same.lock().begin(id) && others.lock().begin(id));
        ids.lock().end(id);
        drop((first, ids, _second, same));
        let (_again, ids) = callers.enter(7, None);
        assert!(!ids.lock().begin(id), "a caller that comes back is remembered");
    }

    #[test]
    fn what_is_remembered_is_charged_and_is_less_when_the_budget_is_spent() {
        let budget = Budget::new(4 << 20);
        let callers = Arc::<Callers>::default();
        let (presence, ids) = callers.enter(7, Some(&budget));
        let run = |number: u128| {
            let mut ids = ids.lock();
            assert!(ids.begin(StreamId(number)));
            ids.end(StreamId(number));
        };
        (0..2_000).for_each(run);
        assert_eq!(budget.used(BudgetUse::Ids), REMEMBERED * ID_COST_BYTES);
        drop((presence, ids, callers));
        assert_eq!(budget.total(), 0);
        let _all: Vec<_> = (0..4)
            .map(|_| budget.open().hold(BudgetUse::Kept, 1 << 20, Work::Running).unwrap())
            .collect();
        let callers = Arc::<Callers>::default();
        let (_presence, ids) = callers.enter(7, Some(&budget));
        (0..2_000).for_each(|number| {
            let mut ids = ids.lock();
            assert!(ids.begin(StreamId(number)));
            ids.end(StreamId(number));
        });
        assert!(ids.lock().known.is_empty());
    }

    #[test]
    fn callers_that_have_gone_are_forgotten_in_order() {
        let callers = Arc::<Callers>::default();
        let (_stays, _) = callers.enter(u64::MAX, None);
        for process in 0..10_000 {
            drop(callers.enter(process, None));
            drop(callers.enter(7, None));
        }
        assert!(callers.len() <= PARTED + 1, "{}", callers.len());
        assert!(callers.state.lock().parted.len() <= PARTED);
    }
}
