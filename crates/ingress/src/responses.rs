//! The response stream of one request: values in, items out.

use std::future::poll_fn;

use bytes::Bytes;
use serde_core::Serialize;
use sinew_codec::PayloadFormat;
use sinew_plane::{Context, Error, Executed, ResponseSink, TrySendError};

use crate::{
    end::End,
    payload::{Encoder, payload_error},
    permit::Permit,
};

/// Encodes values and sends them, with one flush for all that came at once.
pub(crate) struct Responses<'a> {
    sink: &'a mut ResponseSink,
    permit: &'a mut Permit,
    encoder: Encoder,
    context: &'a Context,
    unflushed: bool,
    accepted: bool,
}

impl<'a> Responses<'a> {
    pub(crate) fn new(
        format: PayloadFormat,
        context: &'a Context,
        sink: &'a mut ResponseSink,
        permit: &'a mut Permit,
    ) -> Self {
        let encoder = Encoder::new(format);
        Self { sink, permit, encoder, context, unflushed: false, accepted: false }
    }

    /// The handler has nothing for now: what it has sent leaves; if it has sent nothing, the
    /// caller hears that it has begun.
    pub(crate) fn idle(&mut self) {
        if !self.accepted {
            self.accepted = true;
            // Leaves by itself, and says nothing once an item has.
            self.sink.accept();
        }
        if std::mem::take(&mut self.unflushed) {
            self.sink.flush();
        }
    }

    /// Encodes a value and sends it if there is credit; else gives back its item, to be passed to
    /// [`send_with_credit`](Self::send_with_credit). It leaves with the next flush.
    pub(crate) fn try_send<T: Serialize + 'static>(
        &mut self,
        value: &T,
    ) -> Result<Option<Bytes>, End> {
        let item = self.encoder.encode(value).map_err(|error| {
            End::Failed(payload_error("a response item", &error).with_executed(Executed::Yes))
        })?;
        self.try_send_item(item)
    }

    /// Sends an item once there is credit.
    pub(crate) async fn send_with_credit(&mut self, mut item: Bytes) -> Result<(), End> {
        loop {
            // The consumer can only make room once it has what was sent.
            self.unflushed = false;
            self.sink.flush();
            let ready = poll_fn(|cx| self.sink.poll_ready(cx)).await;
            ready.map_err(|error| self.closed(error))?;
            match self.try_send_item(item)? {
                None => return Ok(()),
                Some(back) => item = back,
            }
        }
    }

    fn try_send_item(&mut self, item: Bytes) -> Result<Option<Bytes>, End> {
        let bytes = item.len();
        match self.sink.try_send(item) {
            Ok(()) => {
                // An item says that the handler has begun.
                (self.accepted, self.unflushed) = (true, true);
                self.permit.item(bytes);
                Ok(None)
            }
            Err(TrySendError::Full(item)) => Ok(Some(item)),
            Err(TrySendError::Closed(error)) => Err(self.closed(error)),
        }
    }

    fn closed(&self, error: Error) -> End {
        if self.context.is_stopped() { End::cancelled(self.context) } else { End::failed(error) }
    }
}
