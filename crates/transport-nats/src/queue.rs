//! A work queue that NATS JetStream keeps on disk.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use sinew_plane::{Code, Error, Executed, Headers, Shutdown, budget::Account};
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{api::Api, layout::Consumer, pull::Pull};
pub use self::{
    item::QueueItem,
    settings::{CheckedQueueConfig, QueueConfig},
};
use crate::{NatsConnection, charge, connection_state::ConnectionState, headers};

mod api;
mod item;
mod layout;
mod pull;
mod settings;

/// Most items that one call takes. They are all in memory at once.
const MAX_TAKE: usize = 256;

/// A single question to the server waits this long for an item, so that the end of a taker, which
/// waits for the answer to lose nothing, takes no longer.
const SLICE: Duration = Duration::from_secs(1);

/// Shortest wait that the server is asked for: without one it does not say that there is nothing
/// when all takers together have reached `max_unsettled`.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// What the server counts of an item beside its payload and headers: its subjects.
const AROUND_BYTES: usize = 4 << 10;

/// Longest message id, in bytes.
const MAX_ID_BYTES: usize = 256;

/// A queue of items that NATS JetStream stores until a consumer has processed them. It has the
/// layout of Dynamo's queue, so Dynamo and Sinew consumers can share one.
///
/// | on NATS | is |
/// |---|---|
/// | stream | the name; work-queue retention, stored in files, full means refused |
/// | subjects | `NAME.*`; items go to `NAME.queue` |
/// | durable pull consumer | `worker-group`, shared by all takers |
///
/// It is not part of the request plane. Delivery is **at least once**: an item that is not
/// acknowledged within `ack_wait` is delivered again, up to `max_deliver` times. With one consumer,
/// items are first delivered in the order of their arrival.
///
/// Items that the server has acknowledged survive a crash of the server. They survive a crash of
/// the machine only after the server has synced its files, by default every two minutes. A crash of
/// the server may lose the record that an item was settled; the item is then delivered again.
///
/// ```no_run
/// # use std::time::Duration;
/// # use sinew_plane::Headers;
/// # use sinew_transport_nats::{NatsConnection, NatsQueue, QueueConfig};
/// # async fn example(connection: NatsConnection) -> Result<(), Box<dyn std::error::Error>> {
/// let queue = NatsQueue::open(&connection, QueueConfig::new("jobs").checked()?).await?;
/// queue.enqueue("order-7", "print it".into(), Headers::new()).await?;
///
/// for item in queue.take(16, Duration::from_secs(5)).await? {
///     match item.payload().starts_with(b"print") {
///         true => item.ack().await?,
///         false => item.nak(Duration::from_secs(10)).await?,
///     }
/// }
/// queue.drain(Duration::from_secs(30)).await;
/// # Ok(())
/// # }
/// ```
///
/// Clones share everything. An existing stream or consumer is used unchanged, whatever
/// [`QueueConfig`] says.
#[derive(Clone)]
pub struct NatsQueue {
    inner: Arc<Inner>,
}

struct Inner {
    connection: NatsConnection,
    config: CheckedQueueConfig,
    consumer: Mutex<Consumer>,
    /// Where items that were taken are charged: apart from the requests of the connection, because
    /// they come by number, as they are asked for.
    account: Option<Arc<Account>>,
    draining: CancellationToken,
    /// Calls that take, and items that were taken.
    out: TaskTracker,
}

/// The server's answer for an item that it has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enqueued {
    /// The item's number in the queue. Numbers grow.
    pub sequence: u64,
    /// True if an item with this message id was stored before. This one was not stored, and
    /// `sequence` is the number of the other.
    pub is_duplicate: bool,
}

/// The state of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Items that were never delivered.
    pub waiting: u64,
    /// Items that were delivered and are not settled.
    pub unsettled: u64,
    /// How many of those were delivered more than once.
    pub redelivered: u64,
    /// Items on disk: all of the above, and those that were delivered `max_deliver` times, which
    /// stay for inspection until `max_age`.
    pub stored: u64,
    /// Their size in bytes.
    pub stored_bytes: u64,
}

