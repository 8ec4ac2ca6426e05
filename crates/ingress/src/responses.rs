//! The response stream of one request: values in, items out.

use std::{any::Any, future::poll_fn};

use bytes::Bytes;
use serde_core::Serialize;
use sinew_codec::{DEFAULT_MAX_MESSAGE_SIZE, PayloadFormat};
use sinew_plane::{
    Checkpoint, Checkpoints, Context, Error, Executed, Headers, ItemRun, ResponseSink, TrySendError,
};

use crate::{end::End, payload::payload_error, request_guard::RequestGuard};

/// Most items in a run. A longer run would save no more, and would delay the other tasks of the
/// thread.
const MAX_RUN_ITEMS: usize = 64;
const MAX_RUN_BYTES: usize = 16 << 10;

/// Items of `Bytes` that are larger than this are sent without a copy.
const LARGE_BYTES: usize = 2 << 10;

/// Encodes values, and sends those that the engine yields without a wait between them in one run.
pub(crate) struct Responses<'a> {
    sink: &'a mut ResponseSink,
    permit: &'a mut RequestGuard,
    context: &'a Context,
    format: PayloadFormat,
    /// The items that are encoded and not sent yet.
    run: ItemRun,
    /// A large item that waits for credit, after the run.
    large: Option<Bytes>,
    /// How many items the sink takes, as far as is known. No more than that are gathered.
    room: usize,
    unflushed: bool,
    accepted: bool,
    /// Raw bytes, or an endpoint that declares checkpoints: one look for both, since all others have
    /// neither.
    is_special: bool,
    /// Of an endpoint that declares checkpoints.
    checkpoints: Option<&'a Checkpoints>,
    /// The newest checkpoint, with the item to which it belongs in the run or behind it.
    checkpoint: Option<Checkpoint>,
}

/// The result of adding a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The value waits in the run.
    Gathered,
    /// The run was sent, with so many items. They leave with the next flush.
    Sent(usize),
    /// There is not enough credit for the run: call [`Responses::send_with_credit`] next.
    NoCredit,
}

impl<'a> Responses<'a> {
    pub(crate) fn new(
        format: PayloadFormat,
        context: &'a Context,
        sink: &'a mut ResponseSink,
        permit: &'a mut RequestGuard,
    ) -> Self {
        let checkpoints = context.checkpoints().map(|checkpoints| &**checkpoints);
        let is_special = format == PayloadFormat::Raw || checkpoints.is_some();
        Self {
            sink,
            permit,
            context,
            format,
            run: ItemRun::new(),
            large: None,
            room: 1,
            unflushed: false,
            accepted: false,
            is_special,
            checkpoints,
            checkpoint: None,
        }
    }

    /// Takes the checkpoint that the engine has attached to the value that is pushed next. It is sent
    /// behind the run with that value: only the newest counts for the router.
    fn take_checkpoint(&mut self, checkpoints: &Checkpoints) {
        if let Some(state) = checkpoints.take() {
            let items = self.sink.sent() + self.run.count() as u64 + 1;
            self.checkpoint = Some(Checkpoint { items, state });
        }
    }

    #[cold]
    fn send_checkpoint(&mut self) {
        if let Some(Checkpoint { items, state }) =
            self.checkpoint.take_if(|checkpoint| checkpoint.items <= self.sink.sent())
        {
            // Its length was checked when the engine attached it.
            let _ = self.sink.checkpoint_behind(items, state);
        }
    }

    /// Sends the head. Ignores an error, which the values return again.
    pub(crate) fn head(&mut self, head: Result<Headers, Error>) {
        if let Ok(head) = head
            && !head.is_empty()
            && self.sink.head(head).is_ok()
        {
            self.accepted = true;
        }
    }

    /// Keeps the facts of the response for its end.
    pub(crate) fn set_facts(&mut self, facts: Headers) {
        if !facts.is_empty() {
            self.sink.set_facts(facts);
        }
    }

    /// The engine has no value ready. Sends the values made so far; if there are none yet, sends
    /// the acceptance. False if there is not enough credit: call [`send_with_credit`] next.
    ///
    /// [`send_with_credit`]: Self::send_with_credit
    pub(crate) fn idle(&mut self) -> Result<bool, End> {
        if !self.run.is_empty() && self.send_run()? == Pushed::NoCredit {
            return Ok(false);
        }
        if !self.accepted {
            self.accepted = true;
            // Leaves by itself, and says nothing once an item has.
            self.sink.accept();
        }
        if std::mem::take(&mut self.unflushed) {
            self.sink.flush();
        }
        Ok(true)
    }

