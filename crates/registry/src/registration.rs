//! The record of a registered transport.

use sinew_plane::{DuplexTransport, PlaneType, TransportCapabilities, TransportId};

/// The properties of a transport by which the registry chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportRegistration {
    /// Its name, unique per plane.
    pub id: TransportId,
    /// The half of an exchange it carries; `None` for both, as duplex transports do.
    pub plane: Option<PlaneType>,
    /// What it can do.
    pub capabilities: TransportCapabilities,
    /// Of several transports that fit, the one with the highest priority is preferred.
    pub priority: i32,
    /// The scheme of the addresses it understands.
    pub scheme: String,
}

impl TransportRegistration {
    /// A transport of one plane, with priority 0 and the id as its scheme.
    pub fn new(id: TransportId, plane: PlaneType, capabilities: TransportCapabilities) -> Self {
        let scheme = id.as_str().to_owned();
        Self { id, plane: Some(plane), capabilities, priority: 0, scheme }
    }

    /// A duplex transport under its own id and capabilities.
    pub fn duplex(transport: &dyn DuplexTransport) -> Self {
        let (id, capabilities) = (transport.id().clone(), transport.capabilities().clone());
        let scheme = id.as_str().to_owned();
        Self { id, plane: None, capabilities, priority: 0, scheme }
    }

    /// The same record with a priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// The same record with an address scheme other than its id.
    #[must_use]
    pub fn with_scheme(mut self, scheme: impl Into<String>) -> Self {
        self.scheme = scheme.into();
        self
    }

    /// True if it carries that half of an exchange.
    pub fn carries(&self, plane: PlaneType) -> bool {
        self.plane.is_none_or(|own| own == plane)
    }
}
