//! A cancel whose end is waited for.

use std::time::Duration;

use crate::{Code, Error, Executed, Outcome};

/// How long a cancel is waited for unless its caller says otherwise.
pub(crate) const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// How a response ended whose caller has cancelled it and waited for the end.
///
/// A cancel asks, and the end answers: a response that was at its end when the cancel came may have
/// completed or failed. Facts of the response, such as its cost, come with the end whichever it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Acknowledged {
    /// How the response ended.
    pub outcome: Outcome,
    /// Items that arrived since the cancel or waited to be read, and were dropped. They count among
    /// those that were received.
    pub dropped: u64,
    /// The time from the cancel to the end.
    pub took: Duration,
}

/// The producer did not end in time.
pub(crate) fn not_acknowledged(limit: Duration) -> Error {
    let message = format!("the response did not end within {limit:?} of its cancel");
    Error::new(Code::Cancelled, message).with_executed(Executed::Maybe)
}