    /// Encodes a value, and sends the run once it is large enough.
    #[inline]
    pub(crate) fn push<T: Serialize + 'static>(&mut self, value: &T) -> Result<Pushed, End> {
        if self.is_special {
            return self.push_special(value);
        }
        self.push_encoded(value)
    }

    fn push_special<T: Serialize + 'static>(&mut self, value: &T) -> Result<Pushed, End> {
        if let Some(checkpoints) = self.checkpoints {
            self.take_checkpoint(checkpoints);
        }
        if self.format == PayloadFormat::Raw
            && let Some(bytes) = (value as &dyn Any).downcast_ref::<Bytes>()
        {
            return self.push_bytes(bytes);
        }
        self.push_encoded(value)
    }

    #[inline]
    fn push_encoded<T: Serialize + 'static>(&mut self, value: &T) -> Result<Pushed, End> {
        let format = self.format;
        self.run
            .write(|buffer| format.encode_into(value, buffer, DEFAULT_MAX_MESSAGE_SIZE))
            .map_err(|error| {
                End::Failed(payload_error("a response item", &error).with_executed(Executed::Yes))
            })?;
        self.gathered()
    }

    fn push_bytes(&mut self, bytes: &Bytes) -> Result<Pushed, End> {
        if bytes.len() <= LARGE_BYTES && self.accepted {
            self.run.push(bytes);
            return self.gathered();
        }
        self.large = Some(bytes.clone());
        if !self.run.is_empty() && self.send_run()? == Pushed::NoCredit {
            return Ok(Pushed::NoCredit);
        }
        self.send_large()
    }

    fn send_large(&mut self) -> Result<Pushed, End> {
        let Some(item) = self.large.take() else { return Ok(Pushed::Sent(0)) };
        let bytes = item.len();
        match self.sink.try_send(item) {
            Ok(()) => {
                self.sent(bytes);
                Ok(Pushed::Sent(1))
            }
            Err(TrySendError::Full(item)) => {
                self.large = Some(item);
                Ok(Pushed::NoCredit)
            }
            Err(TrySendError::Closed(error)) => Err(self.closed(error)),
        }
    }

    #[inline]
    fn gathered(&mut self) -> Result<Pushed, End> {
        let is_enough = self.run.count() >= self.room
            || self.run.bytes() >= MAX_RUN_BYTES
            || !self.run.has_room();
        if is_enough { self.send_run() } else { Ok(Pushed::Gathered) }
    }

    fn send_run(&mut self) -> Result<Pushed, End> {
        let (count, bytes) = (self.run.count(), self.run.bytes());
        let room = self.sink.try_send_run(&mut self.run);
        let sent = count - self.run.count();
        if sent > 0 {
            self.sent(bytes - self.run.bytes());
        }
        let room = room.map_err(|error| {
            // One that is too large is a gap that nothing may follow.
            (self.run, self.large) = (ItemRun::new(), None);
            self.closed(error)
        });
        self.room = room?.clamp(1, MAX_RUN_ITEMS);
        Ok(if self.run.is_empty() { Pushed::Sent(sent) } else { Pushed::NoCredit })
    }

    fn sent(&mut self, bytes: usize) {
        // An item says that the handler has begun.
        (self.accepted, self.unflushed) = (true, true);
        self.permit.items(bytes);
        if self.checkpoint.is_some() {
            self.send_checkpoint();
        }
    }

    /// Sends the run once there is credit for it.
    pub(crate) async fn send_with_credit(&mut self) -> Result<(), End> {
        while self.send_all()? == Pushed::NoCredit {
            // The consumer can only make room once it has what was sent.
            self.unflushed = false;
            self.sink.flush();
            let ready = poll_fn(|cx| self.sink.poll_ready(cx)).await;
            ready.map_err(|error| self.closed(error))?;
        }
        Ok(())
    }

    fn send_all(&mut self) -> Result<Pushed, End> {
        if !self.run.is_empty() && self.send_run()? == Pushed::NoCredit {
            return Ok(Pushed::NoCredit);
        }
        self.send_large()
    }

    fn closed(&self, error: Error) -> End {
        if self.context.is_stopped() { End::cancelled(self.context) } else { End::failed(error) }
    }
}

impl Drop for Responses<'_> {
    /// Items are left only if the handler panicked or was killed. After a panic they are sent,
    /// because the handler has made them.
    fn drop(&mut self) {
        if !self.run.is_empty() && !self.context.is_killed() {
            // Without credit, or to a caller that is gone, it cannot be sent.
            let _ = self.send_run();
        }
    }
}
