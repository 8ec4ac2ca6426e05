//! Whether a request that failed is sent again.

use std::time::Duration;

use sinew_discovery::Instance;
use sinew_plane::{Error, Executed, Fault, random};

use crate::RetryConfig;

/// Most instances that one request asks when all of them refuse. Beyond it the service as a
/// whole is refusing, and asking on only adds load.
const MAX_REFUSALS: usize = 16;

/// Decides what follows an attempt. [`RetryConfig`] is the policy of a router without another one.
///
/// What it wants sent again still needs the router's budget, an instance to go to and time until the
/// deadline, and a value: one that was handed to an engine in this process is gone.
///
/// A request that may have run ([`Error::is_safe_to_resend`] is false) is sent again only where its
/// endpoint declares itself idempotent, and none more than 64 times, whatever the policy says.
pub trait RetryPolicy: Send + Sync {
    /// What follows the attempt.
    fn classify(&self, report: &AttemptReport<'_>) -> Verdict;
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It serves the request.
    Done,
    /// The request is sent again after this time, to another instance if there is one that it was
    /// not sent to.
    Again(Duration),
    /// The request fails with the error of the attempt.
    GiveUp,
}

/// An attempt that is over, and those before it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AttemptReport<'a> {
    /// `Ok` when a handler has the request.
    pub result: Result<(), &'a Error>,
    /// Where it was sent to.
    pub instance: &'a Instance,
    /// How many attempts count so far, this one included.
    pub attempts: usize,
    /// How many instances there are.
    pub instances: usize,
    /// How many of them the request was not yet sent to in this round.
    pub unasked: usize,
    /// The number of rounds over the instances before this one: 0 in the first round.
    pub rounds: u32,
    /// The shortest wait that a server of this round asks for.
    pub asked_to_wait: Option<Duration>,
}

impl RetryPolicy for RetryConfig {
    fn classify(&self, report: &AttemptReport<'_>) -> Verdict {
        let Err(error) = report.result else { return Verdict::Done };
        let idempotent = report.instance.idempotent;
        if !self.allows(report.attempts, error, idempotent, report.instances) {
            return Verdict::GiveUp;
        }
        if report.unasked > 0 {
            return Verdict::Again(Duration::ZERO);
        }
        let backoff = self.backoff.delay(report.rounds, &mut random::generator());
        let delay = report.asked_to_wait.map_or(backoff, |asked| asked.max(backoff));
        if delay > self.max_wait.max(backoff) { Verdict::GiveUp } else { Verdict::Again(delay) }
    }
}

impl RetryConfig {
    /// Whether the rules, the budget apart, allow a further attempt after `attempts` of them,
    /// the last of which failed with `error` at an instance that is idempotent or not, one of
    /// `instances`.
    pub(crate) fn allows(
        &self,
        attempts: usize,
        error: &Error,
        idempotent: bool,
        instances: usize,
    ) -> bool {
        if error.is_safe_to_resend() {
            let refusals = if self.max_attempts > 1 { instances.min(MAX_REFUSALS) } else { 1 };
            return attempts < self.max_attempts.max(refusals);
        }
        let broke = error.fault() == Fault::Transport && error.executed() == Executed::Maybe;
        idempotent && broke && attempts < self.max_attempts
    }
}
