//! The trait that decides whether a failed request is sent again, and its default rules.

use std::time::Duration;

use sinew_discovery::Instance;
use sinew_plane::{Error, Executed, Fault, random};

use crate::RetryConfig;

/// Most instances that one request asks when all of them refuse. Beyond it the whole service
/// refuses, and further attempts only add load.
const MAX_REFUSALS: usize = 16;

/// Decides what follows an attempt that failed. [`RetryConfig`] is the default policy of a router.
///
/// Even if the policy answers [`Verdict::Again`], the router resends only if its budget has room, an
/// instance is left, the deadline has not passed, and the router still has the value: it gives the
/// value away when it calls an engine in this process.
///
/// While the connection to an instance is slow, the router also calls the policy in advance, as if
/// the attempt had failed with [`ConnectTimedOut`](sinew_plane::Code::ConnectTimedOut). If the
/// policy answers [`Verdict::GiveUp`], the router does not connect to another instance in parallel.
///
/// A request that may have run ([`Error::is_safe_to_resend`] is false) is sent again only if its
/// endpoint declares itself idempotent, and no request is sent more than 64 times, whatever the
/// policy decides.
pub trait RetryPolicy: Send + Sync {
    /// Decides what follows the attempt.
    fn classify(&self, report: &AttemptReport<'_>) -> Verdict;
}

/// What follows an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The router sends the request again after this time, to an instance that it was not sent to
    /// if there is one.
    Again(Duration),
    /// The request fails with the error of the attempt.
    GiveUp,
}

/// An attempt that failed, and the number of those before it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct AttemptReport<'a> {
    /// Why it failed.
    pub error: &'a Error,
    /// The instance that it was sent to.
    pub instance: &'a Instance,
    /// How many attempts count so far, this one included.
    pub attempts: usize,
    /// How many instances there are.
    pub instances: usize,
    /// How many of them the request was not yet sent to in this round.
    pub unasked: usize,
    /// The number of rounds over the instances before this one: 0 in the first round.
    pub rounds: u32,
    /// The shortest wait that a worker of this round asks for.
    pub asked_to_wait: Option<Duration>,
}

impl RetryPolicy for RetryConfig {
    fn classify(&self, report: &AttemptReport<'_>) -> Verdict {
        let (error, idempotent) = (report.error, report.instance.idempotent);
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
    /// True if the rules, without the budget, allow a further attempt after `attempts` attempts, of
    /// which the last failed with `error`. `idempotent` is what the instance declares, and
    /// `instances` is how many there are.
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
