//! How a stream ends.

use crate::{CancelReason, Error};

/// The end of a stream, as its producer declares it. The end of a connection is not a terminal.
#[derive(Debug, Clone)]
pub enum Terminal {
    /// Every item was produced; nothing follows.
    Complete {
        /// How many items there were.
        items: u64,
    },
    /// The handler, or the code that serves it, reported an error.
    Failed {
        /// What went wrong.
        error: Error,
    },
    /// The stream was ended early by a cancel.
    Cancelled {
        /// The reason.
        reason: CancelReason,
    },
}

/// How a stream ended for its consumer: with the producer's [`Terminal`], or by the loss of the
/// producer.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Every item the handler produced was delivered, in order.
    Complete {
        /// How many items there were.
        items: u64,
    },
    /// The producer reported an error; the items received are a true prefix.
    Failed {
        /// What went wrong.
        error: Error,
    },
    /// The stream was ended early by a cancel.
    Cancelled {
        /// The reason.
        reason: CancelReason,
    },
    /// The producer or the connection to it was lost before a terminal; the items received are a
    /// true prefix.
    Truncated {
        /// How many items had arrived.
        received: u64,
    },
}

impl Outcome {
    /// The same with an error that knows of the items before it.
    pub(crate) fn behind_items(self, received: u64) -> Self {
        match self {
            Self::Failed { error } => Self::Failed { error: error.behind_items(received) },
            other => other,
        }
    }

    /// One word: `complete`, `failed`, `cancelled` or `truncated`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Complete { .. } => "complete",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
            Self::Truncated { .. } => "truncated",
        }
    }
}
