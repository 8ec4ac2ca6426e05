//! Which instances are left out for a while.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sinew_discovery::Instance;
use sinew_plane::Error;

use crate::Ejections;

/// Decides which instances are left out, from what becomes of the attempts at them.
///
/// Ejection is advice: if all instances are ejected, the router ignores the ejections. The router
/// calls both methods for every request, so they return at once and do not call the router.
pub trait OutlierPolicy: Send + Sync {
    /// Whether the instance is left out.
    fn is_ejected(&self, instance: &Instance, now: Instant) -> bool;

    /// An attempt at the instance has come to this.
    fn record(&self, instance: &Instance, outcome: AttemptOutcome<'_>, now: Instant);
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum AttemptOutcome<'a> {
    /// A handler has the request.
    Served,
    /// There was no connection, a refusal, or the loss of the instance before or amid the
    /// response.
    Failed(&'a Error),
}

/// The policy of a router without another one: [`Ejections`] behind a lock.
pub struct EjectFailed {
    ejections: Mutex<Ejections>,
    /// Whether there may be any: false in the ordinary case, in which nobody locks.
    any: AtomicBool,
}

impl EjectFailed {
    /// Ejections that last for `period`; none if that is zero.
    pub fn new(period: Duration) -> Self {
        Self { ejections: Mutex::new(Ejections::new(period)), any: AtomicBool::new(false) }
    }
}

impl OutlierPolicy for EjectFailed {
    fn is_ejected(&self, instance: &Instance, now: Instant) -> bool {
        self.any.load(Ordering::Acquire) && self.ejections.lock().is_ejected(instance, now)
    }

    fn record(&self, instance: &Instance, outcome: AttemptOutcome<'_>, now: Instant) {
        match outcome {
            AttemptOutcome::Served if !self.any.load(Ordering::Acquire) => {}
            AttemptOutcome::Served => {
                let mut ejections = self.ejections.lock();
                ejections.succeeded(instance.id);
                self.any.store(!ejections.is_empty(), Ordering::Release);
            }
            AttemptOutcome::Failed(error) => {
                let mut ejections = self.ejections.lock();
                ejections.failed(instance, error, now);
                self.any.store(!ejections.is_empty(), Ordering::Release);
            }
        }
    }
}

impl fmt::Debug for EjectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ejections.lock().fmt(f)
    }
}
