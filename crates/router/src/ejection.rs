//! Ejections: instances that failed recently and get no requests for a while.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sinew_discovery::Instance;
use sinew_plane::{Code, Error, Incarnation, InstanceId};

/// How long an instance is ejected that refused a request as overloaded and gave no retry hint. An
/// instance that stays full then gets at most ten requests a second, which is what [`RetryBudgetConfig`]
/// allows beside its percentage. Without this, a strategy by load would take an instance that
/// refuses at once for idle, send it every request first, and use up the retry budget.
///
/// [`RetryBudgetConfig`]: crate::RetryBudgetConfig
const OVERLOAD_REST: Duration = Duration::from_millis(100);

/// The instances to which the router sends no requests for a short time, because it could not reach
/// them or they refused a request. Without ejections, the router would send requests to a dead
/// worker until discovery removes it.
///
/// Ejection is advice: if all instances are ejected, the router ignores the ejections. An ejection
/// does not apply to an instance that registers again under another incarnation.
#[derive(Debug)]
pub struct Ejections {
    period: Duration,
    ejected: HashMap<InstanceId, (Incarnation, Instant)>,
}

impl Ejections {
    /// No ejections yet. Ejections last for `period`; zero turns them off.
    pub fn new(period: Duration) -> Self {
        Self { period, ejected: HashMap::new() }
    }

    /// Ejects the instance if the error means that it will not serve the next request either. An
    /// overloaded instance is ejected for the time of its retry hint, up to the period, or for 100
    /// ms without a hint.
    pub fn failed(&mut self, instance: &Instance, error: &Error, now: Instant) {
        let period = match error.code() {
            Code::ConnectFailed
            | Code::ConnectTimedOut
            | Code::ConnectionLost
            | Code::AcceptTimedOut
            | Code::Violation
            | Code::Truncated
            | Code::NoTransport
            | Code::Version
            | Code::WrongPeer
            | Code::Draining
            | Code::UnknownEndpoint => self.period,
            // A server may ask for rest, but not put itself out of sight.
            Code::Overloaded => error.retry_after().unwrap_or(OVERLOAD_REST).min(self.period),
            _ => return,
        };
        if period.is_zero() {
            return;
        }
        // What has expired goes when something is added, so the table holds at most the
        // instances that failed within one period.
        self.ejected.retain(|_, (_, until)| now < *until);
        self.ejected.insert(instance.id, (instance.incarnation, now + period));
    }

    /// Ends the ejection of an instance, which has served a request.
    pub fn succeeded(&mut self, id: InstanceId) {
        if !self.ejected.is_empty() {
            self.ejected.remove(&id);
        }
    }

    /// True if no ejection is recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.ejected.is_empty()
    }

    /// True while the instance is ejected.
    pub fn is_ejected(&self, instance: &Instance, now: Instant) -> bool {
        self.ejected
            .get(&instance.id)
            .is_some_and(|(life, until)| *life == instance.incarnation && now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: u64) -> Instance {
        Instance::new("a/b/c".parse().unwrap(), InstanceId(id), Vec::new())
    }

    fn ejections() -> (Ejections, Instant) {
        (Ejections::new(Duration::from_secs(1)), Instant::now())
    }

    #[test]
    fn an_ejection_ends_with_time_with_success_and_with_a_new_life() {
        let (mut ejections, now) = ejections();
        let one = instance(1);
        let gone = Error::new(Code::ConnectFailed, "refused");
        ejections.failed(&one, &gone, now);
        assert!(ejections.is_ejected(&one, now + Duration::from_millis(999)));
        assert!(!ejections.is_ejected(&one, now + Duration::from_secs(1)));
        assert!(!ejections.is_ejected(&instance(2), now));
        assert!(!ejections.is_ejected(&instance(1), now), "the same id in another life");
        ejections.succeeded(one.id);
        assert!(!ejections.is_ejected(&one, now));
    }

    #[test]
    fn only_errors_that_will_come_again_eject() {
        for (code, ejects) in [
            (Code::ConnectionLost, true),
            (Code::AcceptTimedOut, true),
            (Code::Violation, true),
            (Code::FirstItemTimedOut, false),
            (Code::Truncated, true),
            (Code::Draining, true),
            (Code::UnknownEndpoint, true),
            (Code::Overloaded, true),
            (Code::HandlerFailed, false),
            (Code::InvalidPayload, false),
            (Code::Cancelled, false),
        ] {
            let (mut ejections, now) = ejections();
            let one = instance(1);
            ejections.failed(&one, &Error::new(code, ""), now);
            assert_eq!(ejections.is_ejected(&one, now), ejects, "{code}");
        }
    }

    #[test]
    fn a_server_may_ask_for_rest_up_to_one_period() {
        let (mut ejections, now) = ejections();
        let one = instance(1);
        let busy = |delay| Error::new(Code::Overloaded, "").with_retry_after(delay);
        ejections.failed(&one, &busy(Duration::from_millis(200)), now);
        assert!(ejections.is_ejected(&one, now + Duration::from_millis(199)));
        assert!(!ejections.is_ejected(&one, now + Duration::from_millis(200)));
        ejections.failed(&one, &busy(Duration::from_secs(900)), now);
        assert!(!ejections.is_ejected(&one, now + Duration::from_secs(1)));
    }

    #[test]
    fn one_that_is_overloaded_and_says_no_more_rests_for_a_tenth_of_a_second() {
        let (mut ejections, now) = ejections();
        let one = instance(1);
        ejections.failed(&one, &Error::new(Code::Overloaded, ""), now);
        assert!(ejections.is_ejected(&one, now + Duration::from_millis(99)));
        assert!(!ejections.is_ejected(&one, now + Duration::from_millis(100)));
        let mut short = Ejections::new(Duration::from_millis(30));
        short.failed(&one, &Error::new(Code::Overloaded, ""), now);
        assert!(!short.is_ejected(&one, now + Duration::from_millis(30)));
    }

    #[test]
    fn a_period_of_zero_ejects_nobody() {
        let now = Instant::now();
        let mut ejections = Ejections::new(Duration::ZERO);
        let one = instance(1);
        for code in Code::ALL {
            let error = Error::new(*code, "").with_retry_after(Duration::from_secs(1));
            ejections.failed(&one, &error, now);
            assert!(!ejections.is_ejected(&one, now), "{code}");
        }
        assert!(ejections.ejected.is_empty());
    }

    #[test]
    fn the_table_forgets() {
        let (mut ejections, now) = ejections();
        let gone = Error::new(Code::ConnectFailed, "refused");
        for id in 0..1000 {
            ejections.failed(&instance(id), &gone, now + Duration::from_secs(id));
        }
        assert_eq!(ejections.ejected.len(), 1);
    }
}
