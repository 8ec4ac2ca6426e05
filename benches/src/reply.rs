//! A sink for peers whose servers return a value or a stream instead of sending.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};
use tokio_util::sync::PollSender;

use crate::{Sent, Sink};

/// Items that wait between the service and the peer: as many as a batch of a mux has when
/// streams are short, so that the channel is never why a peer writes less at once.
const CAPACITY: usize = 256;

/// The end that the [`Service`](crate::Service) gets.
pub struct ReplySink(Reply);

enum Reply {
    One(Option<oneshot::Sender<Bytes>>),
    Many { items: mpsc::Sender<Bytes>, room: Option<PollSender<Bytes>> },
}

impl ReplySink {
    /// For one item: the end of the response as well.
    pub fn one() -> (Self, oneshot::Receiver<Bytes>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Reply::One(Some(sender))), receiver)
    }

    /// For a stream of items, which ends with the sink.
    pub fn many() -> (Self, impl Stream<Item = Bytes> + Send + Unpin + use<>) {
        let (items, mut receiver) = mpsc::channel(CAPACITY);
        let stream = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        (Self(Reply::Many { items, room: None }), stream)
    }
}

impl Sink for ReplySink {
    fn try_send(&mut self, item: &Bytes) -> Sent {
        match &mut self.0 {
            Reply::One(sender) => match sender.take().map(|sender| sender.send(item.clone())) {
                Some(Ok(())) => Sent::Taken,
                _ => Sent::Closed,
            },
            Reply::Many { items, .. } => match items.try_send(item.clone()) {
                Ok(()) => Sent::Taken,
                Err(TrySendError::Full(_)) => Sent::Full,
                Err(TrySendError::Closed(_)) => Sent::Closed,
            },
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Reply::Many { items, room } = &mut self.0 else { return Poll::Ready(true) };
        let room = room.get_or_insert_with(|| PollSender::new(items.clone()));
        let reserved = ready!(room.poll_reserve(cx)).is_ok();
        // Nobody else sends here, so the room is still there when the item comes.
        room.abort_send();
        Poll::Ready(reserved)
    }

    /// Whoever receives has been woken already.
    fn flush(&self) {}

    fn end(self) {}
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_full_channel_has_room_again_when_an_item_was_taken() {
        let (mut sink, mut items) = ReplySink::many();
        let item = Bytes::from_static(b"item");
        for _ in 0..CAPACITY {
            assert_eq!(sink.try_send(&item), Sent::Taken);
        }
        assert_eq!(sink.try_send(&item), Sent::Full);
        assert!(
            futures_util::poll!(std::pin::pin!(poll_fn(|cx| sink.poll_ready(cx)))).is_pending()
        );
        assert!(items.next().await.is_some());
        assert!(poll_fn(|cx| sink.poll_ready(cx)).await);
        assert_eq!(sink.try_send(&item), Sent::Taken);
        sink.end();
        assert_eq!(items.count().await, CAPACITY);
    }

    #[tokio::test]
    async fn nobody_there_is_told() {
        let (mut sink, items) = ReplySink::many();
        drop(items);
        assert_eq!(sink.try_send(&Bytes::new()), Sent::Closed);
        assert!(!poll_fn(|cx| sink.poll_ready(cx)).await);
        let (sink, item) = ReplySink::one();
        sink.end_with(&Bytes::from_static(b"only"));
        assert_eq!(item.await.unwrap(), "only");
    }
}
