//! Time limits of a call: for the acceptance, the first item, each further item, and a lost connection.

use std::time::Duration;

use crate::{Code, Error, Executed};

/// Longest wait for the acceptance, unless the caller sets another limit.
pub const DEFAULT_ACCEPT_LIMIT: Duration = Duration::from_secs(10);

/// Time limits of one call, in addition to its deadline.
///
/// A limit that is `None` is taken from the next place: first the request's
/// [context](crate::Context::limits), then its router or client, then the default, which is [10
/// seconds](DEFAULT_ACCEPT_LIMIT) for the acceptance and no limit for items. [`Duration::MAX`]
/// means no limit.
///
/// A limit that passes ends the stream with an error that names it, and cancels the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallLimits {
    /// Longest wait until the worker has accepted the request, which means that it has admitted it;
    /// the handler may not have begun yet. In a split exchange, and so with Dynamo peers, it covers
    /// the acknowledgement. Fails with [`Code::AcceptTimedOut`]; the request may have run.
    pub accept: Option<Duration>,
    /// Longest wait from the sending of the request until its first item or its end. Fails with
    /// [`Code::FirstItemTimedOut`].
    pub first_item: Option<Duration>,
    /// Longest wait for each further item, counted while the caller waits for one. Fails with
    /// [`Code::IdleTimedOut`].
    pub idle: Option<Duration>,
    /// How long the stream waits to be attached to another connection after the loss of its own.
    /// Zero: it ends with the connection, and its worker, which is told so with the request, gives
    /// it up as well. Where no place sets it, the setting of the transport applies. A grace that is
    /// longer than the worker's own is of no use, because the worker then has let go of the stream.
    pub resume_grace: Option<Duration>,
}

impl CallLimits {
    /// No limits at all; the grace of a lost connection is that of the transport.
    pub const UNLIMITED: Self = Self {
        accept: Some(Duration::MAX),
        first_item: Some(Duration::MAX),
        idle: Some(Duration::MAX),
        resume_grace: None,
    };

    /// These limits, with those of `others` where these are `None`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            accept: self.accept.or(others.accept),
            first_item: self.first_item.or(others.first_item),
            idle: self.idle.or(others.idle),
            resume_grace: self.resume_grace.or(others.resume_grace),
        }
    }

    /// The limit of the acceptance, or the default; [`Duration::MAX`] means no limit.
    pub fn accept_or_default(&self) -> Duration {
        self.accept.unwrap_or(DEFAULT_ACCEPT_LIMIT)
    }

    /// True when items have a limit.
    pub(crate) fn limit_items(&self) -> bool {
        let limits = |limit: Option<Duration>| limit.is_some_and(|limit| limit != Duration::MAX);
        limits(self.first_item) || limits(self.idle)
    }
}

/// The error of a request that was not accepted in time. The caller does not know whether it runs.
pub fn accept_timed_out(limit: Duration) -> Error {
    let message = format!(
        "the worker did not accept the request within {limit:?}, the accept limit of this call; it \
         may run all the same"
    );
    Error::new(Code::AcceptTimedOut, message)
}

pub(crate) fn first_item_timed_out(limit: Duration) -> Error {
    let message = format!(
        "no item came within {limit:?}, the first-item limit of this call; its handler is cancelled"
    );
    Error::new(Code::FirstItemTimedOut, message)
}

pub(crate) fn idle_timed_out(limit: Duration, received: u64) -> Error {
    let message = format!(
        "no further item came within {limit:?}, the idle limit of this call, behind {received}; \
         its handler is cancelled"
    );
    Error::new(Code::IdleTimedOut, message).with_executed(Executed::Yes)
}
