//! The configuration of retries, and the record of the attempts of one request.

use std::time::Duration;

use sinew_plane::{Backoff, Code, Error, Executed, InstanceId};
use sinew_telemetry::first_few;

use crate::RetryBudgetConfig;

/// When and how often a request is sent again.
///
/// The router sends it again if the worker cannot have run it ([`Error::is_safe_to_resend`]), or if
/// the instance declares itself idempotent and the connection broke before an answer; never after
/// the deadline, never beyond the budget. After the first item it does so only if the instance
/// declares a [`Continuation`](sinew_plane::Continuation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryConfig {
    /// Most attempts of one request, the first included. A request that is refused may be sent to
    /// each instance once, up to 16 instances, because refusals cost little and the last instance
    /// may be the one that works. 1 turns resending off, also after refusals.
    pub max_attempts: usize,
    /// How many resends all requests of a router may add together.
    pub budget: RetryBudgetConfig,
    /// The wait before the request goes again to instances that failed. There is no wait before it
    /// goes to an instance that was not tried yet.
    pub backoff: Backoff,
    /// Longest wait that a worker may ask for in place of the backoff. If it asks for more, the
    /// request fails, and its error has the time to wait.
    pub max_wait: Duration,
    /// For how long the router ejects an instance that could not be reached, does not serve the
    /// endpoint or was lost during a response; also the longest ejection of an overloaded instance.
    /// Zero turns ejection off.
    pub ejection: Duration,
}

impl Default for RetryConfig {
    /// Three attempts, a budget of 20 % and 10 per second, waits of up to five seconds if a worker
    /// asks for them, and one second of ejection.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            budget: RetryBudgetConfig::default(),
            backoff: Backoff::default(),
            max_wait: Duration::from_secs(5),
            ejection: Duration::from_secs(1),
        }
    }
}

impl RetryConfig {
    /// Every request is sent once.
    pub fn none() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }
}

/// The attempts of one request so far.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: Vec<(InstanceId, Error)>,
    /// The instances that the request does not go to again in this round.
    asked: Vec<(InstanceId, RetryHint)>,
    /// How many of the failed attempts only were slow to connect.
    passed_by: usize,
    /// The instances that are being connected to.
    connecting: Vec<InstanceId>,
    rounds: u32,
    /// How many attempts had failed when this round began.
    begun: usize,
}

/// Whether a second attempt at an instance can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryHint {
    Later,
    Never,
}

impl Attempts {
    pub(crate) fn count(&self) -> usize {
        self.failed.len()
    }

    /// The attempts that count towards the limit. An instance that was only slower to connect does
    /// not count.
    pub(crate) fn tries(&self) -> usize {
        self.failed.len() - self.passed_by
    }

    /// Records that another instance was quicker to connect.
    pub(crate) fn passed_by(&mut self, id: InstanceId, error: Error) {
        self.failed(id, error);
        self.passed_by += 1;
    }

    /// Excludes an instance from the choice.
    pub(crate) fn leave_out(&mut self, id: InstanceId) {
        self.asked.push((id, RetryHint::Never));
    }

    pub(crate) fn was_asked(&self, id: InstanceId) -> bool {
        self.asked.iter().any(|(asked, _)| *asked == id) || self.connecting.contains(&id)
    }

    /// Excludes an instance from the choice while a connection to it is being made.
    pub(crate) fn connecting(&mut self, id: InstanceId) {
        self.connecting.push(id);
    }

    /// Ends the exclusion of the instances that were being connected to.
    pub(crate) fn connected(&mut self) {
        self.connecting.clear();
    }

    pub(crate) fn failed(&mut self, id: InstanceId, error: Error) {
        // What the two builds have in common does not change while one request waits.
        let hint = match error.code() {
            Code::NoTransport | Code::Version => RetryHint::Never,
            _ => RetryHint::Later,
        };
        self.asked.push((id, hint));
        self.failed.push((id, error));
    }

