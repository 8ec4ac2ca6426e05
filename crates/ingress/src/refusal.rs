//! The errors of requests that are refused.

use std::time::Duration;

use sinew_plane::{Code, EndpointName, Error, Executed, InstanceId};

/// The retry hint of an `Overloaded` refusal: a guess at how soon a place becomes free, long enough
/// to relieve the server and short enough for callers not to notice.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub(crate) fn unknown_endpoint(endpoint: &str, instance: InstanceId) -> Error {
    // What the peer sent, cut and quoted: it ends up in logs.
    let name: String = endpoint.chars().take(64).collect();
    let message = match instance.0 {
        0 => format!("{name:?} is not served here"),
        _ => format!("instance {instance} of {name:?} is not served here"),
    };
    Error::new(Code::UnknownEndpoint, message)
}

pub(crate) fn draining(endpoint: &EndpointName) -> Error {
    Error::draining(format!("{endpoint} is draining here and takes no new requests"))
}

pub(crate) fn endpoint_full(endpoint: &EndpointName, max: usize) -> Error {
    let message = format!("{endpoint} has {max} requests in flight here, which is its limit");
    Error::new(Code::Overloaded, message).with_retry_after(RETRY_AFTER)
}

pub(crate) fn process_full(max: usize) -> Error {
    let message = format!("this process has {max} requests in flight, which is its limit");
    Error::new(Code::Overloaded, message).with_retry_after(RETRY_AFTER)
}

pub(crate) fn too_late() -> Error {
    Error::new(Code::DeadlineExceeded, "the deadline passed before the handler was started")
        .with_executed(Executed::No)
}
