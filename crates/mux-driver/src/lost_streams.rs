//! The streams that this side has opened on a connection which it accepted, and that have lost it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_mux::Detached;
use sinew_plane::clock;
use tokio::sync::Notify;

use crate::{
    coming_back::Losing,
    connection::{Connection, Tasks},
};

/// Where the streams wait that this side has opened on one accepted connection and that have lost it.
///
/// This side cannot dial: whoever holds this value attaches the streams when the peer has another
/// connection here. Clones are handles to the same streams. Streams wait for ever unless
/// [`expired`](Self::expired) is polled, or [`close`](Self::close) is called.
#[derive(Debug, Clone, Default)]
pub struct LostStreams {
    detached: Arc<Detached<Tasks>>,
    wake: Arc<Notify>,
}

impl LostStreams {
    pub(crate) fn losing(&self) -> Losing {
        Losing::Accepted(Arc::clone(&self.detached), Arc::clone(&self.wake))
    }

    /// True while no stream waits.
    pub fn is_empty(&self) -> bool {
        self.detached.is_empty()
    }

    /// Attaches the streams to this connection of the same peer, with one write. True when none
    /// waits any more; otherwise the connection takes no more streams, for now or for good.
    pub fn attach(&self, connection: &Connection) -> bool {
        if let Ok(done) = self.detached.reattach(&connection.0) {
            connection.tasks().streams.resumed_all(&done.streams);
        }
        let all = self.is_empty();
        if all {
            // Who waits for what is due has nothing to wait for.
            self.wake.notify_one();
        }
        all
    }

    /// Waits until the next of the streams has waited for as long as it may, and ends what is due;
    /// or until `pause` is over, or further streams are lost. Returns at once when none waits.
    /// Cancel-safe.
    pub async fn expired(&self, pause: Option<Duration>) {
        let Some(until) = self.detached.poll_timeout() else { return };
        let now = clock::now();
        let wait = pause.and_then(|pause| now.checked_add(pause));
        let until = wait.map_or(until, |wait: Instant| wait.min(until));
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
        self.detached.handle_timeout(clock::now());
    }

    /// Ends the streams that wait: the peer is gone.
    pub fn end(&self) {
        self.detached.end();
    }

    /// Ends the streams that wait, and each that loses the connection later.
    pub fn close(&self) {
        self.detached.close();
    }
}
