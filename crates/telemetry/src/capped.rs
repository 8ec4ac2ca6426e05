//! The log level at which libraries that log payloads are capped.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Libraries that show what they carry in their details: payloads, subjects, the credentials of a
/// connection, the headers of a request.
const CAPPED: [&str; 12] = [
    "async_nats",
    "etcd_client",
    "h2",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "rustls",
    "tokio_util",
    "tonic",
    "tower",
];

/// Lets nothing below `info` of them through, whatever a filter says: a log that was made to look
/// for a fault can be shown to others.
pub(crate) fn capped() -> Targets {
    let caps = CAPPED.map(|library| (library, LevelFilter::INFO));
    Targets::new().with_default(LevelFilter::TRACE).with_targets(caps)
}
