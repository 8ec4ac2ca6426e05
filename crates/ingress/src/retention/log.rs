//! The items of one response in the order in which they were sent, and how far its readers are.

mod state;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    BudgetUse, CancelReason, Checkpoint, Context, Error, Headers, ResponseSink, StopKind, Terminal,
    budget::{Account, Tally},
    clock,
};
use tokio::{sync::Notify, time::sleep_until};

use self::state::State;
use super::{Retain, Retention, cancel::ForwardCancel, handler_sink::HandlerSink};

/// What a response costs besides its items: the log and its task, and some room.
pub(super) const LOG_COST_BYTES: usize = 2 << 10;

/// One response that is kept.
pub(super) struct Log {
    retain: Retain,
    /// The handler's, apart from that of the caller, whose loss is not the end of the response.
    pub(super) handler: Context,
    state: Mutex<State>,
    /// Something was added, or a reader has come or gone.
    pub(super) news: Notify,
    /// The item is gone that a reader without credit would read next.
    passed: Notify,
    account: Option<Arc<Account>>,
    /// All logs of the process.
    retention: Weak<Retention>,
    /// Passes the cancels of the caller on to the handler, for as long as this is there.
    _forward: Arc<ForwardCancel>,
}

/// In which order logs are let go of when their memory is needed: the smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// It has ended, and all of it was sent to some reader; the instant since when nobody reads.
    Read(Instant),
    /// Nobody waits for some of its items, but somebody writes or reads others.
    InUse,
    /// It has ended, and nobody reads the rest of it, since that instant.
    Unread(Instant),
}

/// What a reader finds at its position.
pub(super) enum Next {
    Item(Bytes),
    /// Nothing yet.
    Nothing,
    /// The item is gone. Those from `oldest` to before `newest` are there.
    Expired {
        oldest: u64,
        newest: u64,
    },
    End(Terminal, Headers),
}

/// A reader that is counted, and the number of its first item.
pub(super) struct Entered {
    log: Arc<Log>,
    pub(super) first: u64,
}

impl Log {
    /// Makes the log of a request, and what its handler gets: a context and a sink.
    pub(super) fn begin(
        retain: Retain,
        caller: &Context,
        retention: &Arc<Retention>,
    ) -> (Arc<Self>, Context, ResponseSink) {
        let handler = caller.apart();
        let state = State {
            items: VecDeque::new(),
            oldest: 0,
            bytes: 0,
            head: None,
            facts: Headers::new(),
            checkpoint: None,
            accepted: false,
            terminal: None,
            furthest: 0,
            unread_bytes: 0,
            acknowledged: 0,
            acknowledged_bytes: 0,
            readers: 0,
            waits_at: u64::MAX,
            idle_since: clock::now(),
            handler_waits: None,
            charged: Tally::default(),
            cost: LOG_COST_BYTES,
            is_over: false,
        };
        let forward = Arc::new(ForwardCancel(handler.clone()));
        caller.on_cancel(Arc::downgrade(&forward) as _);
        let log = Arc::new(Self {
            retain,
            handler: handler.clone(),
            state: Mutex::new(state),
            news: Notify::new(),
            passed: Notify::new(),
            account: retention.account.clone(),
            retention: Arc::downgrade(retention),
            _forward: forward,
        });
        let target = Arc::new(HandlerSink(Arc::clone(&log)));
        handler.on_cancel(Arc::downgrade(&target) as _);
        let sink = ResponseSink::new(target, handler.clone());
        (log, handler, sink)
    }

    /// Counts a reader from this item on.
    pub(super) fn enter(self: &Arc<Self>, first: u64) -> Entered {
        self.state.lock().readers += 1;
        self.news.notify_waiters();
        Entered { log: Arc::clone(self), first }
    }

