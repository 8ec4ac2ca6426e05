//! Why a transport cannot be registered.

use std::fmt;

use sinew_plane::{PlaneType, TransportId};

/// Why a transport cannot be registered. The caller's to mend; the registry is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// The id is registered already for that plane.
    Duplicate {
        /// The id.
        id: TransportId,
    },
    /// The record names another plane than the one it is registered for.
    WrongPlane {
        /// The id.
        id: TransportId,
        /// The plane in the record; `None` for both.
        given: Option<PlaneType>,
    },
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { id } => write!(
                f,
                "transport {id:?} is registered already: register each transport once, or give \
                 the second one an id of its own",
                id = id.as_str()
            ),
            Self::WrongPlane { id, given } => {
                let (id, method) = (id.as_str(), method_for(*given));
                write!(f, "transport {id:?} is of another plane: register it with {method}")
            }
        }
    }
}

fn method_for(plane: Option<PlaneType>) -> &'static str {
    match plane {
        Some(PlaneType::Request) => "register_request_transport",
        Some(PlaneType::Response) => "register_response_transport",
        None => "register_duplex_transport",
    }
}

impl std::error::Error for RegistryError {}
