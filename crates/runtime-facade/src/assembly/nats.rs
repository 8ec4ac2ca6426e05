//! NATS as a request plane of this process, on both sides.

use std::{future::ready, sync::Arc, time::Duration};

#[cfg(feature = "dynamo")]
use sinew_compat_dynamo::DynamoScheme;
use sinew_plane::{
    Address, BoxFuture, Code, DuplexTransport, Error, RequestHandler, RequestPlaneClient, Shutdown,
    TransportId,
};
use sinew_split::{
    DeclaredEndpoint, EndpointDeclaration, SplitScheme, SplitServer, SplitTransport,
};
use sinew_transport_nats::{
    NatsConfig, NatsConnection, NatsEndpoint, NatsRequestClient, NatsServer,
};
use tokio::sync::Mutex;

use crate::{
    Announcement, CheckedConfig, ConfigError, Declaration, Listener, StartError,
    assembly::planes::{AcknowledgingPlane, Pair},
};

/// Longest time for which an endpoint continues to refuse requests over NATS before it
/// unsubscribes. Routers send nothing for a second to an instance that has refused.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// The servers without user names and passwords, which their URLs may hold, for messages.
fn without_users(servers: &[String]) -> String {
    let host = |server: &String| {
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{host}")
    };
    servers.iter().map(host).collect::<Vec<_>>().join(",")
}

/// One NATS connection, with the calling and the serving side over it.
pub(crate) struct Nats {
    connection: NatsConnection,
    client: Arc<NatsRequestClient>,
    server: NatsServer,
    split: SplitServer,
}

impl Nats {
    /// Connects if the settings use NATS, and waits for a server that is not up yet.
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
        nats.budget = Some(Arc::clone(config.budget()));
        waiting(&format!("NATS at {}", without_users(&nats.servers)));
        let checked = nats.checked();
        let checked = checked.map_err(|error| ConfigError::new("nats", error.to_string()))?;
        let connection = NatsConnection::connect(checked).await?;
        let client = Arc::new(NatsRequestClient::new(connection.clone()));
        let server = NatsServer::new(connection.clone(), Arc::new(handler.clone()));
        let split = handler.clone();
        Ok(Some(Self { connection, client, server, split }))
    }

    /// Serves an instance under its own subject.
    async fn serve(&self, declaration: &Declaration) -> Result<Subject, Error> {
        let Declaration { endpoint, instance, .. } = declaration;
        let served = Box::pin(self.server.serve(endpoint, *instance)).await?;
        let address = Address::new("nats", served.subject())
            .map_err(|error| Error::new(Code::Exhausted, format!("its NATS subject: {error}")))?;
        let mut declared = EndpointDeclaration::new(endpoint.clone(), *instance);
        declared.subject = Some(served.subject().to_owned());
        let _declared = self.split.declare(declared);
        Ok(Subject { _declared, address, endpoint: Mutex::new(Some(served)) })
    }
}

impl Listener for Nats {
    fn name(&self) -> &str {
        "nats"
    }

    /// Does nothing: the connection is up already, and each endpoint has its own subject.
    fn start<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: Arc<dyn RequestHandler>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }

    fn announce<'a>(
        &'a self,
        declaration: &'a Declaration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Announcement>>, Error>> {
        Box::pin(async move {
            let subject = self.serve(declaration).await?;
            Ok(Some(Box::new(subject) as Box<dyn Announcement>))
        })
    }

    fn is_up(&self) -> bool {
        self.connection.is_connected()
    }

    /// Does nothing: the connection also carries the calls of this process, and is closed after
    /// them.
    fn stop(&self, _: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(ready(Shutdown::default()))
    }
}

/// The subscription of an instance to its subject.
struct Subject {
    _declared: DeclaredEndpoint,
    address: Address,
    endpoint: Mutex<Option<NatsEndpoint>>,
}

impl Announcement for Subject {
    fn addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }

    /// A request that is on its way to a subscription when that ends is lost, and its caller gets
    /// no answer. So the endpoint continues to refuse requests until no more arrive.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(endpoint) = self.endpoint.lock().await.take() {
                endpoint.drain(LAST_REQUESTS).await;
            }
        })
    }
}

impl AcknowledgingPlane for Nats {
    fn id(&self) -> TransportId {
        TransportId::from_static("nats-subjects")
    }

    fn client(&self) -> Arc<dyn RequestPlaneClient> {
        self.client.clone()
    }

    fn transports(&self, pair: Pair) -> Vec<Arc<dyn DuplexTransport>> {
        let Pair { max_message_bytes: limit, requests, responses } = pair;
        let sinew =
            SplitTransport::new(SplitScheme::NATS, limit, requests.clone(), responses.clone());
        vec![
            Arc::new(sinew),
            #[cfg(feature = "dynamo")]
            Arc::new(DynamoScheme::Nats.split_transport(limit, requests, responses)),
        ]
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(self.connection.close(grace))
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
