//! Which transports exist here, what they can do, and which one an exchange uses.
//!
//! The [`TransportRegistry`] chooses between ways; it knows nothing of balancing between
//! instances, of payloads, or of how any transport works. [`LocalEndpoints`] is what this very
//! process serves.
//!
//! ```
//! use sinew_plane::{PlaneType, TransportRequirements};
//! use sinew_registry::{Proximity, TransportRegistry};
//!
//! let registry = TransportRegistry::new();
//! // registry.register_duplex_transport(TransportRegistration::duplex(&*tcp), tcp)?;
//! let required = TransportRequirements::default();
//! assert_eq!(registry.select_transport(PlaneType::Response, &required), None);
//!
//! let addresses = ["quic://10.0.0.7:9000".parse()?];
//! assert!(registry.resolve(&addresses, Proximity::Remote, &required).is_empty());
//! # Ok::<(), sinew_plane::AddressError>(())
//! ```
//!
//! # Fallback rule
//!
//! - *Order*: within the process, within the host, then by priority. Addresses in hold-down
//!   come last.
//! - *Trigger*: no usable connection was made (`ConnectFailed`, `ConnectTimedOut`, `WrongPeer`,
//!   `Version`, `NoTransport`), and only where the peer cannot have seen the request.
//! - *Slow*: an address whose peer has not answered within 250 ms has the next one tried beside
//!   it, and the first that answers gets the request: a process that is stopped still completes a
//!   connect. Only connections are made so; the request is sent once.
//! - *Hold-down*: an address that failed or was slower is tried last for 5 seconds
//!   ([`FallbackConfig::hold_down`]), so that not every request pays for it; a success ends it.
//! - *Requests that must not run twice* need no exception: what may have reached a handler is
//!   never sent over another route. Sending it to another instance is the router's decision.

mod combination;
mod connecting;
mod error;
mod fallback;
mod local;
mod proximity;
mod registration;
mod registry;
mod route;
#[cfg(test)]
mod tests;

pub use crate::{
    combination::{Combination, Exchange},
    error::RegistryError,
    fallback::{FallbackConfig, Opened},
    local::{AdmittingEngine, LocalCall, LocalEndpoint, LocalEndpoints, LocalGuard},
    proximity::{LocalProcess, Proximity},
    registration::TransportRegistration,
    registry::TransportRegistry,
    route::Route,
};
