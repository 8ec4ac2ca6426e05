//! The sending end. velo's sender waits for room in a future, which is kept here while it waits.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use sinew_benches::{ReplySink, Sent, Sink};
use sinew_plane::{Flush, defer_flush};
use tokio_util::sync::ReusableBoxFuture;
use velo::{SendError, StreamSender, Velo, WeakVelo};

pub(crate) struct VeloSink(Response);

enum Response {
    One(ReplySink),
    Many(Items),
}

struct Items {
    sender: Arc<StreamSender<Bytes>>,
    /// Where velo does not decide by itself when to write.
    batches: Option<Arc<Batches>>,
    /// Made for each item in the same memory.
    sending: ReusableBoxFuture<'static, Result<(), SendError>>,
    is_sending: bool,
}

/// What a node has gathered for all others, to be written at once.
pub(super) struct Batches(WeakVelo);

impl Batches {
    pub(super) fn of(node: &Velo) -> Arc<Self> {
        Arc::new(Self(node.downgrade()))
    }
}

impl Flush for Batches {
    fn flush(&self) {
        if let Some(node) = self.0.upgrade() {
            node.flush_batch();
        }
    }
}

impl VeloSink {
    pub(super) fn one(sink: ReplySink) -> Self {
        Self(Response::One(sink))
    }

    pub(super) fn many(sender: StreamSender<Bytes>, batches: Option<Arc<Batches>>) -> Self {
        let sender = Arc::new(sender);
        let sending = ReusableBoxFuture::new(send(Arc::clone(&sender), Bytes::new()));
        let mut items = Items { sender, batches, sending, is_sending: false };
        // The first one was only for its size.
        items.sending.set(std::future::ready(Ok(())));
        Self(Response::Many(items))
    }
}

async fn send(sender: Arc<StreamSender<Bytes>>, item: Bytes) -> Result<(), SendError> {
    sender.send_bytes(item).await
}

impl Items {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        let mut now = Context::from_waker(Waker::noop());
        match self.poll_sent(&mut now) {
            Poll::Pending => return Sent::Full,
            Poll::Ready(false) => return Sent::Closed,
            Poll::Ready(true) => {}
        }
        self.sending.set(send(Arc::clone(&self.sender), item.clone()));
        self.is_sending = true;
        match self.poll_sent(&mut now) {
            Poll::Ready(false) => Sent::Closed,
            // One that waits for room is on its way; the next finds it there.
            Poll::Ready(true) | Poll::Pending => Sent::Taken,
        }
    }

    /// Ready when no item waits any more, with whether somebody is still there.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.is_sending {
            return Poll::Ready(true);
        }
        let sent = ready!(self.sending.poll(cx)).is_ok();
        self.is_sending = false;
        Poll::Ready(sent)
    }

    fn finalize(self) {
        drop(self.sending);
        // No future that shares it is left.
        if let Some(sender) = Arc::into_inner(self.sender) {
            // It fails when the caller is gone, and then nobody waits for the end.
            let _ = sender.finalize();
        }
    }
}

impl Sink for VeloSink {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        match &mut self.0 {
            Response::One(sink) => sink.try_send(item),
            Response::Many(items) => items.try_send(item),
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.0 {
            Response::One(sink) => sink.poll_ready(cx),
            Response::Many(items) => items.poll_sent(cx),
        }
    }

    fn flush(&self) {
        if let Response::Many(Items { batches: Some(batches), .. }) = &self.0
            && !defer_flush(batches)
        {
            batches.flush();
        }
    }

    fn end(self) {
        let Response::Many(mut items) = self.0 else { return };
        if !items.is_sending {
            return items.finalize();
        }
        // Ends with the last item or with the connection.
        tokio::spawn(async move {
            poll_fn(|cx| items.poll_sent(cx)).await;
            items.finalize();
        });
    }
}
