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

/// Why an endpoint is not served. The endpoint was not announced, and the runtime continues to
/// serve all others. The text names the endpoint and what failed, its source says why, and
/// [`advice`](Self::advice) says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A listener did not start, or could not announce the endpoint. In most cases the address is
    /// in use, or a server such as NATS is down.
    #[error("{endpoint} is not served: its listener {listener:?} failed")]
    Listener {
        /// The endpoint.
        endpoint: EndpointName,
        /// The name of the listener.
        listener: String,
        /// The error of the listener.
        #[source]
        error: Error,
    },
    /// Discovery did not register the instance, so callers would not find it.
    #[error("{endpoint} is not served: discovery does not take instance {instance}")]
    Discovery {
        /// The endpoint.
        endpoint: EndpointName,
        /// The instance of the endpoint.
        instance: InstanceId,
        /// The error of the discovery.
        #[source]
        error: DiscoveryError,
    },
    /// A setting of the endpoint contradicts those of the process.
    #[error("{endpoint} is not served: {error}")]
    Setting {
        /// The endpoint.
        endpoint: EndpointName,
        /// The setting, and the rule that it breaks.
        #[source]
        error: ConfigError,
    },
    /// The program called this after the shutdown of the runtime had begun.
    #[error("{endpoint} is not served: the runtime is shutting down")]
    ShuttingDown {
        /// The endpoint that is not served.
        endpoint: EndpointName,
    },
}

impl ServeError {
    /// What was to be served.
    pub fn endpoint(&self) -> &EndpointName {
        match self {
            Self::Listener { endpoint, .. }
            | Self::Discovery { endpoint, .. }
            | Self::Setting { endpoint, .. }
            | Self::ShuttingDown { endpoint } => endpoint,
        }
    }

    /// What to do about the error, as a text for people.
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
            Self::Setting { .. } => "change the setting that the error names",
            Self::ShuttingDown { .. } => "serve before the shutdown, or with another runtime",
        }
    }
}
