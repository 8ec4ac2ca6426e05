//! What is kept of one response, and how far its readers are.

use std::{collections::VecDeque, task::Waker, time::Instant};

use bytes::Bytes;
use sinew_plane::{
    BudgetUse, Checkpoint, Headers, Terminal, Window,
    budget::{Account, Tally, Work},
};

use super::super::Retain;

/// How far the handler may be ahead of the fastest reader: the default window of a stream.
const AHEAD: Window = Window { items: 1_024, bytes: 256 << 10 };

/// What an item costs besides its bytes.
const ITEM_COST_BYTES: usize = 64;

pub(super) struct State {
    /// Items from number `oldest` on, each with the time at which it came.
    pub(super) items: VecDeque<(Instant, Bytes)>,
    pub(super) oldest: u64,
    /// Bytes of those.
    pub(super) bytes: usize,
    pub(super) head: Option<Headers>,
    pub(super) facts: Headers,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) accepted: bool,
    pub(super) terminal: Option<Terminal>,
    /// Items below this number were handed to some reader, and their bytes since the beginning.
    pub(super) furthest: u64,
    pub(super) unread_bytes: usize,
    /// Items below this number were acknowledged by some reader: they may go.
    pub(super) acknowledged: u64,
    /// Bytes of the items below that.
    pub(super) acknowledged_bytes: usize,
    pub(super) readers: usize,
    /// The number of the first item that a reader without credit waits to read.
    pub(super) waits_at: u64,
    /// When the last reader went, or the response ended.
    pub(super) idle_since: Instant,
    pub(super) handler_waits: Option<Waker>,
    pub(super) charged: Tally,
    /// What it costs besides its items, until it is let go of.
    pub(super) cost: usize,
    /// It is let go of before its time.
    pub(super) is_over: bool,
}

impl State {
    pub(super) fn clear(&mut self) {
        self.oldest = self.newest();
        self.items = VecDeque::new();
        (self.bytes, self.acknowledged_bytes, self.cost) = (0, 0, 0);
    }

    pub(super) fn newest(&self) -> u64 {
        self.oldest + self.items.len() as u64
    }

    pub(super) fn index(&self, number: u64) -> usize {
        let index = number.clamp(self.oldest, self.newest()) - self.oldest;
        index as usize
    }

    /// Bytes of the items from one number to before another, as far as they are kept.
    pub(super) fn bytes_between(&self, from: u64, to: u64) -> usize {
        let items = self.items.range(self.index(from)..self.index(to));
        items.map(|(_, item)| item.len()).sum()
    }

    pub(super) fn is_ready(&self) -> bool {
        let unread = self.newest().saturating_sub(self.furthest);
        unread < u64::from(AHEAD.items) && self.unread_bytes < AHEAD.bytes as usize
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.cost + self.bytes + self.items.len() * ITEM_COST_BYTES
    }

    pub(super) fn cover(&mut self, account: &Account) -> bool {
        let held = self.held_bytes();
        self.charged.cover(held, BudgetUse::Retained, account, Work::Running)
    }

    /// True if more is kept behind the newest acknowledged item than is to be.
    pub(super) fn exceeds(&self, retain: &Retain, now: Instant) -> bool {
        let is_old =
            |(came, _): &(Instant, Bytes)| now.saturating_duration_since(*came) > retain.time;
        self.index(self.acknowledged) > retain.items
            || self.acknowledged_bytes > retain.bytes
            || self.items.front().is_some_and(is_old)
    }

    pub(super) fn drop_oldest(&mut self) {
        if let Some((_, item)) = self.items.pop_front() {
            self.bytes -= item.len();
            if self.oldest < self.acknowledged {
                self.acknowledged_bytes -= item.len();
            }
            self.oldest += 1;
        }
    }
}
