//! The caller's own timer for its deadline, until the response begins.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sinew_plane::{CancelReason, Context, Error, Executed, StopKind};

use crate::response::deadline_exceeded;

/// Waits for `call` until the deadline of its context. `sent` says whether a handler may have run
/// by then. The future is passed pinned, because moving it in would need its memory twice.
pub(crate) async fn until_deadline<T>(
    context: &Context,
    sent: &AtomicBool,
    call: Pin<&mut impl Future<Output = Result<T, Error>>>,
) -> Result<T, Error> {
    let Some(deadline) = context.deadline() else { return call.await };
    if context.remaining() == Some(Duration::ZERO) {
        return Err(deadline_exceeded(Executed::No));
    }
    tokio::select! {
        biased;
        result = call => result,
        () = tokio::time::sleep_until(deadline.into()) => {
            // Before the attempt is dropped, so that its handler learns the true reason.
            context.cancel(StopKind::Kill, CancelReason::DeadlineExceeded);
            let sent = sent.load(Ordering::Relaxed);
            Err(deadline_exceeded(if sent { Executed::Maybe } else { Executed::No }))
        }
    }
}
