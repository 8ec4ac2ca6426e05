//! Why a transport cannot be registered.

use sinew_plane::{PlaneType, TransportId};

/// Why a transport cannot be registered. The registry is unchanged. The program has to change the
/// call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The id is registered already for that plane.
    #[error(
        "transport {:?} is registered already: register each transport once, or give the second \
         one an id of its own",
        .id.as_str()
    )]
    Duplicate {
        /// The id.
        id: TransportId,
    },
    /// The record names another plane than the one it is registered for.
    #[error(
        "transport {:?} is of another plane: register it with {}",
        .id.as_str(),
        method_for(*.given)
    )]
    WrongPlane {
        /// The id.
        id: TransportId,
        /// The plane in the record; `None` for both.
        given: Option<PlaneType>,
    },
}

fn method_for(plane: Option<PlaneType>) -> &'static str {
    match plane {
        Some(PlaneType::Request) => "register_request_transport",
        Some(PlaneType::Response) => "register_response_transport",
        None => "register_duplex_transport",
    }
}
