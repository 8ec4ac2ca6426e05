//! How a request is cancelled, and why.

use std::fmt;

/// How hard a cancel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopKind {
    /// The handler finishes the current item and then ends.
    Stop,
    /// The handler ends now.
    Kill,
}

/// Why a stream ended as cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CancelReason {
    /// The caller asked for it, or dropped the stream.
    Caller,
    /// The deadline passed.
    DeadlineExceeded,
    /// The connection that carried the stream is lost, and the caller did not come back for the
    /// stream.
    Disconnected,
    /// The serving side is shutting down and the grace period is over.
    Shutdown,
    /// The serving side's memory budget stayed spent, and this stream waited longest for its
    /// reader.
    Evicted,
}

impl CancelReason {
    /// The number on the wire.
    pub const fn to_wire(self) -> u8 {
        match self {
            Self::Caller => 1,
            Self::DeadlineExceeded => 2,
            Self::Disconnected => 3,
            Self::Shutdown => 4,
            Self::Evicted => 5,
        }
    }

    /// Reads the number on the wire; a number of a later version reads as [`Self::Caller`],
    /// which asserts least.
    pub const fn from_wire(number: u8) -> Self {
        match number {
            2 => Self::DeadlineExceeded,
            3 => Self::Disconnected,
            4 => Self::Shutdown,
            5 => Self::Evicted,
            _ => Self::Caller,
        }
    }
}

impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "cancelled by the caller",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::Disconnected => "the caller's connection was lost",
            Self::Shutdown => "the serving side shut down",
            Self::Evicted => "the serving side's memory budget stayed spent",
        })
    }
}

/// A listener that is called when a [`Context`](crate::Context) is cancelled.
///
/// It is called on the thread that cancels, so it must not block. It may be called twice: first
/// with [`StopKind::Stop`], then with [`StopKind::Kill`], never in the opposite order.
pub trait OnCancel: Send + Sync {
    /// The context was cancelled.
    fn on_cancel(&self, kind: StopKind, reason: CancelReason);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_round_trip_and_unknown_ones_read_as_caller() {
        for reason in [
            CancelReason::Caller,
            CancelReason::DeadlineExceeded,
            CancelReason::Disconnected,
            CancelReason::Shutdown,
            CancelReason::Evicted,
        ] {
            assert_eq!(CancelReason::from_wire(reason.to_wire()), reason);
        }
        assert_eq!(CancelReason::from_wire(200), CancelReason::Caller);
    }
}
