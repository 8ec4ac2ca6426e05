//! The response source of a stream, for its caller.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use sinew_plane::{
    BoxFuture, CancelReason, Checkpoint, Error, Headers, ItemBatch, ResponseSource, ResumeToken,
    SourceEvent, StopKind, StreamPlace, Way,
};

use super::CallerStream;
use crate::Driver;

impl<D: Driver> ResponseSource for CallerStream<D> {
    fn poll_started(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.state.lock();
        if state.consumer.is_started() {
            return Poll::Ready(Ok(()));
        }
        if state.consumer.ended().is_some() {
            return Poll::Ready(state.early_end().map_or(Ok(()), Err));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_head(&self, cx: &mut task::Context<'_>) -> Poll<Headers> {
        let mut state = self.state.lock();
        if let Some(head) = state.consumer.head() {
            return Poll::Ready(head);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn facts(&self) -> Headers {
        self.state.lock().consumer.facts().clone()
    }

    fn resume_token(&self, next_item: u64) -> Option<ResumeToken> {
        self.token(next_item)
    }

    fn checkpoint(&self) -> Option<Checkpoint> {
        self.state.lock().consumer.checkpoint().cloned()
    }

    fn poll_batch(&self, cx: &mut task::Context<'_>, batch: &mut ItemBatch) -> Poll<SourceEvent> {
        let (event, credited) = {
            let mut state = self.state.lock();
            let (state, at) = state.parts();
            let had_items = state.consumer.has_items();
            state.consumer.take(batch);
            if had_items {
                state.settle(at);
            }
            let credit = state.consumer.credit_due();
            if let Some(credit) = credit
                && !state.is_detached
            {
                at.connection.out.lock().outbound.credit(at.number, credit);
            }
            let event = if had_items { Some(SourceEvent::Items) } else { state.end() };
            if event.is_none() {
                state.waker = Some(cx.waker().clone());
            }
            (event, credit.is_some())
        };
        if credited {
            // Nobody waits for credit at once: it may ride along with what others send.
            D::transmit_soon(&self.state.connection());
        }
        event.map_or(Poll::Pending, Poll::Ready)
    }

    fn cancel(&self, kind: StopKind) {
        self.ask_to_end(kind, CancelReason::Caller);
    }

    fn place(&self) -> Option<StreamPlace> {
        let mut state = self.state.lock();
        let (state, at) = state.parts();
        let transport = at.connection.driver().transport()?;
        let is_movable = at.connection.resumes() && state.consumer.ended().is_none();
        is_movable.then(|| StreamPlace {
            transport: transport.clone(),
            items: state.consumer.received(),
            taken: state.consumer.taken(),
        })
    }

    fn move_to(self: Arc<Self>, way: Way) -> BoxFuture<'static, Result<(), Error>> {
        D::move_call(self, way)
    }

    fn abandon(&self) {
        {
            let mut state = self.state.lock();
            let (state, at) = state.parts();
            if state.consumer.ended().is_some() {
                return;
            }
            state.abandoned = true;
            if state.consumer.is_inside_item() {
                at.connection.out.lock().forgotten.push(at.number);
            }
            // What has arrived is let go of at once, of an item that is not whole by the reader;
            // the entry goes with the terminal.
            let mut rest = ItemBatch::new();
            state.consumer.take(&mut rest);
            state.consumer.drop_metadata();
            state.settle(at);
        }
        self.ask_to_end(StopKind::Kill, CancelReason::Caller);
    }
}
