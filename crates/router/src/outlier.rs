//! The trait of the policy that ejects instances for a while.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sinew_discovery::Instance;
use sinew_plane::{AppCode, Code, Error, Executed, Fault};

use crate::Ejections;

/// Decides which instances are ejected, from the results of the attempts at them.
///
/// Ejection is advice: if all instances are ejected, the router ignores the ejections. The router
/// calls both methods for every request, so they return at once and do not call the router.
///
/// The router does not record errors of the caller: a cancel, a deadline, a request that cannot be
/// encoded or decoded, or that is too large. A handler that refuses a request with an application
/// code, such as `INVALID_ARGUMENT`, has served it.
pub trait OutlierPolicy: Send + Sync {
    /// True while the instance is ejected.
    fn is_ejected(&self, instance: &Instance, now: Instant) -> bool;

    /// Records the result of an attempt at the instance.
    fn record(&self, instance: &Instance, outcome: AttemptOutcome<'_>, now: Instant);
}

impl<P: OutlierPolicy + ?Sized> OutlierPolicy for Arc<P> {
    fn is_ejected(&self, instance: &Instance, now: Instant) -> bool {
        (**self).is_ejected(instance, now)
    }

    fn record(&self, instance: &Instance, outcome: AttemptOutcome<'_>, now: Instant) {
        (**self).record(instance, outcome, now);
    }
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

/// The outcome of an attempt that failed; `None` for an error of the caller.
pub(crate) fn outcome_of(error: &Error) -> Option<AttemptOutcome<'_>> {
    // The handler ran, where this code alone would not say so: it passes on an error of a service
    // that it called itself.
    let is_passed_on = |code: Code| {
        error.executed() == Executed::Yes
            && code.executed() != Executed::Yes
            && matches!(error.fault(), Fault::Transport | Fault::Resource)
    };
    match error.code() {
        code if is_passed_on(code) => Some(AttemptOutcome::Served),
        Code::Cancelled | Code::DeadlineExceeded | Code::InvalidPayload | Code::TooLarge => None,
        Code::HandlerFailed if error.app_code().is_some_and(is_of_the_request) => {
            Some(AttemptOutcome::Served)
        }
        _ => Some(AttemptOutcome::Failed(error)),
    }
}

/// True for a code with which a working handler refuses a request. A code of the service's own is
/// one as well: the handler has decided to send it.
fn is_of_the_request(code: AppCode) -> bool {
    !matches!(
        code,
        AppCode::UNKNOWN | AppCode::INTERNAL | AppCode::UNAVAILABLE | AppCode::DATA_LOSS
    )
}

impl fmt::Debug for EjectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ejections.lock().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_caller_says_nothing_of_the_instance() {
        for code in Code::ALL {
            let error = Error::new(*code, "");
            let own = matches!(
                code,
                Code::Cancelled | Code::DeadlineExceeded | Code::InvalidPayload | Code::TooLarge
            );
            let failed = matches!(outcome_of(&error), Some(AttemptOutcome::Failed(_)));
            assert_eq!(failed, !own, "{code}");
            assert_eq!(outcome_of(&error).is_none(), own, "{code}");
        }
        let says = |code| Error::application(code, "");
        for code in [AppCode::INVALID_ARGUMENT, AppCode::NOT_FOUND, AppCode::UNAUTHENTICATED] {
            assert!(matches!(outcome_of(&says(code)), Some(AttemptOutcome::Served)), "{code:?}");
        }
        for code in [AppCode::INTERNAL, AppCode::UNAVAILABLE] {
            assert!(matches!(outcome_of(&says(code)), Some(AttemptOutcome::Failed(_))), "{code:?}");
        }
    }

    #[test]
    fn an_error_that_a_handler_passes_on_says_nothing_of_its_instance() {
        for code in [Code::ConnectFailed, Code::ConnectionLost, Code::Draining, Code::Overloaded] {
            let own = Error::new(code, "");
            assert!(matches!(outcome_of(&own), Some(AttemptOutcome::Failed(_))), "{code}");
            let passed_on = own.with_executed(Executed::Yes);
            assert!(matches!(outcome_of(&passed_on), Some(AttemptOutcome::Served)), "{code}");
        }
        let truncated = Error::new(Code::Truncated, "").with_executed(Executed::Yes);
        assert!(matches!(outcome_of(&truncated), Some(AttemptOutcome::Failed(_))));
    }
}
