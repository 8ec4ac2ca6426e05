//! A sink whose items a Dynamo caller understands.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    CancelReason, Code, Context, Error, Executed, ResponseSink, SinkTarget, Terminal, TrySendError,
};

use super::shared::Shared;
use crate::{
    ItemCodec,
    error::{Telling, of_handler},
};

/// Wraps what a handler sends, and ends its response with the marks that Dynamo looks for.
pub(super) struct Wrapped {
    items: ItemCodec,
    open: Mutex<Option<Open>>,
    shared: Arc<Shared>,
}

struct Open {
    sink: ResponseSink,
    /// The caller has been told that the handler began, so it cannot be told of a refusal.
    has_begun: bool,
    /// An item for which there was no room, and its wrapping, as it will be tried again.
    held: Option<(Bytes, Bytes)>,
}

impl Wrapped {
    /// The sink for the handler.
    pub(super) fn sink(
        sink: ResponseSink,
        items: ItemCodec,
        context: &Context,
        shared: &Arc<Shared>,
    ) -> ResponseSink {
        let open = Mutex::new(Some(Open { sink, has_begun: false, held: None }));
        let wrapped = Self { items, open, shared: Arc::clone(shared) };
        ResponseSink::new(Arc::new(wrapped), context.clone())
    }

    /// What is sent at the end, in order. `None` when the end is told in another way.
    fn last_frames(&self, open: &Open, terminal: &Terminal) -> Option<Vec<Bytes>> {
        match terminal {
            Terminal::Complete { .. } => Some(vec![self.items.end()]),
            Terminal::Failed { error } => {
                if !open.has_begun && Telling::of(error) == Telling::Prologue {
                    return None;
                }
                let told = self.items.wrap_error(&of_handler(error)).ok()?;
                Some(vec![told, self.items.end()])
            }
            Terminal::Cancelled { .. } => None,
        }
    }

    fn check(&self, item: &Bytes) -> Result<(), Error> {
        let (length, limit) = (item.len(), self.shared.config.max_item_bytes);
        if length > limit {
            let message = format!("an item of {length} bytes is over the limit of {limit}");
            return Err(Error::new(Code::TooLarge, message));
        }
        if item.is_empty() {
            let format = self.items.codec().format();
            let message = format!("an item of no bytes is no value in {format}");
            let error = Error::new(Code::InvalidPayload, message);
            return Err(error.with_executed(Executed::Yes));
        }
        Ok(())
    }
}

impl Open {
    /// The wrapping of an item, from the last try if it was the same item.
    fn wrap(&mut self, items: ItemCodec, item: &Bytes) -> Bytes {
        match self.held.take() {
            Some((held, wrapped)) if held.as_ptr() == item.as_ptr() && held.len() == item.len() => {
                wrapped
            }
            _ => items.wrap(item),
        }
    }

    /// Sends the last frames as far as there is room; what is left comes back.
    fn finish(mut self, frames: Vec<Bytes>) -> Option<(ResponseSink, Vec<Bytes>)> {
        let mut frames = frames.into_iter();
        while let Some(frame) = frames.next() {
            match self.sink.try_send(frame) {
                Ok(()) => {}
                // Over, cancelled or lost: the sink knows how it ends.
                Err(TrySendError::Closed(_)) => return None,
                Err(TrySendError::Full(back)) => {
                    self.sink.flush();
                    return Some((self.sink, std::iter::once(back).chain(frames).collect()));
                }
            }
        }
        self.sink.complete();
        None
    }
}

/// Sends the last frames when there is room for them.
async fn finish_later(mut sink: ResponseSink, frames: Vec<Bytes>, shared: Arc<Shared>) {
    let sending = async {
        for frame in frames {
            sink.send(frame).await?;
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        biased;
        sent = sending => {
            if sent.is_ok() {
                sink.complete();
            }
        }
        () = shared.cut.cancelled() => sink.cancelled(CancelReason::Shutdown),
    }
}

fn over() -> Error {
    Error::new(Code::HandlerFailed, "the stream has ended already")
}

impl SinkTarget for Wrapped {
    fn poll_ready(&self, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        match &mut *self.open.lock() {
            Some(open) => open.sink.poll_ready(cx),
            None => Poll::Ready(Err(over())),
        }
    }

    fn try_send(&self, item: Bytes) -> Result<(), TrySendError> {
        self.check(&item).map_err(TrySendError::Closed)?;
        let mut open = self.open.lock();
        let Some(open) = &mut *open else { return Err(TrySendError::Closed(over())) };
        let wrapped = open.wrap(self.items, &item);
        match open.sink.try_send(wrapped) {
            Ok(()) => {
                open.has_begun = true;
                Ok(())
            }
            Err(TrySendError::Full(wrapped)) => {
                open.held = Some((item.clone(), wrapped));
                Err(TrySendError::Full(item))
            }
            Err(closed) => Err(closed),
        }
    }

    fn accept(&self) {
        if let Some(open) = &mut *self.open.lock() {
            open.has_begun = true;
            open.sink.accept();
        }
    }

    fn finish(&self, terminal: Terminal) {
        let Some(open) = self.open.lock().take() else { return };
        let left = match (self.last_frames(&open, &terminal), terminal) {
            (Some(frames), _) => open.finish(frames),
            (None, Terminal::Cancelled { reason }) => {
                open.sink.cancelled(reason);
                None
            }
            (None, Terminal::Failed { error }) if error.executed() == Executed::No => {
                open.sink.reject(error);
                None
            }
            (None, Terminal::Failed { error }) => {
                open.sink.fail(error);
                None
            }
            // A complete response always has its last frame.
            (None, Terminal::Complete { .. }) => None,
        };
        // Its consumer reads slowly, and the handler does not wait for it. At most one per
        // response, which admission bounds; it ends with the response.
        if let Some((sink, frames)) = left {
            let finishing = finish_later(sink, frames, Arc::clone(&self.shared));
            self.shared.tasks.spawn_on(finishing, &self.shared.runtime);
        }
    }

    fn flush(&self) {
        if let Some(open) = &*self.open.lock() {
            open.sink.flush();
        }
    }
}
