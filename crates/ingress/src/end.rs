//! How a request ended, for its caller and for the metrics.

use sinew_plane::{CancelReason, Code, Context, Error, Executed, Fault, ResponseSink};

/// How the work on a request ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Every item was sent.
    Complete,
    /// Nothing ran.
    Rejected(Error),
    /// The handler failed, or its items could not be encoded or sent.
    Failed(Error),
    /// Ended early on purpose.
    Cancelled(CancelReason),
}

impl End {
    /// The end of a request that was cancelled, with the reason that `context` has.
    pub(crate) fn cancelled(context: &Context) -> Self {
        Self::Cancelled(context.reason().unwrap_or(CancelReason::Caller))
    }

    /// The end by an error of the engine. If the request was cancelled and the error is the
    /// engine's answer to that, the end is the cancel.
    pub(crate) fn of_engine(error: Error, context: &Context) -> Self {
        let cancels = matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded);
        if cancels && context.is_stopped() { Self::cancelled(context) } else { Self::failed(error) }
    }

    /// The end by an error that came after the handler was started. It counts as executed whatever
    /// its code says: it may be a refusal by a service that the handler called, after the handler
    /// has done work of its own.
    pub(crate) fn failed(error: Error) -> Self {
        Self::Failed(executed(error))
    }

    /// The kind of error that the metrics count; `None` if it is no error.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Complete => None,
            Self::Rejected(error) | Self::Failed(error) => Some(error.fault()),
            Self::Cancelled(reason) => cancel_fault(*reason),
        }
    }

    /// One word for logs.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Rejected(_) => "rejected",
            Self::Failed(_) => "failed",
            Self::Cancelled(_) => "cancelled",
        }
    }

    /// Sends the terminal to the caller.
    pub(crate) fn send(self, sink: ResponseSink) {
        match self {
            Self::Complete => sink.complete(),
            Self::Rejected(error) => sink.reject(error),
            Self::Failed(error) => sink.fail(error),
            Self::Cancelled(reason) => sink.cancelled(reason),
        }
    }
}

pub(crate) fn executed(error: Error) -> Error {
    if error.executed() == Executed::Yes { error } else { error.with_executed(Executed::Yes) }
}

/// The kind of error that the metrics count for a cancel; `None` if it is no error.
pub(crate) fn cancel_fault(reason: CancelReason) -> Option<Fault> {
    match reason {
        CancelReason::DeadlineExceeded => Some(Fault::Application),
        CancelReason::Disconnected => Some(Fault::Transport),
        CancelReason::Shutdown => Some(Fault::Resource),
        // The caller changed its mind: nobody's error.
        _ => None,
    }
}
