//! Where the streams of one dialler wait that have lost their connection, or are to leave one.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sinew_mux::Detached;
use sinew_plane::Address;
use tokio::sync::Notify;

use crate::connection::{MuxConnection, Tasks};

/// Where the streams of one connection go that lose it, and who is woken for them.
pub(crate) enum Losing {
    /// Those of the peer stay with the sessions of this side, and this side sees to another
    /// connection.
    Served(Arc<Notify>),
    /// Those of this side wait there; the peer makes another connection.
    Accepted(Arc<Detached<Tasks>>, Arc<Notify>),
    /// Those of this side wait there, and this side dials again.
    Dialled(Arc<ComingBack>),
}

impl Losing {
    pub(crate) fn wake(&self) -> &Arc<Notify> {
        match self {
            Self::Served(wake) | Self::Accepted(_, wake) => wake,
            Self::Dialled(back) => &back.wake,
        }
    }

    /// Where those of this side wait.
    pub(crate) fn detached(&self) -> Option<&Arc<Detached<Tasks>>> {
        match self {
            Self::Served(_) => None,
            Self::Accepted(detached, _) => Some(detached),
            Self::Dialled(back) => Some(&back.detached),
        }
    }
}

/// What the connections of a dialler share with the task that has their streams come back.
pub(crate) struct ComingBack {
    /// The address that they were dialled at.
    pub(crate) address: Address,
    /// The streams that have lost their connection.
    pub(crate) detached: Arc<Detached<Tasks>>,
    /// Wakes the task.
    pub(crate) wake: Arc<Notify>,
    /// Connections whose peers have said goaway: each once.
    leaving: Mutex<Vec<Weak<MuxConnection>>>,
}

impl ComingBack {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, detached: Arc::default(), wake: Arc::default(), leaving: Mutex::default() }
    }

    /// The peer of this connection takes no new streams on it.
    pub(crate) fn leave(&self, connection: &Arc<MuxConnection>) {
        {
            let mut leaving = self.leaving.lock();
            let is_known =
                |it: &Weak<MuxConnection>| std::ptr::eq(it.as_ptr(), &raw const **connection);
            if leaving.iter().any(is_known) {
                return;
            }
            leaving.push(Arc::downgrade(connection));
        }
        self.wake.notify_one();
    }

    /// The connections that streams are to leave.
    pub(crate) fn take_leaving(&self) -> Vec<Arc<MuxConnection>> {
        let leaving = std::mem::take(&mut *self.leaving.lock());
        leaving.iter().filter_map(Weak::upgrade).collect()
    }
}
