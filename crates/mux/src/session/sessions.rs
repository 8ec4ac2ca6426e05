//! The sessions of a server.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use rustc_hash::FxHashMap;
use sinew_plane::{Budget, Error, ProcessId};

use super::served::{DetachedStream, Loss, Session};
use crate::{Connection, Driver, stream::ProducerStream, sync::Mutex};

/// Callers without a connection that are remembered, in the order in which they left. One that
/// comes back finds its ids still in use.
const PARTED: usize = 64;

/// The sessions of one server, by the process ids that callers show. Callers without a process id
/// share one session.
///
/// Streams that are kept for their consumers hold their sessions, and sessions hold the streams, so
/// the owner of the server has to [close](Self::close) this value when the server ends.
pub struct Sessions<D: Driver> {
    state: Mutex<State<D>>,
    /// Losses of connections, in the order in which their streams are given up.
    losses: Mutex<Losses<D>>,
    /// Streams that wait, of all sessions.
    waiting: Arc<AtomicUsize>,
}

struct State<D: Driver> {
    by_process: FxHashMap<ProcessId, Arc<Session<D>>>,
    parted: VecDeque<ProcessId>,
    /// A session is forgotten that had let go of streams: what a new one of its process knows of
    /// streams is not all.
    has_forgotten: bool,
}

struct Losses<D: Driver> {
    waiting: VecDeque<(Instant, Weak<Session<D>>)>,
    is_closed: bool,
}

/// One connection of a caller, until it is dropped.
pub(crate) struct Presence<D: Driver> {
    sessions: Arc<Sessions<D>>,
    process: ProcessId,
    connection: Weak<Connection<D>>,
}

impl<D: Driver> Default for Sessions<D> {
    fn default() -> Self {
        let (by_process, parted) = (FxHashMap::default(), VecDeque::new());
        Self {
            state: Mutex::new(State { by_process, parted, has_forgotten: false }),
            losses: Mutex::new(Losses { waiting: VecDeque::new(), is_closed: false }),
            waiting: Arc::default(),
        }
    }
}

impl<D: Driver> Sessions<D> {
    /// A connection of this process came up; `resuming` is itself, if its streams can be attached
    /// elsewhere. What is remembered of the process is charged to an account of its own in `budget`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        process: ProcessId,
        budget: Option<&Arc<Budget>>,
        resuming: Option<&Arc<Connection<D>>>,
    ) -> (Presence<D>, Arc<Session<D>>) {
        let mut state = self.state.lock();
        let State { by_process, has_forgotten, .. } = &mut *state;
        let new = || Session::new(budget, *has_forgotten, Arc::clone(&self.waiting));
        let session = Arc::clone(by_process.entry(process).or_insert_with(new));
        let connection = resuming.map_or_else(Weak::new, Arc::downgrade);
        session.arrive(resuming.map(|_| &connection));
        (Presence { sessions: Arc::clone(self), process, connection }, session)
    }

    /// Keeps streams that have lost their connection for their consumers. Returns those that are not
    /// kept: there is no place for them, or they end with their connection.
    pub(crate) fn keep(
        &self,
        session: &Arc<Session<D>>,
        streams: Vec<Arc<ProducerStream<D>>>,
        loss: &Loss<'_>,
    ) -> Vec<Arc<ProducerStream<D>>> {
        let mut losses = self.losses.lock();
        if losses.is_closed || streams.is_empty() {
            return streams;
        }
        let (others, ends) = session.keep(streams, loss);
        for until in ends {
            // Mostly the last.
            let place = losses.waiting.partition_point(|(other, _)| *other <= until);
            losses.waiting.insert(place, (until, Arc::downgrade(session)));
        }
        others
    }

    /// The session of a process, if it is remembered.
    pub(crate) fn of(&self, process: ProcessId) -> Option<Arc<Session<D>>> {
        self.state.lock().by_process.get(&process).map(Arc::clone)
    }

    /// How many streams wait for their consumers.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` while no stream waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.losses.lock().waiting.front().map(|(until, _)| *until)
    }

    /// Until when the last of the streams of this process waits for its consumer; `None` while none
    /// waits.
    pub fn kept_until(&self, process: ProcessId) -> Option<Instant> {
        let session = self.state.lock().by_process.get(&process).map(Arc::clone);
        session?.kept_until()
    }

    /// Ends the streams whose consumers have not attached in time.
    pub fn handle_timeout(&self, now: Instant) {
        loop {
            let session = {
                let waiting = &mut self.losses.lock().waiting;
                if waiting.front().is_none_or(|(until, _)| *until > now) {
                    return;
                }
                waiting.pop_front()
            };
            let session = session.and_then(|(_, session)| session.upgrade());
            for DetachedStream { stream, error, .. } in
                session.iter().flat_map(|it| it.take_due(Some(now)))
            {
                stream.on_connection_lost(&error);
            }
        }
    }

    /// Ends all waiting streams with `error`, and keeps none from now on. Returns how many of them
    /// had not ended.
    pub fn close(&self, error: &Error) -> usize {
        let waiting = {
            let mut losses = self.losses.lock();
            losses.is_closed = true;
            std::mem::take(&mut losses.waiting)
        };
        let mut cut = 0;
        for session in waiting.iter().filter_map(|(_, session)| session.upgrade()) {
            for DetachedStream { stream, .. } in session.take_due(None) {
                cut += usize::from(stream.runs());
                stream.on_connection_lost(error);
            }
        }
        cut
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.state.lock().by_process.len()
    }
}

