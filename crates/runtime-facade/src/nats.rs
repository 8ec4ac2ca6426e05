//! NATS as a request plane of this process.

use std::{sync::Arc, time::Duration};

use sinew_plane::{Address, EndpointName, Error, InstanceId, RequestPlaneClient, Shutdown};
use sinew_split::SplitServer;
use sinew_transport_nats::{
    NatsConfig, NatsConnection, NatsEndpoint, NatsRequestClient, NatsServer,
};

use crate::{CheckedConfig, ConfigError, StartError};

/// The servers as they may be shown: a URL may hold a user and a password.
fn without_users(servers: &[String]) -> String {
    let host = |server: &String| {
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{host}")
    };
    servers.iter().map(host).collect::<Vec<_>>().join(",")
}

/// A connection, and both sides over it.
pub(crate) struct Nats {
    connection: NatsConnection,
    client: Arc<NatsRequestClient>,
    server: NatsServer,
}

impl Nats {
    /// Connects where the settings want NATS, waiting for a server that is not there yet.
    pub(crate) async fn connect(
        config: &CheckedConfig,
        handler: &SplitServer,
        waiting: &(dyn Fn(&str) + Sync),
    ) -> Result<Option<Self>, StartError> {
        if !config.uses_nats() {
            return Ok(None);
        }
        let mut nats = NatsConfig { insecure: config.insecure, ..NatsConfig::default() };
        if !config.nats.is_empty() {
            nats.servers.clone_from(&config.nats);
        }
        nats.auth = config.nats_auth.clone();
        nats.tls = config.nats_tls.clone();
        nats.request_timeout = config.nats_ack_timeout;
        nats.startup_timeout = config.startup_wait;
        nats.budget = Some(Arc::clone(&config.budget));
        waiting(&format!("NATS at {}", without_users(&nats.servers)));
        let checked = nats.checked();
        let checked = checked.map_err(|error| ConfigError::new("nats", error.to_string()))?;
        let connection = NatsConnection::connect(checked).await?;
        let client = Arc::new(NatsRequestClient::new(connection.clone()));
        let server = NatsServer::new(connection.clone(), Arc::new(handler.clone()));
        Ok(Some(Self { connection, client, server }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_without_its_user() {
        let servers = ["nats://u:pw@a:1", "b:2", "tls://c"].map(str::to_owned);
        assert_eq!(without_users(&servers), "nats://a:1,nats://b:2,tls://c");
    }
}
