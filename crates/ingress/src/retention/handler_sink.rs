//! The end of a log that its handler writes to.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use sinew_plane::{
    CancelReason, Checkpoint, Error, Executed, Headers, OnCancel, SinkTarget, StopKind, Terminal,
    TrySendError,
};

use super::log::Log;

/// The sink of the handler. It is full while the handler is a window ahead of all readers.
pub(super) struct HandlerSink(pub(super) Arc<Log>);

impl HandlerSink {
    fn closed(&self) -> Option<Error> {
        if self.0.is_finished() {
            return Some(Error::handler("the stream has ended already"));
        }
        self.0.handler.is_killed().then(|| {
            let reason = self.0.handler.reason().unwrap_or(CancelReason::Caller);
            Error::cancelled(reason).with_executed(Executed::Yes)
        })
    }
}

impl SinkTarget for HandlerSink {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        // The waker first: a kill that comes between the two looks finds it.
        let waits = self.0.wait(cx.waker());
        match self.closed() {
            Some(error) => Poll::Ready(Err(error)),
            None if waits => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        match self.closed() {
            Some(error) => Err(TrySendError::Closed(error)),
            None => self.0.push(item).map_err(TrySendError::Full),
        }
    }

    fn head(&self, head: Headers) {
        self.0.set_head(head);
    }

    fn set_facts(&self, facts: Headers) {
        self.0.set_facts(facts);
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        self.0.set_checkpoint(checkpoint);
    }

    fn accept(&self) {
        self.0.accept();
    }

    fn finish(&self, terminal: Terminal) {
        self.0.finish(terminal);
    }

    /// The readers write.
    fn flush(&self) {}
}

impl OnCancel for HandlerSink {
    fn on_cancel(&self, _: StopKind, _: CancelReason) {
        self.0.wake_handler();
    }
}
