//! A sink whose request is counted until the sink has its end, wherever the handler keeps it.

use std::{
    sync::{Arc, Weak},
    task::{self, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    CancelReason, Checkpoint, Checkpoints, Context, Error, Executed, Headers, ItemRun, OnCancel,
    ResponseSink, SinkTarget, StopKind, Terminal, TrySendError,
};
use tokio::runtime::Handle;

use crate::{end::End, instance::Instance, request_guard::RequestGuard};

/// Holds the transport's sink and the permit of a request whose handler owns its sink. A kill ends
/// the response at once, also if the handler does not use its sink again.
pub(crate) struct MeteredSink {
    open: Mutex<Option<Open>>,
    instance: Arc<Instance>,
    context: Context,
    runtime: Handle,
    this: Weak<Self>,
}

struct Open {
    sink: ResponseSink,
    permit: RequestGuard,
    /// The waker of the task that waits for credit, woken when a kill ends the response here.
    waiting: Option<Waker>,
}

impl Open {
    /// Attaches the checkpoint that the handler has put into its context to the next item.
    fn take_checkpoint(&mut self, checkpoints: &Checkpoints) {
        if let Some(state) = checkpoints.take() {
            // Its length was checked when the handler attached it.
            let _ = self.sink.checkpoint(state);
        }
    }
}

impl MeteredSink {
    /// Wraps a sink, and returns the one that the handler gets. Call it within a tokio runtime.
    pub(crate) fn wrap(
        sink: ResponseSink,
        permit: RequestGuard,
        context: &Context,
    ) -> ResponseSink {
        let metered = Arc::new_cyclic(|this| Self {
            instance: Arc::clone(&permit.instance),
            open: Mutex::new(Some(Open { sink, permit, waiting: None })),
            context: context.clone(),
            runtime: Handle::current(),
            this: this.clone(),
        });
        context.on_cancel(Arc::downgrade(&metered));
        ResponseSink::new(metered, context.clone())
    }

    fn end(&self, end: End) {
        // Taken out first: telling the caller may call anything.
        let Some(Open { sink, permit, waiting }) = self.open.lock().take() else { return };
        tracing::debug!(
            endpoint = permit.instance.name.as_str(),
            request_id = %self.context.id(),
            end = end.as_str(),
            items = sink.sent(),
            "answered"
        );
        permit.end(end.fault());
        end.send(sink);
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// The error that the handler gets after a kill has ended the response.
    fn over(&self) -> Error {
        Error::cancelled(self.context.reason().unwrap_or(CancelReason::Caller))
    }
}

impl SinkTarget for MeteredSink {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut open = self.open.lock();
        let Some(open) = &mut *open else { return Poll::Ready(Err(self.over())) };
        let ready = open.sink.poll_ready(cx);
        open.waiting = ready.is_pending().then(|| cx.waker().clone());
        ready
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        let mut open = self.open.lock();
        let Some(open) = &mut *open else { return Err(TrySendError::Closed(self.over())) };
        let bytes = item.len();
        if let Some(checkpoints) = self.context.checkpoints() {
            open.take_checkpoint(checkpoints);
        }
        open.sink.try_send(item)?;
        open.permit.items(bytes);
        Ok(())
    }

    fn head(&self, head: Headers) {
        if let Some(open) = &mut *self.open.lock() {
            // An error is for the handler, and its own sink has looked for it already.
            let _ = open.sink.head(head);
        }
    }

    fn set_facts(&self, facts: Headers) {
        if let Some(open) = &mut *self.open.lock() {
            open.sink.set_facts(facts);
        }
    }

    fn checkpoint(&self, checkpoint: Checkpoint) {
        if let Some(open) = &mut *self.open.lock() {
            // Its length was checked by the sink in front.
            let _ = open.sink.checkpoint_behind(checkpoint.items, checkpoint.state);
        }
    }

    fn try_send_run(&self, run: &mut ItemRun) -> Result<usize, Error> {
        let mut open = self.open.lock();
        let Some(open) = &mut *open else { return Err(self.over()) };
        let (count, bytes) = (run.count(), run.bytes());
        if let Some(checkpoints) = self.context.checkpoints() {
            open.take_checkpoint(checkpoints);
        }
        let room = open.sink.try_send_run(run);
        if run.count() < count {
            open.permit.items(bytes - run.bytes());
        }
        room
    }

    fn accept(&self) {
        if let Some(open) = &mut *self.open.lock() {
            open.sink.accept();
        }
    }

    fn finish(&self, terminal: Terminal) {
        self.end(match terminal {
            Terminal::Complete { .. } => End::Complete,
            // The sink in front has decided which of the two it is.
            Terminal::Failed { error } if error.executed() == Executed::No => End::Rejected(error),
            Terminal::Failed { error } => End::Failed(error),
            Terminal::Cancelled { reason } => End::Cancelled(reason),
        });
    }

    fn flush(&self) {
        if let Some(open) = &*self.open.lock() {
            open.sink.flush();
        }
    }

    fn keep_for(&self, grace: Duration) {
        if let Some(open) = &*self.open.lock() {
            open.sink.keep_for(grace);
        }
    }
}

impl OnCancel for MeteredSink {
    fn on_cancel(&self, kind: StopKind, reason: CancelReason) {
        let (StopKind::Kill, Some(this)) = (kind, self.this.upgrade()) else { return };
        // In a task of its own: whoever cancels may hold locks that the end needs. At most one
        // per request in flight, as a context is killed once.
        let ending = async move { this.end(End::Cancelled(reason)) };
        self.instance.process.tasks.spawn_on(ending, &self.runtime);
    }
}
