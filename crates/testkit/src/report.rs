//! What handlers tell the case that runs them.

use std::fmt::Display;

use tokio::sync::mpsc::{self, error::TrySendError};

use crate::within;

/// Reports that may be waiting: the largest case has 200 streams with one report each.
const WAITING: usize = 256;

/// A way from handlers to their case.
pub fn reports<T>() -> (Reporter<T>, Reports<T>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Reporter(sender), Reports(receiver))
}

/// The handlers' end.
#[derive(Debug)]
pub struct Reporter<T>(mpsc::Sender<T>);

impl<T> Reporter<T> {
    /// Tells the case something. A case that is over is not told.
    ///
    /// # Panics
    /// When 256 reports wait already: then the case counts on reports that it does not read.
    pub fn tell(&self, report: T) {
        if let Err(TrySendError::Full(_)) = self.0.try_send(report) {
            panic!("{WAITING} reports of handlers wait unread");
        }
    }
}

// Not derived: that would ask for `T: Clone`.
impl<T> Clone for Reporter<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The case's end.
#[derive(Debug)]
pub struct Reports<T>(mpsc::Receiver<T>);

impl<T> Reports<T> {
    /// The next report, waiting for it as [`within`] does.
    ///
    /// # Panics
    /// When it does not come, or nobody is left to send it.
    pub async fn next(&mut self, awaited: impl Display) -> T {
        match within(&awaited, self.0.recv()).await {
            Some(report) => report,
            None => panic!("nobody is left to report {awaited}"),
        }
    }

    /// True when no report waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
