//! What comes before the variables of the environment.

use crate::{ConfigError, DiscoverySource, RequestPlane, servers};

/// Settings that come before those of the environment, as the options of a command line do. For
/// [`Config::from_env_with`](crate::Config::from_env_with): what goes with them, such as the
/// credentials for a server, is then read for them.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub(super) discovery: Option<DiscoverySource>,
    pub(super) request_plane: Option<RequestPlane>,
    pub(super) nats: Vec<String>,
}

impl Overrides {
    /// Where instances are announced and found.
    #[must_use]
    pub fn discovery(mut self, discovery: DiscoverySource) -> Self {
        self.discovery = Some(discovery);
        self
    }

    /// Which planes requests may take.
    #[must_use]
    pub fn request_plane(mut self, plane: RequestPlane) -> Self {
        self.request_plane = Some(plane);
        self
    }

    /// The NATS servers, as `SINEW_NATS_SERVER` has them: `nats://HOST:PORT,...` or
    /// `tls://HOST:PORT,...`.
    ///
    /// # Errors
    /// What is wrong with the list, without a password that it may hold.
    pub fn nats(mut self, servers: &str) -> Result<Self, ConfigError> {
        let read = servers::nats_servers(servers);
        self.nats = read.map_err(|reason| ConfigError::new("nats", reason))?;
        Ok(self)
    }
}
