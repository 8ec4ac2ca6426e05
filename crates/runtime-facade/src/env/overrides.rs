//! Settings that take precedence over the environment.

use crate::{ConfigError, DiscoverySource, RequestPlane, servers};

/// Settings that take precedence over the environment, such as the options of a command line, for
/// [`Config::from_env_with`](crate::Config::from_env_with). Settings that belong to them, such as
/// the credentials for a server, are still read from the environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub(super) discovery: Option<DiscoverySource>,
    pub(super) request_plane: Option<RequestPlane>,
    pub(super) nats: Vec<String>,
}

impl Overrides {
    /// Sets where instances are announced and found.
    #[must_use]
    pub fn discovery(mut self, discovery: DiscoverySource) -> Self {
        self.discovery = Some(discovery);
        self
    }

    /// Sets the planes that requests may take.
    #[must_use]
    pub fn request_plane(mut self, plane: RequestPlane) -> Self {
        self.request_plane = Some(plane);
        self
    }

    /// Sets the NATS servers, in the form of `SINEW_NATS_SERVER`: `nats://HOST:PORT,...` or
    /// `tls://HOST:PORT,...`.
    ///
    /// # Errors
    /// What is wrong with the list. The text shows no password.
    pub fn nats(mut self, servers: &str) -> Result<Self, ConfigError> {
        let read = servers::nats_servers(servers);
        self.nats = read.map_err(|reason| ConfigError::new("nats", reason))?;
        Ok(self)
    }
}
