//! How a request ended, for its caller and for the metrics.

use sinew_plane::{CancelReason, Code, Context, Error, Executed, Fault, ResponseSink};

/// How the work on a request ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Every item was sent.
    Complete,
    /// Nothing ran.
    Rejected(Error),
    /// The handler, or what became of its items, failed.
    Failed(Error),
    /// Ended early on purpose.
    Cancelled(CancelReason),
}

impl End {
    /// The end that the cancel of `context` calls for.
    pub(crate) fn cancelled(context: &Context) -> Self {
        Self::Cancelled(context.reason().unwrap_or(CancelReason::Caller))
    }

    /// The end by an error of the engine. One with which it answers a cancel is that cancel.
    pub(crate) fn of_engine(error: Error, context: &Context) -> Self {
        let cancels = matches!(error.code(), Code::Cancelled | Code::DeadlineExceeded);
        if cancels && context.is_stopped() { Self::cancelled(context) } else { Self::failed(error) }
    }

    /// The end by an error that came after the handler was started. It counts as executed
    /// whatever it says: it may be the refusal of somebody the handler called, and the handler's
    /// own work before that call is done.
    pub(crate) fn failed(error: Error) -> Self {
        Self::Failed(executed(error))
    }

    /// What the metrics count it as; `None` is no error.
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

    /// Tells the caller.
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

/// What the metrics count a cancel as; `None` is no error.
pub(crate) fn cancel_fault(reason: CancelReason) -> Option<Fault> {
    match reason {
        CancelReason::DeadlineExceeded => Some(Fault::Application),
        CancelReason::Disconnected => Some(Fault::Transport),
        CancelReason::Shutdown => Some(Fault::Resource),
        // The caller changed its mind: nobody's error.
        _ => None,
    }
}
