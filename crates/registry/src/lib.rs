//! The transports of a process: what they can do, and which one an exchange uses.
//!
//! The [`TransportRegistry`] chooses between routes to one instance. It does not balance between
//! instances, and does not depend on payloads or on any transport. [`LocalEndpoints`] has the
//! endpoints that this process serves itself.
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
//! - *Slow*: if the peer at an address has not answered within 250 ms, the next address is tried in
//!   parallel, and the first peer that answers gets the request. (The kernel completes a
//!   connect even if the peer process is suspended.) Only connections are made in parallel; the request is
//!   sent once.
//! - *Hold-down*: an address that failed or was slower is tried last for 5 seconds
//!   ([`FallbackConfig::hold_down`]), so that not every request waits for it. A success ends the
//!   hold-down.
//! - *Requests that must not run twice* need no exception: a request that may have reached a
//!   handler is never sent over another route. The router decides whether to send it to another
//!   instance.

mod combination;
mod connecting;
mod error;
mod fallback;
mod known_ways;
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
