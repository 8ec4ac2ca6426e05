//! The metrics of this crate. The ingress counts requests and their durations, for every transport.
//!
//! Install the recorder before a connection or endpoint is made, because the metrics are registered
//! then.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge};
use sinew_plane::EndpointName;

/// How often a connection broke. Counter.
pub const NATS_DISCONNECTS: &str = "nats_disconnects_total";
/// How often it was connected again after it broke. Counter.
pub const NATS_RECONNECTS: &str = "nats_reconnects_total";
/// How often a client was replaced because its server announced its shutdown, or because the client
/// had ended. Counter.
pub const NATS_REPLACEMENTS: &str = "nats_replacements_total";
/// Messages to endpoints that were dropped because they could not be answered. Counter.
pub const NATS_DROPPED: &str = "nats_dropped_messages_total";
/// Replies that arrived after their request had ended, or twice. Counter.
pub const NATS_LATE_REPLIES: &str = "nats_late_replies_total";
/// How often messages were lost because they arrived faster than they were read. Counter.
pub const NATS_SLOW_CONSUMER: &str = "nats_slow_consumer_total";
/// Requests that were received and not passed on yet. Gauge; label [`ENDPOINT`].
pub const NATS_QUEUED: &str = "nats_queued_requests";
/// Requests that were refused before they reached the handler: the queue was full, the memory
/// budget had no room, or the endpoint was draining. Counter; label [`ENDPOINT`].
pub const NATS_REFUSALS: &str = "nats_refusals_total";

/// Label: `namespace/component/endpoint`, one that is served here.
pub const ENDPOINT: &str = "endpoint";

/// Registers the meaning of every metric with the installed recorder.
/// [`NatsConnection::connect`](crate::NatsConnection::connect) does this itself.
pub fn describe() {
    for (name, help) in [
        (NATS_DISCONNECTS, "Times that a connection to NATS broke"),
        (NATS_RECONNECTS, "Times that there was a connection to NATS again after it broke"),
        (NATS_REPLACEMENTS, "Times that another NATS client took the place of an ending one"),
        (NATS_DROPPED, "Messages to NATS endpoints that could not be answered"),
        (NATS_LATE_REPLIES, "NATS replies that nobody waited for any more"),
        (NATS_SLOW_CONSUMER, "Times that NATS messages came faster than they were read"),
        (NATS_REFUSALS, "NATS requests refused without asking the handler"),
    ] {
        metrics::describe_counter!(name, metrics::Unit::Count, help);
    }
    let help = "NATS requests received and not handed on yet";
    metrics::describe_gauge!(NATS_QUEUED, metrics::Unit::Count, help);
}

/// Counts for [`NatsStats`](crate::NatsStats) and for the recorder.
pub(crate) struct Counters {
    pub(crate) disconnects: Count,
    pub(crate) reconnects: Count,
    pub(crate) replaced: Count,
    pub(crate) dropped: Count,
    pub(crate) late_replies: Count,
    pub(crate) slow_consumer: Count,
}

impl Counters {
    pub(crate) fn new() -> Self {
        describe();
        let count = |counter| Count { own: AtomicU64::new(0), counter };
        Self {
            disconnects: count(metrics::counter!(NATS_DISCONNECTS)),
            reconnects: count(metrics::counter!(NATS_RECONNECTS)),
            replaced: count(metrics::counter!(NATS_REPLACEMENTS)),
            dropped: count(metrics::counter!(NATS_DROPPED)),
            late_replies: count(metrics::counter!(NATS_LATE_REPLIES)),
            slow_consumer: count(metrics::counter!(NATS_SLOW_CONSUMER)),
        }
    }

    /// There is a connection. The first one of all, before which nothing broke, is not counted.
    pub(crate) fn note_reconnect(&self) {
        if self.disconnects.get() > self.reconnects.get() {
            self.reconnects.count();
        }
    }
}

/// One of them.
pub(crate) struct Count {
    own: AtomicU64,
    counter: Counter,
}

impl Count {
    pub(crate) fn count(&self) {
        self.own.fetch_add(1, Ordering::Relaxed);
        self.counter.increment(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }
}

/// The metrics of one served subject. Its instances share the label, and the gauge is the sum.
pub(crate) struct EndpointMetrics {
    queued: Gauge,
    shown: AtomicU64,
    refusals: Counter,
}

impl EndpointMetrics {
    pub(crate) fn new(name: &EndpointName) -> Self {
        let label = || [(ENDPOINT, name.to_string())];
        Self {
            queued: metrics::gauge!(NATS_QUEUED, &label()),
            shown: AtomicU64::new(0),
            refusals: metrics::counter!(NATS_REFUSALS, &label()),
        }
    }

    /// So many requests wait now.
    pub(crate) fn queued(&self, count: usize) {
        let count = count as u64;
        let shown = self.shown.swap(count, Ordering::Relaxed);
        if count != shown {
            self.queued.increment(count as f64 - shown as f64);
        }
    }

    pub(crate) fn refused(&self) {
        self.refusals.increment(1);
    }
}

impl Drop for EndpointMetrics {
    fn drop(&mut self) {
        self.queued(0);
    }
}
