//! Relief of a spent budget: wakes tasks that wait for room, and ends streams that hold memory for
//! slow readers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Account, Budget};
use crate::Error;

/// How long the budget stays spent before streams are ended for it, and how long these must have
/// waited for their readers. Readers that take what is kept for them free it much sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// A stream that holds bytes of the budget and waits for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stalled {
    /// The instant since when it waits.
    pub since: Instant,
    /// Its number at the holder.
    pub stream: u32,
    /// The bytes that it holds.
    pub bytes: usize,
}

/// Something that holds bytes of the budget for streams and can end them, such as a connection.
pub trait Holder: Send + Sync {
    /// Adds the streams that wait for their readers since `before` or longer.
    fn stalled(&self, before: Instant, to: &mut Vec<Stalled>);

    /// Ends one stream with `error` and frees its memory.
    fn end(&self, stream: u32, error: &Error);
}

/// Something that holds bytes of the budget that it can do without, such as responses that are kept
/// for readers that may come.
pub trait Dispensable: Send + Sync {
    /// Lets go of about so many bytes, if it has them. Returns how many it has released.
    fn give_back(&self, bytes: usize) -> usize;
}

/// Who waits for room, and since when there is none.
#[derive(Default)]
pub(super) struct Relief {
    /// Somebody was refused, and nobody has looked since.
    wanted: AtomicBool,
    keeper: Notify,
    dispensable: Mutex<Vec<Weak<dyn Dispensable>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the address of their account and their number: each waits once.
    waiting: HashMap<(usize, u32), Waiting>,
    spent_since: Option<Instant>,
}

/// A stream that waits for room.
struct Waiting {
    account: Arc<Account>,
    bytes: usize,
    waker: Waker,
}

impl Relief {
    /// Something was refused for want of room.
    pub(super) fn call_for(&self) {
        if !self.wanted.swap(true, Ordering::SeqCst) {
            self.keeper.notify_one();
        }
    }

    /// Something was given back.
    pub(super) fn on_release(&self) {
        if self.wanted.load(Ordering::SeqCst) {
            self.keeper.notify_one();
        }
    }
}

impl Account {
    /// Wakes `waker` when there may be room for `bytes` more. Keeps one waker for each `stream`.
    /// Call it before you try the charge again, so that no release in between is missed. If no task
    /// calls [`wanted`](Budget::wanted), nothing wakes `waker`.
    pub fn wait_for_room(self: &Arc<Self>, stream: u32, bytes: usize, waker: &Waker) {
        let key = (Arc::as_ptr(self) as usize, stream);
        let waiting = Waiting { account: Arc::clone(self), bytes, waker: waker.clone() };
        self.budget().relief.state.lock().waiting.insert(key, waiting);
        self.budget().relief.call_for();
    }
}

impl Budget {
    /// Waits until a charge is refused, or until bytes are released while a stream waits for room.
    /// For the task that relieves the budget: it then calls [`relieve`](Self::relieve), and again
    /// every quarter of a second while that returns true. Cancel-safe.
    pub async fn wanted(&self) {
        self.relief.keeper.notified().await;
    }

    /// Adds a holder that is asked for its bytes before any stream is ended for them, as soon as the
    /// budget is spent. Keeps a weak reference. One for each part of the process, not for each
    /// stream: all of them are asked, in order.
    pub fn takes_first(&self, holder: Weak<dyn Dispensable>) {
        let mut all = self.relief.dispensable.lock();
        all.retain(|holder| holder.strong_count() > 0);
        all.push(holder);
    }

    /// Takes back what can be done without, until a quarter is free.
    fn take_dispensable(&self) {
        let all = self.relief.dispensable.lock().clone();
        for holder in all.iter().filter_map(Weak::upgrade) {
            let surplus = self.total().saturating_sub(self.limit / 4 * 3);
            if surplus == 0 {
                return;
            }
            holder.give_back(surplus);
        }
    }

    /// If the budget is spent, first takes back what can be done without. Wakes the streams that wait
    /// and have room now. If the budget has been spent for two seconds,
    /// also ends the streams that have waited longest for their readers, until a quarter is free.
    ///
    /// True if it has to be called again.
    pub fn relieve(&self, now: Instant) -> bool {
        if self.is_spent() {
            self.take_dispensable();
        }
        let (woken, patience_over) = self.look(now);
        woken.into_iter().for_each(|waiting| waiting.waker.wake());
        if patience_over {
            self.end_stalled(now);
        }
        self.relief.wanted.load(Ordering::SeqCst)
    }

    fn look(&self, now: Instant) -> (Vec<Waiting>, bool) {
        let mut state = self.relief.state.lock();
        let State { waiting, spent_since } = &mut *state;
        let woken = waiting.extract_if(|_, it| it.bytes <= it.account.room());
        let woken = woken.map(|(_, waiting)| waiting).collect();
        if self.is_spent() {
            let since = *spent_since.get_or_insert(now);
            return (woken, now.saturating_duration_since(since) >= PATIENCE);
        }
        *spent_since = None;
        if waiting.is_empty() {
            *waiting = HashMap::new();
            // Before they are woken: who is refused again calls again.
            self.relief.wanted.store(false, Ordering::SeqCst);
        }
        (woken, false)
    }

    fn end_stalled(&self, now: Instant) {
        let Some(before) = now.checked_sub(PATIENCE) else { return };
        let accounts: Vec<_> = self.accounts.lock().all.clone();
        let holders: Vec<Arc<dyn Holder>> =
            accounts.iter().filter_map(|account| account.upgrade()?.holder()).collect();
        let (mut all, mut of_one) = (Vec::new(), Vec::new());
        for (at, holder) in holders.iter().enumerate() {
            holder.stalled(before, &mut of_one);
            all.extend(of_one.drain(..).map(|stalled| (stalled, at)));
        }
        all.sort_unstable();
        let mut surplus = self.total().saturating_sub(self.limit / 4 * 3);
        let error = self.eviction();
        for (stalled, at) in all {
            if surplus == 0 {
                return;
            }
            holders[at].end(stalled.stream, &error);
            surplus = surplus.saturating_sub(stalled.bytes);
        }
    }
}
