//! Which cancels of a caller end a response that is kept.

use sinew_plane::{CancelReason, Context, OnCancel, StopKind};

/// Passes the cancels of the caller on to the handler, but not the loss of the caller: others may
/// read on.
pub(super) struct ForwardCancel(pub(super) Context);

impl OnCancel for ForwardCancel {
    fn on_cancel(&self, kind: StopKind, reason: CancelReason) {
        if reason != CancelReason::Disconnected {
            self.0.cancel(kind, reason);
        }
    }
}
