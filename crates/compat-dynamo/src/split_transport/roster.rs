//! Who is on the way: the streams of a transport, so that it can be closed.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use sinew_plane::{Code, Error};
use slab::Slab;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;

/// The open streams of a transport, and requests that may become one.
#[derive(Default)]
pub(super) struct Roster(Arc<Shared>);

#[derive(Default)]
struct Shared {
    live: Mutex<Live>,
    /// The last one left.
    empty: Notify,
    /// For requests that have no stream yet.
    cut: CancellationToken,
}

#[derive(Default)]
struct Live {
    entries: Slab<Weak<Exchange>>,
    is_closed: bool,
}

/// The entry of one stream, until it is dropped.
pub(super) struct Place {
    shared: Arc<Shared>,
    key: usize,
}

impl Roster {
    /// Lets a request in.
    pub(super) fn enter(&self) -> Result<Place, Error> {
        let mut live = self.0.live.lock();
        if live.is_closed {
            return Err(Error::new(Code::ConnectFailed, "the transport was closed"));
        }
        let key = live.entries.insert(Weak::new());
        drop(live);
        Ok(Place { shared: Arc::clone(&self.0), key })
    }

    pub(super) fn len(&self) -> usize {
        self.0.live.lock().entries.len()
    }

    /// Waits until what is left is cut.
    pub(super) async fn cut(&self) {
        self.0.cut.cancelled().await;
    }

    /// Lets nobody in any more, waits for the end of all for at most `grace`, and cuts the rest.
    /// Returns how many that were.
    pub(super) async fn close(&self, grace: Duration) -> usize {
        self.0.live.lock().is_closed = true;
        let ended = async {
            loop {
                let left = self.0.empty.notified();
                tokio::pin!(left);
                // Enabled before the look, so that no end between the two is missed.
                left.as_mut().enable();
                if self.0.live.lock().entries.is_empty() {
                    return;
                }
                left.await;
            }
        };
        // Over or not: what is left is counted next.
        let _ = timeout(grace, ended).await;
        let count = self.len();
        // First for those to come, then for those that are there: none falls in between.
        self.0.cut.cancel();
        let streams: Vec<_> = {
            let live = self.0.live.lock();
            live.entries.iter().filter_map(|(_, exchange)| exchange.upgrade()).collect()
        };
        for exchange in streams {
            exchange.cut();
        }
        count
    }
}

impl Place {
    /// The request has become a stream.
    pub(super) fn take(&self, exchange: Weak<Exchange>) {
        if let Some(entry) = self.shared.live.lock().entries.get_mut(self.key) {
            *entry = exchange;
        }
    }

    /// True when a close has cut it before it was a stream.
    pub(super) fn is_cut(&self) -> bool {
        self.shared.cut.is_cancelled()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = self.shared.live.lock();
        live.entries.try_remove(self.key);
        let is_empty = live.entries.is_empty();
        drop(live);
        if is_empty {
            self.shared.empty.notify_waiters();
        }
    }
}
