//! One item that was taken from a queue.

use std::{fmt, sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use sinew_plane::{Error, Headers};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::api::MESSAGE_ID;
use crate::{connection_state::ConnectionState, headers};

/// Where items are settled.
const ACK_PREFIX: &str = "$JS.ACK.";

/// An item that was delivered to this process, for `ack_wait`. Settle it with [`ack`](Self::ack),
/// [`nak`](Self::nak) or [`discard`](Self::discard); if it is dropped unsettled, it is delivered
/// again after `ack_wait`.
///
/// Each of these waits for the confirmation of the server, with the timeout of a request. After an
/// error it can be called again once there is a connection. The server confirms also if `ack_wait`
/// had passed; another consumer may have the item then.
pub struct QueueItem {
    message: Message,
    ack_subject: String,
    delivery: Delivery,
    is_last_delivery: bool,
    state: Arc<ConnectionState>,
    _out: TaskTrackerToken,
}

/// What the server says of an item in the subject that it is settled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delivery {
    count: u64,
    sequence: u64,
}

impl QueueItem {
    /// `None` if the message is no item.
    pub(super) fn new(
        message: Message,
        state: Arc<ConnectionState>,
        max_deliver: i64,
        out: TaskTrackerToken,
    ) -> Option<Self> {
        let ack_subject = message.reply.as_ref()?.as_str().to_owned();
        let delivery = delivery(&ack_subject)?;
        let limit = u64::try_from(max_deliver).ok().filter(|limit| *limit > 0);
        let is_last_delivery = limit.is_some_and(|limit| delivery.count >= limit);
        Some(Self { message, ack_subject, delivery, is_last_delivery, state, _out: out })
    }

    /// The stored payload.
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// The headers with which it was stored, without those that [`Headers`] cannot hold.
    pub fn headers(&self) -> Headers {
        headers::from_nats(self.message.headers.as_ref())
    }

    /// The message id with which it was stored. Items of Dynamo have none.
    pub fn message_id(&self) -> Option<&str> {
        let headers: &HeaderMap = self.message.headers.as_ref()?;
        headers.get(MESSAGE_ID).map(|id| id.as_str())
    }

    /// Its number in the queue.
    pub fn sequence(&self) -> u64 {
        self.delivery.sequence
    }

    /// How often it was delivered, this time included.
    pub fn deliveries(&self) -> u64 {
        self.delivery.count
    }

    /// True if it is not delivered again, even if it is not acknowledged now.
    pub fn is_last_delivery(&self) -> bool {
        self.is_last_delivery
    }

    /// Acknowledges the item: it is processed, and removed from the queue.
    ///
    /// # Errors
    /// As a request; the item may or may not be removed then.
    pub async fn ack(&self) -> Result<(), Error> {
        self.tell(Bytes::from_static(b"+ACK")).await
    }

    /// Reports a failure: the item is delivered again after `delay`, unless this was the last
    /// delivery.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn nak(&self, delay: Duration) -> Result<(), Error> {
        self.tell(match delay.as_nanos() {
            0 => Bytes::from_static(b"-NAK"),
            delay => format!("-NAK {{\"delay\": {delay}}}").into(),
        })
        .await
    }

    /// Starts `ack_wait` again, for an item that is still being processed. Call it well before
    /// `ack_wait` has passed.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn extend(&self) -> Result<(), Error> {
        self.tell(Bytes::from_static(b"+WPI")).await
    }

    /// Removes the item from the queue without processing it.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn discard(&self) -> Result<(), Error> {
        self.tell(Bytes::from_static(b"+TERM")).await
    }

    async fn tell(&self, word: Bytes) -> Result<(), Error> {
        let subject = self.ack_subject.clone();
        self.state.request(subject, (HeaderMap::new(), 0), word).await.map(drop)
    }
}

impl fmt::Debug for QueueItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueItem")
            .field("delivery", &self.delivery)
            .field("payload_bytes", &self.message.payload.len())
            .finish_non_exhaustive()
    }
}

/// Reads `$JS.ACK.STREAM.CONSUMER.COUNT.SEQUENCE.CONSUMER_SEQUENCE.TIME.PENDING`; newer servers
/// put a domain and an account in front, and may put more behind.
fn delivery(subject: &str) -> Option<Delivery> {
    let parts: Vec<&str> = subject.strip_prefix(ACK_PREFIX)?.split('.').collect();
    let first = match parts.len() {
        7 => 2,
        9.. => 4,
        _ => return None,
    };
    Some(Delivery { count: parts[first].parse().ok()?, sequence: parts[first + 1].parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_server_are_read() {
        let expected = Some(Delivery { count: 2, sequence: 41 });
        for subject in [
            "$JS.ACK.jobs.worker-group.2.41.50.1795262819866717745.3",
            "$JS.ACK._.ACCOUNT.jobs.worker-group.2.41.50.1795262819866717745.3",
            "$JS.ACK.hub.ACCOUNT.jobs.worker-group.2.41.50.1795262819866717745.3.random",
        ] {
            assert_eq!(delivery(subject), expected, "{subject}");
        }
    }

    #[test]
    fn other_subjects_are_not_settled() {
        for subject in [
            "",
            "tenant.secret",
            "$JS.ACK.",
            "$JS.ACK.jobs.worker-group.2.41.50.7",
            "$JS.ACK.jobs.worker-group.x.41.50.7.3",
            "$JS.ACK.jobs.worker-group.-1.41.50.7.3",
            "$JS.API.a.b.2.41.50.7.3",
        ] {
            assert_eq!(delivery(subject), None, "{subject}");
        }
    }
}
