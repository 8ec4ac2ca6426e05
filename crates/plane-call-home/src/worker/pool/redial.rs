//! Dials a caller again whose connections were lost with streams on them.
//!
//! The caller consumes those streams, and it cannot dial: it attaches them to the connection that
//! the worker makes.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use sinew_mux_driver::{Connection, ConnectionSet, Dialer};
use sinew_plane::{Backoff, Code, Error, Jitter, ProcessId, Retries};
use tokio_util::sync::CancellationToken;

use super::{Caller, Inner};

/// Longest pause after a dial that failed. A stream waits for 20 s by default.
const MAX_PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// Starts a task for each caller that has no connection and for which streams are kept, unless
    /// one runs.
    pub(super) fn redial_lost(self: &Arc<Self>) {
        let callers: Vec<_> = self.callers.lock().values().map(Arc::clone).collect();
        for caller in callers {
            let Some(process) = caller.process() else { continue };
            let is_cut_off = caller.live().is_none() && self.kept_until(process).is_some();
            if !is_cut_off || caller.is_redialled.swap(true, Ordering::AcqRel) {
                continue;
            }
            let driver = &self.config.driver;
            let base = driver.backoff_base;
            let longest = driver.backoff_max.min(MAX_PAUSE).max(base);
            let pauses =
                |max| Retries::new(Backoff::exponential(base, max).with_jitter(Jitter::Half));
            let redial = Redial {
                pool: Arc::downgrade(self),
                connections: Arc::clone(&self.connections),
                caller,
                process,
                failed: pauses(longest),
                lost: pauses(base * 2),
            };
            self.connections.spawn(redial.run(self.stop.clone()));
        }
    }

    fn kept_until(&self, process: ProcessId) -> Option<Instant> {
        self.connections.kept_until(process)
    }
}

/// Dials one caller for as long as streams are kept for it.
struct Redial {
    pool: Weak<Inner>,
    connections: Arc<ConnectionSet>,
    caller: Arc<Caller>,
    process: ProcessId,
    /// Pauses after dials that failed.
    failed: Retries,
    /// Pauses after connections that were lost before any stream was back. They stay short, because
    /// the caller is there.
    lost: Retries,
}

impl Redial {
    async fn run(mut self, stop: CancellationToken) {
        let ending = self.connections.ending().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = ending.cancelled() => {}
            () = self.dial_until_nothing_waits() => {}
        }
    }

    async fn dial_until_nothing_waits(&mut self) {
        while let Some(until) = self.connections.kept_until(self.process) {
            let pause = match tokio::time::timeout_at(until.into(), self.attempt()).await {
                // Streams were attached meanwhile, and have lost their connection again: mostly while
                // it was up, and perhaps before it was known to be.
                Ok(_) if self.connections.kept_until(self.process) > Some(until) => {
                    self.failed.reset();
                    self.lost.reset();
                    continue;
                }
                Ok(Ok(())) => {
                    self.failed.reset();
                    self.lost.pause()
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "streams wait for a connection to their caller");
                    self.failed.pause()
                }
                // The streams are given up by another task, or are back.
                Err(_) => self.lost.pause(),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Has a connection up to the caller, which attaches what it wants, until that is lost.
    async fn attempt(&self) -> Result<(), Error> {
        let connection = self.connection().await?;
        if let Some(peer) = connection.peer() {
            peer.expect_process(self.process)?;
        }
        connection.closed().await;
        Ok(())
    }

    /// A connection to the caller that is up, or a new one to the first of its addresses that
    /// answers.
    async fn connection(&self) -> Result<Connection, Error> {
        if let Some(connection) = self.caller.live() {
            return Ok(connection);
        }
        let mut last = Error::new(Code::ConnectFailed, "the worker has no address of the caller");
        for place in self.places() {
            match place.connection_at_once().await {
                Ok(connection) => {
                    if let Some(pool) = self.pool.upgrade() {
                        pool.claim();
                    }
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A place at each of the caller's addresses.
    fn places(&self) -> Vec<Arc<Dialer>> {
        let Some(pool) = self.pool.upgrade() else { return Vec::new() };
        let first = pool.first_place(&self.caller, self.caller.at);
        let others = self.caller.others.lock().clone();
        let others = others.iter().filter_map(|address| {
            let at = super::At { address: *address, ..self.caller.at };
            Some(pool.first_place(&*pool.caller(at).ok()?, at))
        });
        std::iter::once(first).chain(others).collect()
    }
}

impl Drop for Redial {
    fn drop(&mut self) {
        self.caller.is_redialled.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