impl NatsQueue {
    /// Opens the queue, or creates it.
    ///
    /// If the future is dropped, the queue may have been created; the next call opens it.
    ///
    /// # Errors
    /// [`Code::UnknownEndpoint`] if the server has no JetStream; [`Code::InvalidPayload`] if a
    /// stream with this name has another use, or the server refuses the settings; otherwise the
    /// errors of a request.
    pub async fn open(
        connection: &NatsConnection,
        config: CheckedQueueConfig,
    ) -> Result<Self, Error> {
        let consumer = layout::ensure(&Api::new(connection.state()), &config).await?;
        let inner = Inner {
            connection: connection.clone(),
            config,
            consumer: Mutex::new(consumer),
            account: connection.state().config.budget.as_ref().map(|budget| budget.open()),
            draining: connection.state().stop.closing.child_token(),
            out: TaskTracker::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Stores an item. When the call returns, the server has stored it.
    ///
    /// Within `duplicate_window` an item with the same `message_id` is stored once, so after an
    /// error that says [`Executed::Maybe`] the call can be repeated with the same id. It is 1 to
    /// 256 bytes of visible ASCII.
    ///
    /// If the future is dropped, the item may or may not be stored.
    ///
    /// # Errors
    /// [`Code::Overloaded`] if the queue is full; [`Code::TooLarge`] as for a request;
    /// [`Code::InvalidPayload`] for an id that is not valid, and for headers that begin with
    /// `nats-`, which are reserved for the server; [`Code::ConnectionLost`] if the server has not
    /// confirmed the item.
    pub async fn enqueue(
        &self,
        message_id: &str,
        payload: Bytes,
        headers: Headers,
    ) -> Result<Enqueued, Error> {
        let fault = |message| Err(Error::new(Code::InvalidPayload, message));
        let is_id = message_id.bytes().all(|b| b.is_ascii_graphic());
        if !is_id || !(1..=MAX_ID_BYTES).contains(&message_id.len()) {
            return fault("a message id must be 1 to 256 bytes of visible ASCII");
        }
        if headers.iter().any(|(name, _)| name.starts_with("nats-")) {
            return fault("headers of queue items must not begin with nats-");
        }
        let mut map = headers::to_nats(&headers)?;
        headers::add(&mut map, api::MESSAGE_ID, message_id)?;
        // Should another stream have the subject, it refuses.
        headers::add(&mut map, api::EXPECTED_STREAM, &self.inner.config.name)?;
        let send = || self.state().request(self.subject(), map.clone(), payload.clone());
        let reply = match send().await {
            // Nobody has it, and nothing is stored: the stream went away.
            Err(error) if error.code() == Code::UnknownEndpoint => {
                self.ensure().await?;
                send().await?
            }
            reply => reply?,
        };
        let stored: Stored = api::read(&reply.payload).map_err(Error::from)?;
        if stored.stream != self.inner.config.name {
            let message = "another than the queue answered: something else has its subject";
            return Err(Error::new(Code::Violation, message).with_executed(Executed::Maybe));
        }
        Ok(Enqueued { sequence: stored.seq, is_duplicate: stored.duplicate })
    }

    /// Takes up to `limit` items, at most 256, as soon as there is one. Returns no items if none
    /// arrived within `wait`. [Acknowledge](QueueItem::ack) each item, or it is delivered again.
    ///
    /// If all consumers together hold `max_unsettled` items, the last of them may arrive up to a
    /// second late. If the queue was deleted, the call notices that after the connection's
    /// `request_timeout`, and creates it again.
    ///
    /// Items are charged to the [memory budget](crate::NatsConfig::budget) until their payload is
    /// dropped; all of them together have the share of one connection. If that has no room for
    /// `limit` items the call returns fewer, but at least one.
    ///
    /// Cancel-safe: no item is lost. Items that were on their way are delivered again after
    /// `ack_wait`.
    ///
    /// # Errors
    /// [`Code::Draining`] after [`drain`](Self::drain); [`Code::ConnectFailed`] without a
    /// connection and [`Code::Overloaded`] without room in the memory budget, both at once, so
    /// pause before the next call; [`Code::ConnectionLost`] if the connection broke.
    pub async fn take(&self, limit: usize, wait: Duration) -> Result<Vec<QueueItem>, Error> {
        let taking = self.inner.out.token();
        let limit = limit.clamp(1, MAX_TAKE.min(self.state().config.subscription_capacity()));
        let deadline = Instant::now() + wait;
        let mut may_ensure = true;
        loop {
            if self.inner.draining.is_cancelled() {
                return Err(Error::draining("this process takes no more items from the queue"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let pull = Pull {
                state: self.state(),
                config: &self.inner.config,
                limit,
                max_bytes: self.room()?,
                expires: left.clamp(SHORTEST_WAIT, SLICE),
            };
            match pull.run().await {
                Ok(messages) => {
                    let items: Vec<_> = messages
                        .into_iter()
                        .filter_map(|message| self.item(message, &taking))
                        .collect();
                    if !items.is_empty() || Instant::now() >= deadline {
                        return Ok(items);
                    }
                }
                // Fails as it should if it is the server that does not answer.
                Err(error) if error.code() == Code::UnknownEndpoint && may_ensure => {
                    may_ensure = false;
                    self.ensure().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The state of the queue, from the server.
    ///
    /// # Errors
    /// As a request; [`Code::UnknownEndpoint`] if the queue was deleted.
    pub async fn status(&self) -> Result<QueueStatus, Error> {
        let (api, config) = (Api::new(self.state()), &self.inner.config);
        let (stream, consumer) =
            tokio::try_join!(layout::stream(&api, config), layout::consumer(&api, config))?;
        Ok(QueueStatus {
            waiting: consumer.num_pending,
            unsettled: consumer.num_ack_pending,
            redelivered: consumer.num_redelivered,
            stored: stream.state.messages,
            stored_bytes: stream.state.bytes,
        })
    }

    /// Takes no further items, in any clone, and waits until every taken item is dropped; they can
    /// be settled meanwhile. Items that are left after `grace` are counted in `cut_streams`; unless
    /// they are settled later, they are delivered again after `ack_wait`.
    ///
    /// Items can still be stored. Close the connection only after this call, because settling needs
    /// it.
    pub async fn drain(&self, grace: Duration) -> Shutdown {
        self.inner.draining.cancel();
        self.inner.out.close();
        let _ = timeout(grace, self.inner.out.wait()).await;
        Shutdown { cut_streams: self.inner.out.len(), cut_tasks: 0 }
    }

    async fn ensure(&self) -> Result<(), Error> {
        let consumer = layout::ensure(&Api::new(self.state()), &self.inner.config).await?;
        *self.inner.consumer.lock() = consumer;
        Ok(())
    }

    /// Bytes of items that may come now, and at least one of them; `None` without a bound.
    fn room(&self) -> Result<Option<usize>, Error> {
        let Some(account) = &self.inner.account else { return Ok(None) };
        account.budget().admit()?;
        let session = self.state().connected()?;
        let largest = session.client.max_payload() + AROUND_BYTES;
        let room = account.room();
        if room < largest && account.used() > 0 {
            return Err(account.budget().refusal());
        }
        Ok(Some(room.max(largest)))
    }

    fn item(
        &self,
        mut message: async_nats::Message,
        taking: &tokio_util::task::task_tracker::TaskTrackerToken,
    ) -> Option<QueueItem> {
        charge::item(self.inner.account.as_ref(), &mut message);
        let max_deliver = self.inner.consumer.lock().config.max_deliver;
        let state = Arc::clone(self.state());
        let item = QueueItem::new(message, state, max_deliver, taking.clone());
        if item.is_none() {
            tracing::warn!(queue = self.inner.config.name, "something else than an item came");
        }
        item
    }

    fn subject(&self) -> String {
        format!("{}.queue", self.inner.config.name)
    }

    fn state(&self) -> &Arc<ConnectionState> {
        self.inner.connection.state()
    }
}

/// The answer to an item.
#[derive(Deserialize)]
struct Stored {
    stream: String,
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

impl std::fmt::Debug for NatsQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsQueue").field("name", &self.inner.config.name).finish_non_exhaustive()
    }
}
