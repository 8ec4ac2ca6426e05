//! Name and limits of a queue.

use std::time::Duration;

use crate::NatsConfigError;

/// Longest name, in bytes: the server makes a folder of it.
const MAX_NAME_BYTES: usize = 128;

/// Longest of any wait. The server counts nanoseconds in an `i64`.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Name and limits of a queue. Start from [`QueueConfig::new`].
///
/// They apply when the queue is created; an existing queue keeps its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The name: `a-z`, `0-9`, `-` and `_`, not beginning with `_`, at most 128 bytes; Dynamo
    /// changes any other name. It must not be the `NAMESPACE_COMPONENT` of an endpoint that is
    /// served over NATS, because the queue would store and answer its requests.
    pub name: String,
    /// Most items that are stored at once. Further items are refused.
    pub max_items: u64,
    /// Most bytes that are stored at once. Further items are refused.
    pub max_bytes: u64,
    /// Age at which an item is deleted, whether it was processed or not.
    pub max_age: Duration,
    /// Time after a delivery at which an unsettled item is delivered again.
    pub ack_wait: Duration,
    /// How often an item is delivered. After that it only stays stored, until `max_age`.
    pub max_deliver: u32,
    /// Most items that are delivered and not settled, in all consumers together. Beyond that no
    /// item is delivered.
    pub max_unsettled: u32,
    /// How long a message id is kept to detect duplicates. Not longer than `max_age`.
    pub duplicate_window: Duration,
    /// How many servers of a cluster store each item, 1 to 5.
    pub replicas: u8,
}

impl QueueConfig {
    /// The settings of a queue for 100,000 items and 1 GiB, on one server. It keeps an item for an
    /// hour, as Dynamo's does, and delivers it up to five times, for 30 seconds each.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            max_items: 100_000,
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(60 * 60),
            ack_wait: Duration::from_secs(30),
            max_deliver: 5,
            max_unsettled: 1_000,
            duplicate_window: Duration::from_secs(120),
            replicas: 1,
        }
    }

    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`NatsConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedQueueConfig, NatsConfigError> {
        let fault = |field, reason: &str| Err(NatsConfigError { field, reason: reason.to_owned() });
        let is_plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        let name = &self.name;
        let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
        if !fits || name.starts_with('_') || !name.bytes().all(is_plain) {
            return fault("name", "must be 1 to 128 of a-z, 0-9, '-' and '_', no '_' in front");
        }
        for (field, count) in [("max_items", self.max_items), ("max_bytes", self.max_bytes)] {
            if !(1..=1 << 50).contains(&count) {
                return fault(field, "must be 1 to 2^50");
            }
        }
        for (field, wait) in [
            ("max_age", self.max_age),
            ("ack_wait", self.ack_wait),
            ("duplicate_window", self.duplicate_window),
        ] {
            if !(Duration::from_millis(100)..=LONGEST).contains(&wait) {
                return fault(field, "must be 100 milliseconds to 366 days");
            }
        }
        for (field, count) in
            [("max_deliver", self.max_deliver), ("max_unsettled", self.max_unsettled)]
        {
            if !(1..=1 << 20).contains(&count) {
                return fault(field, "must be 1 to 1,048,576");
            }
        }
        if self.duplicate_window > self.max_age {
            return fault("duplicate_window", "must be at most max_age");
        }
        if !(1..=5).contains(&self.replicas) {
            return fault("replicas", "must be 1 to 5");
        }
        Ok(CheckedQueueConfig(self))
    }
}

/// A [`QueueConfig`] whose settings may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedQueueConfig(QueueConfig);

impl std::ops::Deref for CheckedQueueConfig {
    type Target = QueueConfig;

    fn deref(&self) -> &QueueConfig {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = || QueueConfig::new("jobs");
        let hour = Duration::from_secs(3600);
        for (config, field) in [
            (QueueConfig::new(""), "name"),
            (QueueConfig::new("_jobs"), "name"),
            (QueueConfig::new("Jobs"), "name"),
            (QueueConfig::new("a.b"), "name"),
            (QueueConfig::new("a".repeat(129)), "name"),
            (QueueConfig { max_items: 0, ..base() }, "max_items"),
            (QueueConfig { max_bytes: u64::MAX, ..base() }, "max_bytes"),
            (QueueConfig { ack_wait: Duration::ZERO, ..base() }, "ack_wait"),
            (QueueConfig { max_age: Duration::MAX, ..base() }, "max_age"),
            (QueueConfig { max_deliver: 0, ..base() }, "max_deliver"),
            (QueueConfig { max_unsettled: 0, ..base() }, "max_unsettled"),
            (QueueConfig { duplicate_window: 2 * hour, ..base() }, "duplicate_window"),
            (QueueConfig { replicas: 6, ..base() }, "replicas"),
        ] {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
        assert!(base().checked().is_ok());
    }
}