impl<D: Driver> Drop for Presence<D> {
    fn drop(&mut self) {
        let State { by_process, parted, has_forgotten } = &mut *self.sessions.state.lock();
        let Some(session) = by_process.get(&self.process) else { return };
        if !session.leave(&self.connection) {
            return;
        }
        parted.push_back(self.process);
        if parted.len() <= PARTED {
            return;
        }
        let Some(oldest) = parted.pop_front() else { return };
        // It may have parted again since, or have a connection.
        let Some(session) = by_process.get(&oldest).filter(|_| !parted.contains(&oldest)) else {
            return;
        };
        if session.keeps_streams() {
            parted.push_back(oldest);
        } else if !session.is_connected() {
            *has_forgotten |= session.has_dropped();
            by_process.remove(&oldest);
        }
    }
}

impl<D: Driver> std::fmt::Debug for Sessions<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("losses", &self.losses.lock().waiting.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::{BudgetUse, Fault, StreamId, budget::Work};

    use super::*;
    use crate::session::ids::{ID_COST_BYTES, REMEMBERED};

    /// Drives nothing.
    struct Nothing;

    impl Driver for Nothing {
        fn transmit(_: &Connection<Self>) {}
        fn transmit_soon(_: &Connection<Self>) {}
        fn flush(_: &Connection<Self>) {}
        fn on_idle(&self) {}
        fn on_refused(&self, _: Fault) {}
        fn on_detached(&self) {}
    }

    fn sessions() -> Arc<Sessions<Nothing>> {
        Arc::default()
    }

    #[test]
    fn the_connections_of_a_process_share_its_ids_and_other_processes_have_their_own() {
        let callers = sessions();
        let enter = |process| callers.enter(ProcessId(process), None, None);
        let ((first, ids), (_second, same), (_other, others)) = (enter(7), enter(7), enter(8));
        let id = StreamId(1);
        assert!(ids.begin(id, 1) && !same.begin(id, 1) && others.begin(id, 1));
        ids.end(id);
        drop((first, ids, _second, same));
        let (_again, ids) = enter(7);
        assert!(!ids.begin(id, 1), "a caller that comes back is remembered");
    }

    fn run(session: &Session<Nothing>, number: u128) {
        assert!(session.begin(StreamId(number), 1));
        session.end(StreamId(number));
    }

    #[test]
    fn what_is_remembered_is_charged_and_is_less_when_the_budget_is_spent() {
        let budget = Budget::new(4 << 20);
        let callers = sessions();
        let (presence, session) = callers.enter(ProcessId(7), Some(&budget), None);
        (0..2_000).for_each(|number| run(&session, number));
        assert_eq!(budget.used(BudgetUse::Ids), REMEMBERED * ID_COST_BYTES);
        drop((presence, session, callers));
        assert_eq!(budget.total(), 0);
        let _all: Vec<_> = (0..4)
            .map(|_| budget.open().hold(BudgetUse::Kept, 1 << 20, Work::Running).unwrap())
            .collect();
        let callers = sessions();
        let (_presence, session) = callers.enter(ProcessId(7), Some(&budget), None);
        (0..2_000).for_each(|number| run(&session, number));
        assert!(!session.is_known(StreamId(1_999)));
    }

    #[test]
    fn callers_that_have_gone_are_forgotten_in_order() {
        let callers = sessions();
        let (_stays, _) = callers.enter(ProcessId(u64::MAX), None, None);
        for process in 0..10_000 {
            drop(callers.enter(ProcessId(process), None, None));
            drop(callers.enter(ProcessId(7), None, None));
        }
        assert!(callers.len() <= PARTED + 1, "{}", callers.len());
        assert!(callers.state.lock().parted.len() <= PARTED);
    }
}