    /// Keeps the waker of the handler, which is ahead of all readers.
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.is_ready() {
            return false;
        }
        state.handler_waits = Some(waker.clone());
        true
    }

    pub(super) fn wake_handler(&self) {
        let waker = self.state.lock().handler_waits.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Adds an item, if there is room ahead of the readers.
    ///
    /// # Errors
    /// The item, without room.
    pub(super) fn push(&self, item: Bytes) -> Result<(), Bytes> {
        let now = clock::now();
        let has_room = {
            let mut state = self.state.lock();
            if !state.is_ready() {
                return Err(item);
            }
            state.bytes += item.len();
            state.unread_bytes += item.len();
            state.items.push_back((now, item));
            self.evict(&mut state, now)
        };
        self.news.notify_waiters();
        if !has_room && let Some(retention) = self.retention.upgrade() {
            retention.make_room(now);
        }
        Ok(())
    }

    /// Lets go of what need not be kept, and charges the rest. Without room in the budget for what
    /// may go, it goes. False if there was none.
    fn evict(&self, state: &mut State, now: Instant) -> bool {
        let may_go = |state: &State| state.oldest < state.acknowledged;
        while may_go(state) && state.exceeds(&self.retain, now) {
            state.drop_oldest();
        }
        let mut has_room = true;
        if let Some(account) = &self.account {
            while !state.cover(account) {
                has_room = false;
                if !may_go(state) {
                    break;
                }
                state.drop_oldest();
            }
            let held = state.held_bytes();
            state.charged.settle(held, BudgetUse::Retained, account);
        }
        if state.oldest > state.waits_at {
            state.waits_at = u64::MAX;
            self.passed.notify_waiters();
        }
        has_room
    }

    /// How soon it may be let go of, as far as it can do without something.
    pub(super) fn worth(&self) -> Option<Worth> {
        let state = self.state.lock();
        if state.is_over {
            return None;
        }
        if state.readers > 0 || state.terminal.is_none() {
            return (state.oldest < state.acknowledged).then_some(Worth::InUse);
        }
        let is_read = state.furthest >= state.newest();
        Some(if is_read { Worth::Read } else { Worth::Unread }(state.idle_since))
    }

    /// Lets go of items that nobody waits for, about `bytes` of them, or of all if nobody writes or
    /// reads. Returns the bytes that are released from the budget.
    pub(super) fn give_back(&self, bytes: usize) -> usize {
        let mut state = self.state.lock();
        let charged = state.charged.charged();
        if state.readers == 0 && state.terminal.is_some() {
            state.is_over = true;
            state.clear();
        }
        let enough = state.held_bytes().saturating_sub(bytes);
        while state.oldest < state.acknowledged && state.held_bytes() > enough {
            state.drop_oldest();
        }
        if let Some(account) = &self.account {
            state.charged.clear(BudgetUse::Retained, account);
            // What is left fits, as it was charged until now; if somebody is faster, later.
            let _ = state.cover(account);
        }
        let released = charged.saturating_sub(state.charged.charged());
        if state.oldest > state.waits_at {
            state.waits_at = u64::MAX;
            self.passed.notify_waiters();
        }
        drop(state);
        self.news.notify_waiters();
        released
    }

    pub(super) fn set_head(&self, head: Headers) {
        self.state.lock().head.get_or_insert(head);
        self.news.notify_waiters();
    }

    pub(super) fn set_facts(&self, facts: Headers) {
        self.state.lock().facts = facts;
    }

    pub(super) fn set_checkpoint(&self, checkpoint: Checkpoint) {
        self.state.lock().checkpoint = Some(checkpoint);
    }

    pub(super) fn accept(&self) {
        self.state.lock().accepted = true;
        self.news.notify_waiters();
    }

    /// The handler has ended the response.
    pub(super) fn finish(&self, terminal: Terminal) {
        {
            let mut state = self.state.lock();
            state.terminal.get_or_insert(terminal);
            state.idle_since = clock::now();
        }
        self.news.notify_waiters();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state.lock().terminal.is_some()
    }

    pub(super) fn head(&self) -> Option<Headers> {
        self.state.lock().head.clone()
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.state.lock().accepted
    }

    /// The newest checkpoint, if it covers exactly so many items.
    pub(super) fn checkpoint_at(&self, items: u64) -> Option<Checkpoint> {
        self.state.lock().checkpoint.as_ref().filter(|it| it.items == items).cloned()
    }

    /// What a reader finds at `position`.
    pub(super) fn next(&self, position: u64) -> Next {
        let mut state = self.state.lock();
        self.evict(&mut state, clock::now());
        let newest = state.newest();
        if position < state.oldest || position > newest {
            return Next::Expired { oldest: state.oldest, newest };
        }
        match state.items.get((position - state.oldest) as usize) {
            Some((_, item)) => Next::Item(item.clone()),
            None => match &state.terminal {
                Some(terminal) => Next::End(terminal.clone(), state.facts.clone()),
                None => Next::Nothing,
            },
        }
    }

    /// Waits until the item at `position` is gone. Cancel-safe.
    pub(super) async fn passes(&self, position: u64) {
        loop {
            // Before the look: from here on no news is missed.
            let passed = self.passed.notified();
            {
                let mut state = self.state.lock();
                if state.oldest > position {
                    return;
                }
                state.waits_at = state.waits_at.min(position);
            }
            passed.await;
        }
    }

    /// How long a reader that comes later may take nothing.
    pub(super) fn patience(&self) -> Duration {
        self.retain.time
    }

    /// A reader was handed the items below `position`, and has acknowledged those below
    /// `acknowledged`. Items that are still to come count for neither.
    pub(super) fn advance(&self, position: u64, acknowledged: u64) {
        let waker = {
            let mut state = self.state.lock();
            let newest = state.newest();
            let (position, acknowledged) = (position.min(newest), acknowledged.min(newest));
            if acknowledged > state.acknowledged {
                state.acknowledged_bytes += state.bytes_between(state.acknowledged, acknowledged);
                state.acknowledged = acknowledged;
            }
            if position <= state.furthest {
                return;
            }
            state.unread_bytes -= state.bytes_between(state.furthest, position);
            state.furthest = position;
            if state.is_ready() { state.handler_waits.take() } else { None }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until nobody reads any more and the time to keep the response is over. A handler that
    /// still runs by then is cancelled.
    pub(super) async fn expire(&self) {
        loop {
            // Before the look: from here on no news is missed.
            let news = self.news.notified();
            let (until, is_finished) = {
                let state = self.state.lock();
                if state.is_over {
                    return;
                }
                let until = state.idle_since.checked_add(self.retain.time);
                (until.filter(|_| state.readers == 0), state.terminal.is_some())
            };
            let over = async {
                match until {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = news => continue,
                () = over => {}
            }
            if is_finished {
                return;
            }
            self.handler.cancel(StopKind::Kill, CancelReason::Disconnected);
            // Its end is the next news; it has as long again for it.
            self.state.lock().idle_since = clock::now();
        }
    }

    /// Lets go of everything.
    pub(super) fn clear(&self) {
        let mut state = self.state.lock();
        state.clear();
        if let Some(account) = &self.account {
            state.charged.clear(BudgetUse::Retained, account);
        }
        drop(state);
        self.news.notify_waiters();
    }

    /// The error of a reader whose next item is gone.
    pub(super) fn expired(next: u64, (oldest, newest): (u64, u64)) -> Error {
        let message =
            format!("item {next} is not kept: those from {oldest} to before {newest} are");
        Error::resume_expired(oldest, newest, message)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            self.state.get_mut().charged.clear(BudgetUse::Retained, account);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        {
            let mut state = self.log.state.lock();
            state.readers -= 1;
            state.idle_since = clock::now();
        }
        self.log.news.notify_waiters();
    }
}
