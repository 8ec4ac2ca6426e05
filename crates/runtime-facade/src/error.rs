//! Why a runtime did not start, and why an endpoint is not served.

use sinew_discovery::DiscoveryError;
use sinew_plane::{EndpointName, Error, InstanceId};
use sinew_registry::RegistryError;

use crate::ConfigError;

/// Why a runtime did not start. Nothing was announced.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum StartError {
    /// A setting cannot be used.
    Config(#[from] ConfigError),
    /// Discovery cannot be reached.
    Discovery(#[from] DiscoveryError),
    /// A transport cannot be registered.
    Registry(#[from] RegistryError),
    /// A transport cannot be set up.
    Transport(#[from] Error),
}

/// Why an endpoint is not served. Nothing of it was announced; what the runtime serves already, it
/// goes on serving. The text names the endpoint and what failed, its source says why, and
/// [`advice`](Self::advice) what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A listener did not start, or could not take the endpoint. The operator's to mend: mostly
    /// the address is in use, or a server such as NATS has gone.
    #[error("{endpoint} is not served: its listener {listener:?} failed")]
    Listener {
        /// What was to be served.
        endpoint: EndpointName,
        /// The name of the listener.
        listener: String,
        /// What the listener says.
        #[source]
        error: Error,
    },
    /// Discovery did not take the instance, so that nobody would find it.
    #[error("{endpoint} is not served: discovery does not take instance {instance}")]
    Discovery {
        /// What was to be served.
        endpoint: EndpointName,
        /// Which instance of it.
        instance: InstanceId,
        /// What discovery says.
        #[source]
        error: DiscoveryError,
    },
    /// The runtime shuts down. The caller's to mend: it serves too late.
    #[error("{endpoint} is not served: the runtime is shutting down")]
    ShuttingDown {
        /// What was to be served.
        endpoint: EndpointName,
    },
}

impl ServeError {
    /// What was to be served.
    pub fn endpoint(&self) -> &EndpointName {
        match self {
            Self::Listener { endpoint, .. }
            | Self::Discovery { endpoint, .. }
            | Self::ShuttingDown { endpoint } => endpoint,
        }
    }

    /// What to do about it, for a person.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Listener { listener, .. } if listener == "tcp" => {
                "let `listen` name an address that is free, or port 0 for any free port"
            }
            Self::Listener { .. } => "mend what the listener names, and serve again",
            Self::Discovery { error: DiscoveryError::Taken { .. }, .. } => {
                "leave the instance id out to have a random one, or choose another"
            }
            Self::Discovery { error: DiscoveryError::ReadOnly { .. }, .. } => {
                "choose a discovery that takes registrations, or DiscoverySource::Memory where \
                 callers know the address by themselves"
            }
            Self::Discovery { .. } => "mend what discovery names, and serve again",
            Self::ShuttingDown { .. } => "serve before the shutdown, or with another runtime",
        }
    }
}
