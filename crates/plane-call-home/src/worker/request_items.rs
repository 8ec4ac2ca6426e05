//! The items of a request that the worker fetches from the caller.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use parking_lot::Mutex;
use sinew_codec::TwoPartCodec;
use sinew_dynamo_wire::{ControlMessage, Heartbeats, MAX_HEADER_BYTES, Message};
use sinew_plane::{
    Budget, BudgetUse, CancelReason, Code, Context, Error, Executed, OnCancel, StopKind, clock,
};
use tokio::net::TcpStream;

use crate::share::Share;

/// Room for one read, in bytes.
const READ_BYTES: usize = 16 << 10;

/// The items of a request, as the caller sends them: what is inside a
/// [`RequestStream`](sinew_plane::RequestStream).
pub(crate) struct RequestItems {
    socket: TcpStream,
    codec: TwoPartCodec,
    buffer: BytesMut,
    /// What is charged for a buffer that has grown.
    share: Share,
    ready: VecDeque<Bytes>,
    heartbeats: Heartbeats,
    context: Context,
    /// How it ended; the inner part is taken when it was told.
    end: Option<Option<Error>>,
    cancel_waker: Arc<CancelWaker>,
}

/// Wakes whoever polls when the context is cancelled.
#[derive(Default)]
struct CancelWaker(Mutex<Option<Waker>>);

impl OnCancel for CancelWaker {
    fn on_cancel(&self, _kind: StopKind, _reason: CancelReason) {
        let waker = self.0.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl RequestItems {
    pub(crate) fn new(
        socket: TcpStream,
        context: Context,
        codec: TwoPartCodec,
        budget: Option<&Arc<Budget>>,
    ) -> Self {
        let cancel_waker = Arc::new(CancelWaker::default());
        context.on_cancel(Arc::downgrade(&cancel_waker));
        Self {
            socket,
            codec: codec.with_max_header_size(MAX_HEADER_BYTES),
            buffer: BytesMut::new(),
            share: Share::new(budget, BudgetUse::Frames),
            ready: VecDeque::new(),
            heartbeats: Heartbeats::new(clock::now()),
            context,
            end: None,
            cancel_waker,
        }
    }

    /// Takes whole frames out of the buffer.
    fn decode(&mut self) {
        // As with responses: a few small items do not hold a whole piece of reading.
        let sparse = self.buffer.len() < self.buffer.capacity() / 4;
        while self.end.is_none() {
            let frame = match self.codec.decode_frame(&mut self.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(cause) => return self.violation(&cause.to_string()),
            };
            match Message::read(frame) {
                Ok(Message::Item(item)) => {
                    let item = if sparse { Bytes::copy_from_slice(&item) } else { item };
                    self.ready.push_back(item);
                }
                Ok(Message::Heartbeat) if self.heartbeats.accept(clock::now()) => {}
                Ok(Message::Heartbeat) => self.violation("too many heartbeats"),
                Ok(Message::Control(ControlMessage::Sentinel)) => self.end = Some(None),
                Ok(Message::Control(ControlMessage::Stop)) => self.cancelled(StopKind::Stop),
                Ok(Message::Control(ControlMessage::Kill)) => self.cancelled(StopKind::Kill),
                Ok(Message::Control(ControlMessage::Ready)) => {
                    self.violation("a word out of place")
                }
                Ok(Message::Begun | Message::Failed(_)) => self.violation("a prologue"),
                Ok(Message::Head(_) | Message::Facts(_)) => self.violation("a head or facts"),
                Err(what) => self.violation(what),
            }
        }
    }

    fn cancelled(&mut self, kind: StopKind) {
        let reason = CancelReason::Caller;
        self.context.cancel(kind, reason);
        let error = Error::new(Code::Cancelled, reason.to_string());
        self.end = Some(Some(error.with_executed(Executed::Yes)));
    }

    fn violation(&mut self, what: &str) {
        self.context.cancel(StopKind::Kill, CancelReason::Disconnected);
        let message = format!("the caller sent no request item: {what}");
        self.end = Some(Some(Error::new(Code::Violation, message).with_executed(Executed::Yes)));
    }

    fn lost(&mut self, cause: Option<io::Error>) {
        self.context.cancel(StopKind::Kill, CancelReason::Disconnected);
        let message = "the request broke off: the caller or the way to it was lost";
        let error = Error::new(Code::Truncated, message);
        self.end = Some(Some(match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }));
    }

    fn read(&mut self) {
        self.buffer.reserve(READ_BYTES);
        if !self.share.cover(self.buffer.capacity()) {
            self.context.cancel(StopKind::Kill, CancelReason::Evicted);
            self.end = Some(self.share.overflow());
            return;
        }
        match self.socket.try_read_buf(&mut self.buffer) {
            Ok(0) => self.lost(None),
            Ok(_) => self.decode(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.lost(Some(error)),
        }
    }
}

impl Stream for RequestItems {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(item) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(item)));
            }
            if let Some(end) = &mut this.end {
                return Poll::Ready(end.take().map(Err));
            }
            // Before the look, so that a cancel in between is heard.
            *this.cancel_waker.0.lock() = Some(cx.waker().clone());
            if this.context.is_killed() {
                this.cancelled(StopKind::Kill);
                continue;
            }
            match this.socket.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => this.read(),
                Poll::Ready(Err(error)) => this.lost(Some(error)),
                Poll::Pending => {
                    if this.buffer.is_empty() {
                        this.buffer = BytesMut::new();
                        this.share.settle(0);
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
