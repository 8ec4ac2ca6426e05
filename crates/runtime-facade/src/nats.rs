//! NATS as a request plane of this process.

use std::{sync::Arc, time::Duration};

use sinew_compat_dynamo::SplitServer;
use sinew_plane::{Address, EndpointName, Error, InstanceId, RequestPlaneClient, Shutdown};
use sinew_transport_nats::{
    NatsConfig, NatsConnection, NatsEndpoint, NatsRequestClient, NatsServer,
};

use crate::{CheckedConfig, ConfigError, RequestPlane, StartError};

/// How long a process that can do without NATS waits for it.
const OPTIONAL: Duration = Duration::from_secs(2);

/// A connection, and both sides over it.
pub(crate) struct Nats {
    connection: NatsConnection,
    client: Arc<NatsRequestClient>,
    server: NatsServer,
}

impl Nats {
    /// Connects where the settings want NATS. Where it is one plane of several, a server that
    /// does not answer is left out.
    pub(crate) async fn connect(
        config: &CheckedConfig,
        handler: &SplitServer,
    ) -> Result<Option<Self>, StartError> {
        let is_only = config.request_plane == RequestPlane::Nats;
        if config.request_plane == RequestPlane::Tcp || (config.nats.is_empty() && !is_only) {
            return Ok(None);
        }
        let mut nats = NatsConfig { insecure: config.insecure, ..NatsConfig::default() };
        if !config.nats.is_empty() {
            nats.servers.clone_from(&config.nats);
        }
        nats.auth = config.nats_auth.clone();
        if !is_only {
            nats.startup_timeout = nats.startup_timeout.min(OPTIONAL);
        }
        let checked = nats.checked();
        let checked = checked.map_err(|error| ConfigError::new("nats", error.to_string()))?;
        match NatsConnection::connect(checked).await {
            Ok(connection) => {
                let client = Arc::new(NatsRequestClient::new(connection.clone()));
                let server = NatsServer::new(connection.clone(), Arc::new(handler.clone()));
                Ok(Some(Self { connection, client, server }))
            }
            Err(error) if is_only => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "going on without NATS");
                Ok(None)
            }
        }
    }

    /// The calling side.
    pub(crate) fn client(&self) -> Arc<dyn RequestPlaneClient> {
        self.client.clone()
    }

    /// Serves an instance; the address is its subject.
    pub(crate) async fn serve(
        &self,
        endpoint: &EndpointName,
        instance: InstanceId,
    ) -> Result<(NatsEndpoint, Address), Error> {
        let served = Box::pin(self.server.serve(endpoint, instance)).await?;
        let address = Address::new("nats", served.subject());
        let address = address.map_err(|error| {
            Error::new(sinew_plane::Code::Exhausted, format!("its NATS subject: {error}"))
        })?;
        Ok((served, address))
    }

    pub(crate) async fn close(&self, grace: Duration) -> Shutdown {
        self.connection.close(grace).await
    }
}