    /// How many rounds were complete before this one.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds
    }

    /// The shortest retry hint of the workers of this round.
    pub(crate) fn asked_to_wait(&self) -> Option<Duration> {
        self.failed[self.begun..].iter().filter_map(|(_, error)| error.retry_after()).min()
    }

    /// The last failed attempt.
    pub(crate) fn last(&self) -> Option<&(InstanceId, Error)> {
        self.failed.last()
    }

    /// Begins a new round over the instances at which a second attempt can help; false if there are
    /// none.
    pub(crate) fn begin_round(&mut self) -> bool {
        let before = self.asked.len();
        self.asked.retain(|(_, hint)| *hint == RetryHint::Never);
        if self.asked.len() == before {
            return false;
        }
        self.begun = self.failed.len();
        self.rounds += 1;
        true
    }

    /// Whether any attempt may have run. The last error alone could say "not executed" for a
    /// request whose first attempt was lost after it was sent.
    pub(crate) fn executed(&self) -> Option<Executed> {
        let all = || self.failed.iter().map(|(_, error)| error.executed());
        let worst = |wanted| all().any(|one| one == wanted).then_some(wanted);
        worst(Executed::Yes).or(worst(Executed::Maybe)).or(worst(Executed::No))
    }

    /// The error of the whole request.
    pub(crate) fn give_up(self, because: &str) -> Option<Error> {
        let executed = self.executed()?;
        let (_, last) = self.failed.last()?;
        // What a transport answers from its memory of a failure is no attempt.
        let tried = self.failed.iter().filter(|(_, error)| !error.is_remembered()).count();
        let mut ids: Vec<_> = Vec::new();
        for (id, _) in &self.failed {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        if ids.len() == 1 && tried <= 1 && because.is_empty() {
            return Some(last.clone());
        }
        let message = format!(
            "{last} (after {tried} attempt{s} at {asked}{because})",
            s = if tried == 1 { "" } else { "s" },
            asked = first_few(ids, ", "),
        );
        Some(last.with_message(message).with_executed(executed))
    }

    pub(crate) fn into_failed(self) -> Vec<(InstanceId, Error)> {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::AppCode;

    use super::*;

    fn error(code: Code) -> Error {
        Error::new(code, "as told")
    }

    #[test]
    fn what_may_have_run_is_sent_again_only_if_declared_idempotent() {
        let config = RetryConfig::default();
        for (code, plain, idempotent) in [
            (Code::ConnectFailed, true, true),
            (Code::Draining, true, true),
            (Code::Overloaded, true, true),
            (Code::UnknownEndpoint, true, true),
            (Code::ConnectionLost, false, true),
            (Code::Truncated, false, false),
            (Code::Corrupt, false, false),
            (Code::HandlerFailed, false, false),
            (Code::HandlerGone, false, false),
            (Code::TooLarge, false, false),
            (Code::InvalidPayload, false, false),
            (Code::Cancelled, false, false),
            (Code::DeadlineExceeded, false, false),
        ] {
            assert_eq!(config.allows(1, &error(code), false, 3), plain, "{code}");
            assert_eq!(config.allows(1, &error(code), true, 3), idempotent, "{code}");
        }
    }

    #[test]
    fn refusals_go_round_the_instances_and_the_rest_ends_after_three() {
        let config = RetryConfig::default();
        let refused = error(Code::Draining);
        for (attempts, instances, allowed) in
            [(2, 1, true), (3, 1, false), (7, 8, true), (8, 8, false), (16, 500, false)]
        {
            assert_eq!(config.allows(attempts, &refused, false, instances), allowed);
        }
        assert!(!config.allows(3, &error(Code::ConnectionLost), true, 8));
        assert!(!RetryConfig::none().allows(1, &refused, true, 8));
    }

    #[test]
    fn the_error_of_all_attempts_claims_no_more_than_is_known() {
        let mut attempts = Attempts::default();
        attempts.failed(InstanceId(1), error(Code::ConnectionLost));
        attempts.failed(InstanceId(2), error(Code::ConnectFailed));
        let whole = attempts.give_up("").unwrap();
        assert_eq!((whole.code(), whole.executed()), (Code::ConnectFailed, Executed::Maybe));
        assert_eq!(whole.message(), "as told (after 2 attempts at 1, 2)");

        let mut same = Attempts::default();
        for _ in 0..3 {
            same.failed(InstanceId(7), error(Code::ConnectFailed));
        }
        assert_eq!(same.give_up("").unwrap().message(), "as told (after 3 attempts at 7)");

        // Those that a transport answered from its memory of the first were not made.
        let mut once = Attempts::default();
        once.failed(InstanceId(7), error(Code::ConnectFailed));
        for _ in 0..2 {
            once.failed(InstanceId(7), error(Code::ConnectFailed).remembered());
        }
        assert_eq!(once.give_up("").unwrap().message(), "as told");
        let mut two = Attempts::default();
        two.failed(InstanceId(7), error(Code::ConnectFailed));
        two.failed(InstanceId(8), error(Code::ConnectFailed));
        two.failed(InstanceId(7), error(Code::ConnectFailed).remembered());
        assert_eq!(two.give_up("").unwrap().message(), "as told (after 2 attempts at 7, 8)");

        let mut single = Attempts::default();
        single.failed(InstanceId(1), error(Code::ConnectFailed));
        assert_eq!(single.give_up("").unwrap().message(), "as told");
    }

    #[test]
    fn what_a_handler_says_is_kept_whatever_was_tried_before() {
        let mut attempts = Attempts::default();
        attempts.failed(InstanceId(1), Error::draining("leaving"));
        let refused = Error::application(AppCode::NOT_FOUND, "no model").with_details("{}");
        attempts.failed(InstanceId(2), refused.unwrap().with_executed(Executed::No));
        let whole = attempts.give_up("").unwrap();
        assert_eq!(
            (whole.app_code(), &whole.details()[..]),
            (Some(AppCode::NOT_FOUND), &b"{}"[..])
        );
        assert!(!whole.is_safe_to_resend(), "the handler has answered");
        assert!(std::error::Error::source(&whole).is_some_and(|it| it.to_string() == "no model"));
    }

    #[test]
    fn a_new_round_asks_only_those_with_hope() {
        let mut attempts = Attempts::default();
        attempts.failed(InstanceId(1), error(Code::Version));
        assert!(!attempts.begin_round());
        attempts.failed(InstanceId(2), error(Code::ConnectFailed));
        let wait = Duration::from_secs(2);
        attempts.failed(InstanceId(3), error(Code::Overloaded).with_retry_after(wait));
        assert_eq!((attempts.rounds(), attempts.asked_to_wait()), (0, Some(wait)));
        assert!(attempts.begin_round());
        assert!(attempts.was_asked(InstanceId(1)) && !attempts.was_asked(InstanceId(2)));
        attempts.failed(InstanceId(2), error(Code::ConnectFailed));
        let again = (attempts.rounds(), attempts.asked_to_wait());
        assert_eq!(again, (1, None), "old wishes are not met twice");
        assert!(attempts.begin_round());
    }
}
