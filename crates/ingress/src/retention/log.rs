//! The items of one response in the order in which they were sent, and how far its readers are.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    BudgetUse, CancelReason, Checkpoint, Context, Error, Headers, ResponseSink, StopKind, Terminal,
    Window,
    budget::{Account, Tally, Work},
    clock,
};
use tokio::{sync::Notify, time::sleep_until};

use super::{Retain, cancel::ForwardCancel, handler_sink::HandlerSink};

/// How far the handler may be ahead of the fastest reader: the default window of a stream.
const AHEAD: Window = Window { items: 1_024, bytes: 256 << 10 };

/// What an item costs besides its bytes.
const ITEM_COST_BYTES: usize = 64;

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
    /// Passes the cancels of the caller on to the handler, for as long as this is there.
    _forward: Arc<ForwardCancel>,
}

struct State {
    /// Items from number `oldest` on, each with the time at which it came.
    items: VecDeque<(Instant, Bytes)>,
    oldest: u64,
    /// Bytes of those.
    bytes: usize,
    head: Option<Headers>,
    facts: Headers,
    checkpoint: Option<Checkpoint>,
    accepted: bool,
    terminal: Option<Terminal>,
    /// Items below this number were handed to some reader, and their bytes since the beginning.
    furthest: u64,
    unread_bytes: usize,
    /// Items below this number were acknowledged by some reader: they may go.
    acknowledged: u64,
    /// Bytes of the items below that.
    acknowledged_bytes: usize,
    readers: usize,
    /// The number of the first item that a reader without credit waits to read.
    waits_at: u64,
    /// When the last reader went, or the response ended.
    idle_since: Instant,
    handler_waits: Option<Waker>,
    charged: Tally,
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
        account: &Option<Arc<Account>>,
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
        };
        let forward = Arc::new(ForwardCancel(handler.clone()));
        caller.on_cancel(Arc::downgrade(&forward) as _);
        let log = Arc::new(Self {
            retain,
            handler: handler.clone(),
            state: Mutex::new(state),
            news: Notify::new(),
            passed: Notify::new(),
            account: account.clone(),
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
        {
            let mut state = self.state.lock();
            if !state.is_ready() {
                return Err(item);
            }
            let now = clock::now();
            state.bytes += item.len();
            state.unread_bytes += item.len();
            state.items.push_back((now, item));
            self.evict(&mut state, now);
        }
        self.news.notify_waiters();
        Ok(())
    }

    /// Lets go of what need not be kept, and charges the rest. Without room in the budget for what
    /// may go, it goes.
    fn evict(&self, state: &mut State, now: Instant) {
        let may_go = |state: &State| state.oldest < state.acknowledged;
        while may_go(state) && state.exceeds(&self.retain, now) {
            state.drop_oldest();
        }
        if let Some(account) = &self.account {
            while !state.cover(account) && may_go(state) {
                state.drop_oldest();
            }
            let held = state.held_bytes();
            state.charged.settle(held, BudgetUse::Retained, account);
        }
        if state.oldest > state.waits_at {
            state.waits_at = u64::MAX;
            self.passed.notify_waiters();
        }
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
        state.oldest = state.newest();
        state.items = VecDeque::new();
        state.bytes = 0;
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

impl State {
    fn newest(&self) -> u64 {
        self.oldest + self.items.len() as u64
    }

    fn index(&self, number: u64) -> usize {
        let index = number.clamp(self.oldest, self.newest()) - self.oldest;
        index as usize
    }

    /// Bytes of the items from one number to before another, as far as they are kept.
    fn bytes_between(&self, from: u64, to: u64) -> usize {
        let items = self.items.range(self.index(from)..self.index(to));
        items.map(|(_, item)| item.len()).sum()
    }

    fn is_ready(&self) -> bool {
        let unread = self.newest().saturating_sub(self.furthest);
        unread < u64::from(AHEAD.items) && self.unread_bytes < AHEAD.bytes as usize
    }

    fn held_bytes(&self) -> usize {
        self.bytes + self.items.len() * ITEM_COST_BYTES
    }

    fn cover(&mut self, account: &Account) -> bool {
        let held = self.held_bytes();
        self.charged.cover(held, BudgetUse::Retained, account, Work::Running)
    }

    /// True if more is kept behind the newest acknowledged item than is to be.
    fn exceeds(&self, retain: &Retain, now: Instant) -> bool {
        let is_old =
            |(came, _): &(Instant, Bytes)| now.saturating_duration_since(*came) > retain.time;
        self.index(self.acknowledged) > retain.items
            || self.acknowledged_bytes > retain.bytes
            || self.items.front().is_some_and(is_old)
    }

    fn drop_oldest(&mut self) {
        if let Some((_, item)) = self.items.pop_front() {
            self.bytes -= item.len();
            if self.oldest < self.acknowledged {
                self.acknowledged_bytes -= item.len();
            }
            self.oldest += 1;
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
