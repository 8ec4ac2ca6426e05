//! Instances that failed a moment ago.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sinew_discovery::Instance;
use sinew_plane::{Code, Error, Incarnation, InstanceId};

/// Instances that are left out for a short time because they could not be reached or refused to
/// work, so that a dead worker is not asked by every request until discovery has noticed.
///
/// Ejection is advice: with everybody ejected the router asks all of them. An instance that is
/// registered anew, under another incarnation, is not held to its past.
#[derive(Debug)]
pub struct Ejections {
    period: Duration,
    ejected: HashMap<InstanceId, (Incarnation, Instant)>,
}

impl Ejections {
    /// Nobody ejected; ejections will last for `period`.
    pub fn new(period: Duration) -> Self {
        Self { period, ejected: HashMap::new() }
    }

    /// Leaves the instance out if the error says that it will not serve the next request
    /// either. Overload is not such an error, unless the server says when to come back.
    pub fn failed(&mut self, instance: &Instance, error: &Error, now: Instant) {
        let period = match error.code() {
            Code::ConnectFailed
            | Code::ConnectTimedOut
            | Code::ConnectionLost
            | Code::NoTransport
            | Code::Version
            | Code::WrongPeer
            | Code::Draining
            | Code::UnknownEndpoint => self.period,
            Code::Overloaded => match error.retry_after() {
                // A server may ask for rest, but not put itself out of sight.
                Some(delay) => delay.min(self.period),
                None => return,
            },
            _ => return,
        };
        // What has expired goes when something is added, so the table holds at most the
        // instances that failed within one period.
        self.ejected.retain(|_, (_, until)| now < *until);
        self.ejected.insert(instance.id, (instance.incarnation, now + period));
    }

    /// Ends an ejection: the instance works.
    pub fn succeeded(&mut self, id: InstanceId) {
        if !self.ejected.is_empty() {
            self.ejected.remove(&id);
        }
    }

    /// Whether the instance is left out.
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
            (Code::Draining, true),
            (Code::UnknownEndpoint, true),
            (Code::Overloaded, false),
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
    fn the_table_forgets() {
        let (mut ejections, now) = ejections();
        let gone = Error::new(Code::ConnectFailed, "refused");
        for id in 0..1000 {
            ejections.failed(&instance(id), &gone, now + Duration::from_secs(id));
        }
        assert_eq!(ejections.ejected.len(), 1);
    }
}
