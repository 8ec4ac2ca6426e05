//! The JetStream stream and consumer of a queue.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sinew_plane::{Code, Error};

use super::{
    api::{Api, ApiError, STREAM_EXISTS},
    settings::CheckedQueueConfig,
};

/// The consumer that all takers share, as in Dynamo.
pub(super) const CONSUMER: &str = "worker-group";

/// A stream as the server has it.
#[derive(Debug, Deserialize)]
pub(super) struct Stream {
    config: StreamFacts,
    pub(super) state: StreamState,
}

#[derive(Debug, Deserialize)]
struct StreamFacts {
    #[serde(default)]
    subjects: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamState {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A consumer as the server has it.
#[derive(Debug, Deserialize)]
pub(super) struct Consumer {
    pub(super) config: ConsumerFacts,
    pub(super) num_pending: u64,
    pub(super) num_ack_pending: u64,
    pub(super) num_redelivered: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ConsumerFacts {
    /// -1, or left out, if without limit.
    #[serde(default)]
    pub(super) max_deliver: i64,
}

#[derive(Serialize)]
struct NewStream<'a> {
    name: &'a str,
    subjects: [String; 1],
    retention: &'static str,
    storage: &'static str,
    discard: &'static str,
    max_msgs: u64,
    max_bytes: u64,
    max_age: u64,
    duplicate_window: u64,
    num_replicas: u8,
}

#[derive(Serialize)]
struct NewConsumer<'a> {
    stream_name: &'a str,
    config: NewConsumerConfig,
}

#[derive(Serialize)]
struct NewConsumerConfig {
    durable_name: &'static str,
    deliver_policy: &'static str,
    ack_policy: &'static str,
    replay_policy: &'static str,
    ack_wait: u64,
    max_deliver: u32,
    max_ack_pending: u32,
}

/// Makes what is not there. Any number of processes may do so at once.
pub(super) async fn ensure(api: &Api<'_>, config: &CheckedQueueConfig) -> Result<Consumer, Error> {
    let stream = match stream(api, config).await {
        Err(error) if error.is_not_found() => make_stream(api, config).await,
        found => found,
    }?;
    if stream.config.subjects != [subjects(config)] {
        let name = &config.name;
        let message = format!(
            "the JetStream stream {name} is there and no queue: it has other subjects than \
             {name}.*; use another name"
        );
        return Err(Error::new(Code::InvalidPayload, message));
    }
    // Looked for before it is made, as making it again would change one that is there.
    match consumer(api, config).await {
        Err(error) if error.is_not_found() => Ok(make_consumer(api, config).await?),
        found => Ok(found?),
    }
}

pub(super) async fn stream(api: &Api<'_>, config: &CheckedQueueConfig) -> Result<Stream, ApiError> {
    api.ask(&format!("STREAM.INFO.{}", config.name)).await
}

pub(super) async fn consumer(
    api: &Api<'_>,
    config: &CheckedQueueConfig,
) -> Result<Consumer, ApiError> {
    api.ask(&format!("CONSUMER.INFO.{}.{CONSUMER}", config.name)).await
}

async fn make_stream(api: &Api<'_>, config: &CheckedQueueConfig) -> Result<Stream, ApiError> {
    let question = NewStream {
        name: &config.name,
        subjects: [subjects(config)],
        retention: "workqueue",
        storage: "file",
        discard: "new",
        max_msgs: config.max_items,
        max_bytes: config.max_bytes,
        max_age: nanoseconds(config.max_age),
        duplicate_window: nanoseconds(config.duplicate_window),
        num_replicas: config.replicas,
    };
    match api.call(&format!("STREAM.CREATE.{}", config.name), &question).await {
        // Somebody with other settings was faster.
        Err(error) if error.is(STREAM_EXISTS) => stream(api, config).await,
        made => made,
    }
}

async fn make_consumer(api: &Api<'_>, config: &CheckedQueueConfig) -> Result<Consumer, ApiError> {
    let question = NewConsumer {
        stream_name: &config.name,
        config: NewConsumerConfig {
            durable_name: CONSUMER,
            deliver_policy: "all",
            ack_policy: "explicit",
            replay_policy: "instant",
            ack_wait: nanoseconds(config.ack_wait),
            max_deliver: config.max_deliver,
            max_ack_pending: config.max_unsettled,
        },
    };
    let subject = format!("CONSUMER.DURABLE.CREATE.{}.{CONSUMER}", config.name);
    api.call(&subject, &question).await
}

fn subjects(config: &CheckedQueueConfig) -> String {
    format!("{}.*", config.name)
}

/// As the server counts; the settings are all shorter than an `i64` of them.
fn nanoseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
}
