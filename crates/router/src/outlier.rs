//! The trait of the policy that ejects instances for a while.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sinew_discovery::Instance;
use sinew_plane::Error;

use crate::Ejections;

/// Decides which instances are ejected, from the results of the attempts at them.
///
/// Ejection is advice: if all instances are ejected, the router ignores the ejections. The router
/// calls both methods for every request, so they return at once and do not call the router.
pub trait OutlierPolicy: Send + Sync {
    /// True while the instance is ejected.
    fn is_ejected(&self, instance: &Instance, now: Instant) -> bool;

    /// Records the result of an attempt at the instance.
    fn record(&self, instance: &Instance, outcome: AttemptOutcome<'_>, now: Instant);
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum AttemptOutcome<'a> {
    /// A worker has accepted the request.
    Served,
    /// No connection could be made, the instance refused the request, or it was lost before or
    /// during the response.
    Failed(&'a Error),
}

/// The policy of a router without another one: [`Ejections`] behind a lock.
pub struct EjectFailed {
    ejections: Mutex<Ejections>,
    /// True if there may be an ejection. Usually false, and then no lock is taken.
    any: AtomicBool,
}

impl EjectFailed {
    /// Makes a policy whose ejections last for `period`; zero turns them off.
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
