//! The suite that every transport passes.

use std::{net::TcpListener, sync::Arc, time::Duration};

use sinew::layers::transport_tcp::{CheckedTcpConfig, TcpConfig};
use sinew_outside::masked::{MASKED, masked_transport};
use sinew_plane::{Address, BoxFuture, DuplexTransport, RequestHandler};
use sinew_testkit::{Harness, Served};

use crate::fixture::MaskedServer;

struct Masking(CheckedTcpConfig);

impl Masking {
    fn new() -> Self {
        let mut config = TcpConfig::default();
        // A case in which a server is gone need not wait long for the next dial.
        config.driver.backoff_max = Duration::from_millis(50);
        Self(config.checked().unwrap())
    }
}

impl Harness for Masking {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        Box::pin(async move {
            let server = MaskedServer::start(self.0.clone(), handler).await;
            let address = server.masked_address();
            Served { server: Arc::new(server), client: self.client(), address }
        })
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        Arc::new(masked_transport(self.0.driver.clone()))
    }

    fn nowhere(&self) -> Address {
        // Bound and let go of again: nobody listens there now.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Address::new(MASKED.as_str(), &listener.local_addr().unwrap().to_string()).unwrap()
    }
}

sinew_testkit::duplex_suite!(crate::conformance::Masking::new());
