//! A sink that wraps items for a Dynamo caller.

use std::{
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sinew_plane::{
    Code, Error, Executed, Headers, ResponseSink, SinkTarget, Terminal, TrySendError,
};
use sinew_split::{LateFrames, PeerResponse};

use crate::{
    ItemCodec,
    error::{ErrorPlacement, of_handler},
};

/// Wraps what a handler sends, and ends its response with the marks that Dynamo looks for.
pub(crate) struct ItemSink {
    items: ItemCodec,
    open: Mutex<Option<Open>>,
    max_item_bytes: usize,
    late: LateFrames,
}

struct Open {
    sink: ResponseSink,
    /// The caller has been told that the handler began, so it cannot be told of a refusal.
    has_begun: bool,
    /// An item for which there was no room, and its wrapping, as it will be tried again.
    held: Option<(Bytes, Bytes)>,
}

impl ItemSink {
    /// The sink for the handler.
    pub(crate) fn sink(response: PeerResponse) -> ResponseSink {
        let PeerResponse { sink, format, context, max_item_bytes, late } = response;
        let open = Mutex::new(Some(Open { sink, has_begun: false, held: None }));
        let items = ItemCodec::of(format);
        ResponseSink::new(Arc::new(Self { items, open, max_item_bytes, late }), context)
    }

    /// What is sent at the end, in order. `None` when the end is told in another way.
    fn last_frames(&self, open: &Open, terminal: &Terminal) -> Option<Vec<Bytes>> {
        match terminal {
            Terminal::Complete { .. } => Some(vec![self.items.end()]),
            Terminal::Failed { error } => {
                if !open.has_begun && ErrorPlacement::of(error) == ErrorPlacement::Prologue {
                    return None;
                }
                let told = self.items.wrap_error(&of_handler(error)).ok()?;
                Some(vec![told, self.items.end()])
            }
            Terminal::Cancelled { .. } => None,
        }
    }

    fn check(&self, item: &Bytes) -> Result<(), Error> {
        let (length, limit) = (item.len(), self.max_item_bytes);
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

fn over() -> Error {
    Error::new(Code::HandlerFailed, "the stream has ended already")
}

impl SinkTarget for ItemSink {
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

    fn head(&self, head: Headers) {
        if let Some(open) = &mut *self.open.lock() {
            open.has_begun = true;
            // An error is for the handler, and its own sink has looked for it already.
            let _ = open.sink.head(head);
        }
    }

    fn set_facts(&self, facts: Headers) {
        if let Some(open) = &mut *self.open.lock() {
            open.sink.set_facts(facts);
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
        // Its consumer reads slowly, and the handler does not wait for it.
        if let Some((sink, frames)) = left {
            self.late.send(sink, frames);
        }
    }

    fn flush(&self) {
        if let Some(open) = &*self.open.lock() {
            open.sink.flush();
        }
    }
}
