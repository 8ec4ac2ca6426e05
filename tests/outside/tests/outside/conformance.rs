//! The suite that every transport passes.

use std::{net::TcpListener, sync::Arc, time::Duration};

use sinew::layers::transport_tcp::{CheckedTcpConfig, TcpConfig};
use sinew_outside::masked::{MASKED, masked_transport};
use sinew_plane::{Address, BoxFuture, DuplexTransport, ProcessId, RequestHandler};
use sinew_testkit::{Cuts, CuttingProxy, Harness, Listen, Served, Way};

use crate::fixture::MaskedServer;

/// Each end is a process of its own, so that streams outlive their connection.
struct Masking(TcpConfig);

impl Masking {
    fn new() -> Self {
        let mut config = TcpConfig::default();
        // A case in which a server is gone need not wait long for the next dial.
        config.driver.backoff_max = Duration::from_millis(50);
        // Found soon, and given up soon: cases wait for both.
        config.driver.mux.keepalive_interval = Duration::from_millis(500);
        config.driver.mux.keepalive_timeout = Duration::from_secs(2);
        config.driver.mux.resume_grace = Duration::from_secs(4);
        Self(config)
    }

    fn end(&self) -> CheckedTcpConfig {
        let mut config = self.0.clone();
        config.driver.mux.process = ProcessId::random();
        config.checked().unwrap()
    }
}

impl Harness for Masking {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        Box::pin(async move {
            let server = MaskedServer::start(self.end(), handler).await;
            let address = server.masked_address();
            Served { server: Arc::new(server), client: self.client(), address }
        })
    }

    fn serve_resuming(
        &self,
        handler: Arc<dyn RequestHandler>,
    ) -> Option<BoxFuture<'_, (Served, Arc<dyn Way>)>> {
        Some(Box::pin(async move {
            let served = self.serve(handler).await;
            let cuts = Cuts::when_told();
            let proxy = CuttingProxy::start(Listen::loopback(), served.address.clone(), cuts);
            let proxy = proxy.await.unwrap();
            let address = proxy.address().clone();
            (Served { address, ..served }, Arc::new(proxy) as _)
        }))
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        Arc::new(masked_transport(self.end().driver.clone()))
    }

    fn nowhere(&self) -> Address {
        // Bound and let go of again: nobody listens there now.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Address::new(MASKED.as_str(), &listener.local_addr().unwrap().to_string()).unwrap()
    }
}

sinew_testkit::duplex_suite!(crate::conformance::Masking::new());
sinew_testkit::resume_suite!(crate::conformance::Masking::new());
