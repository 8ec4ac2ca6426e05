//! How long a caller waits for a response: for its acceptance, its first item, and the next.

use std::time::Duration;

use crate::{Code, Error, Executed};

/// Longest wait for the acceptance of a request whose caller says nothing else.
pub const DEFAULT_ACCEPT_LIMIT: Duration = Duration::from_secs(10);

/// Limits of the waits of one call, beside its deadline.
///
/// Each may be left open (`None`), for whoever comes next to say: the request's
/// [context](crate::Context::limits) first, then its router or client, then the default, which is
/// [10 seconds](DEFAULT_ACCEPT_LIMIT) for the acceptance and no limit for items.
/// [`Duration::MAX`] is no limit.
///
/// A limit that passes ends the stream with an error that names it, and cancels the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallLimits {
    /// Until the worker has accepted: admitted the request, whether or not its handler has done
    /// anything yet. Over a split exchange, and so towards Dynamo peers, it covers the
    /// acknowledgement. [`Code::AcceptTimedOut`]: the request may have run.
    pub accept: Option<Duration>,
    /// From the moment the request is on its way until its first item or its end.
    /// [`Code::FirstItemTimedOut`].
    pub first_item: Option<Duration>,
    /// For each further item, while the caller waits for one. [`Code::IdleTimedOut`].
    pub idle: Option<Duration>,
}

impl CallLimits {
    /// No limits at all.
    pub const UNLIMITED: Self = Self {
        accept: Some(Duration::MAX),
        first_item: Some(Duration::MAX),
        idle: Some(Duration::MAX),
    };

    /// These limits, and `others` where these are left open.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            accept: self.accept.or(others.accept),
            first_item: self.first_item.or(others.first_item),
            idle: self.idle.or(others.idle),
        }
    }

    /// The limit of the acceptance, or the default; [`Duration::MAX`] is none.
    pub fn accept_or_default(&self) -> Duration {
        self.accept.unwrap_or(DEFAULT_ACCEPT_LIMIT)
    }

    /// True when items have a limit.
    pub(crate) fn limit_items(&self) -> bool {
        let limits = |limit: Option<Duration>| limit.is_some_and(|limit| limit != Duration::MAX);
        limits(self.first_item) || limits(self.idle)
    }
}

/// The error of a request that was not accepted in time. Whether it runs is not known.
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
