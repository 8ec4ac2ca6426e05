//! The processes of this host that own entries, and whether they run.

use std::collections::HashMap;

use crate::{
    process::{self, State},
    record::Owner,
};

/// Processes whose state is read at one look, in turn. Reading one costs some 10 microseconds.
const ASKED_AT_ONCE: usize = 32;

/// Owners and the files of their entries. One process often owns many.
#[derive(Default)]
pub(super) struct Owners {
    each: HashMap<Owner, Owned>,
    /// Some entries are others, or have other owners, than those in `each`.
    is_stale: bool,
    /// Whose turn it is to be asked after.
    turn: usize,
}

/// The entries of one owner.
#[derive(Default)]
struct Owned {
    names: Vec<String>,
    /// Whether it ran when asked last, which its entries say, too: at most looks nothing has
    /// changed, and the entries need no look.
    was_running: Option<bool>,
}

impl Owners {
    /// Entries have come or gone, or have other owners.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Takes in who owns what, if that is in doubt.
    pub(super) fn refresh<E>(&mut self, entries: impl FnOnce() -> E)
    where
        E: Iterator<Item = (Owner, String)>,
    {
        if std::mem::take(&mut self.is_stale) {
            self.each.clear();
            for (owner, name) in entries() {
                self.each.entry(owner).or_default().names.push(name);
            }
        }
    }

    /// Asks the kernel after some of them completely, and after the others whether they are gone.
    /// `tell` hears of those whose state is other than before, and of those that have ended.
    pub(super) fn ask(&mut self, mut tell: impl FnMut(Owner, State, &[String])) {
        let (count, turn) = (self.each.len(), self.turn);
        for (at, (owner, owned)) in self.each.iter_mut().enumerate() {
            let is_its_turn = (at + count - turn % count) % count < ASKED_AT_ONCE;
            let state = if is_its_turn {
                process::state(*owner)
            } else if process::is_gone(*owner) {
                State::Ended
            } else {
                continue;
            };
            let is_running = state == State::Runs;
            let is_news = owned.was_running.replace(is_running) != Some(is_running);
            if is_news || state == State::Ended {
                tell(*owner, state, &owned.names);
            }
        }
        self.turn = turn.wrapping_add(ASKED_AT_ONCE);
    }
}
