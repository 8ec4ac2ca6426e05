//! The streams that run at one end, so that the end can drain, wait for them, and cut them.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use sinew_plane::{CancelReason, Shutdown};
use tokio::sync::Notify;

use crate::exchange::Exchange;

/// The streams of one server or of one client.
#[derive(Debug)]
pub(crate) struct Roster {
    state: Mutex<State>,
    emptied: Notify,
    max_streams: usize,
}

#[derive(Debug, Default)]
struct State {
    draining: bool,
    /// Weak, because an exchange knows its rosters: its sink and its stream keep it alive.
    streams: HashMap<u64, Weak<Exchange>>,
}

/// Why a stream was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Draining,
    Full,
}

impl Roster {
    pub(crate) fn new(max_streams: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), emptied: Notify::new(), max_streams })
    }

    /// Enters a stream, under a serial number that is unique on its hub.
    pub(crate) fn admit(&self, serial: u64, exchange: &Arc<Exchange>) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        if state.draining {
            return Err(Refusal::Draining);
        }
        if state.streams.len() >= self.max_streams {
            return Err(Refusal::Full);
        }
        state.streams.insert(serial, Arc::downgrade(exchange));
        Ok(())
    }

    /// Strikes a stream off. Striking it off again changes nothing.
    pub(crate) fn strike(&self, serial: u64) {
        let empty = {
            let mut state = self.state.lock();
            state.streams.remove(&serial).is_some() && state.streams.is_empty()
        };
        if empty {
            self.emptied.notify_waiters();
        }
    }

    /// Admits nothing from now on.
    pub(crate) fn drain(&self) {
        self.state.lock().draining = true;
    }

    /// Drains, gives what runs `grace` to end, cuts the rest. Dropped midway, it has drained and
    /// cut nothing.
    pub(crate) async fn shutdown(&self, grace: Duration, reason: CancelReason) -> Shutdown {
        self.drain();
        // Past the grace the rest is cut, which is what the count reports.
        let _ = tokio::time::timeout(grace, self.until_empty()).await;
        self.cut_all(reason)
    }

    /// Cuts what runs. There are no tasks to join: handlers belong to who made them.
    pub(crate) fn cut_all(&self, reason: CancelReason) -> Shutdown {
        let streams = std::mem::take(&mut self.state.lock().streams);
        // Outside the lock, which a cut takes again through the exchange's other roster.
        let exchanges = streams.into_values().filter_map(|exchange| exchange.upgrade());
        let cut_streams = exchanges.filter(|exchange| exchange.cut(reason)).count();
        self.emptied.notify_waiters();
        Shutdown { cut_streams, cut_tasks: 0 }
    }

    async fn until_empty(&self) {
        loop {
            // Made before the look, so that an end between the look and the wait is not missed.
            let emptied = self.emptied.notified();
            if self.state.lock().streams.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}
