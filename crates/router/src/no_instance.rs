//! The errors of a call for which there is no instance.

use std::sync::Arc;

use sinew_discovery::Instance;
use sinew_plane::{Code, EndpointName, Error, InstanceId};
use sinew_telemetry::first_few;

use crate::client::Members;

/// The error if discovery has no instance. `trouble` is the problem that the discovery reports.
pub(crate) fn none_known(endpoint: &EndpointName, trouble: Option<String>) -> Error {
    let why = trouble.unwrap_or_else(|| {
        "nothing is registered under that name. Start a worker for it, and check that it and this \
         process use the same discovery"
            .to_owned()
    });
    Error::new(Code::NoInstances, format!("No instances found for {endpoint}: {why}"))
}

/// The error if instances exist and none can be reached from this process. `None` if none exists.
pub(crate) fn none_reachable(endpoint: &EndpointName, known: &[Arc<Instance>]) -> Option<Error> {
    if known.is_empty() {
        return None;
    }
    let message = format!(
        "No instances of {endpoint} can be reached from here, and there are {}. Let the worker \
         listen at an address of its network, or advertise one",
        first_few(known.iter().map(|one| places(one)), "; "),
    );
    Some(Error::new(Code::NoTransport, message))
}

/// The error if other instances exist than the one that was named. `None` if none exists.
pub(crate) fn none_with_id(
    endpoint: &EndpointName,
    id: InstanceId,
    known: &[InstanceId],
) -> Option<Error> {
    if known.is_empty() {
        return None;
    }
    let message = format!(
        "No instances found for {endpoint} with id {id}: registered are {}. Ask one of these, or \
         let the router choose",
        first_few(known, ", "),
    );
    Some(Error::new(Code::NoInstances, message))
}

/// The error if the strategy has chosen none of the instances.
pub(crate) fn none_chosen(endpoint: &EndpointName, strategy: &str, members: &Members) -> Error {
    let known = members.instances.iter().map(|one| one.id);
    let message =
        format!("{strategy} chose no instance of {endpoint}: there are {}", first_few(known, ", "));
    Error::new(Code::NoInstances, message)
}

fn places(one: &Instance) -> String {
    let places: Vec<_> = one.unreachable.iter().map(ToString::to_string).collect();
    format!("{} at {}", one.id, places.join(" and "))
}
