//! The suite that every transport passes, over the two planes of a split exchange.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sinew_compat_dynamo::{SplitScheme, SplitServerConfig, SplitTransport};
use sinew_plane::{
    Address, BoxFuture, DuplexServer, DuplexTransport, Error, OutgoingRequest, RequestHandler,
    ResponseStream, Shutdown, TransportCapabilities, TransportId, Window,
};
use sinew_testkit::{Harness, Served};

use crate::fixture::{Worker, response_server, transport};

struct Split {
    /// Whether many responses share connections.
    pool: bool,
    processes: Processes,
}

/// Which process answers at an address, as discovery would tell.
type Processes = Arc<Mutex<HashMap<Address, u64>>>;

impl Split {
    fn new(pool: bool) -> Self {
        Self { pool, processes: Processes::default() }
    }
}

/// A caller that knows what discovery would have told it.
struct Informed {
    transport: SplitTransport,
    processes: Processes,
}

impl DuplexTransport for Informed {
    fn id(&self) -> &TransportId {
        self.transport.id()
    }

    fn capabilities(&self) -> &TransportCapabilities {
        self.transport.capabilities()
    }

    fn dials(&self, address: &Address) -> bool {
        self.transport.dials(address)
    }

    fn open<'a>(
        &'a self,
        address: &'a Address,
        mut request: OutgoingRequest,
    ) -> BoxFuture<'a, Result<ResponseStream, Error>> {
        request.process = self.processes.lock().unwrap().get(address).copied();
        self.transport.open(address, request)
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        self.transport.close(grace)
    }
}

/// The serving side as one server, ended in the order that lets the last words leave.
struct Server(Worker);

impl DuplexServer for Server {
    fn addresses(&self) -> Vec<Address> {
        vec![self.0.address()]
    }

    fn drain(&self) {
        self.0.split.drain();
    }

    fn shutdown(&self, grace: Duration) -> BoxFuture<'_, Shutdown> {
        Box::pin(async move {
            let until = tokio::time::Instant::now() + grace;
            let accepted = self.0.split.shutdown(grace).await;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let responses = self.0.back.close(left).await;
            let requests = self.0.tcp.shutdown(Duration::ZERO).await;
            accepted + responses + requests
        })
    }
}

impl Harness for Split {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        Box::pin(async move {
            let worker = Worker::with(handler, SplitServerConfig::default(), self.pool).await;
            let address = worker.address();
            self.processes.lock().unwrap().insert(address.clone(), worker.process);
            Served { server: Arc::new(Server(worker)), client: self.client(), address }
        })
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        let transport = transport(SplitScheme::SplitTcp, response_server(self.pool));
        Arc::new(Informed { transport, processes: Arc::clone(&self.processes) })
    }

    fn nowhere(&self) -> Address {
        // Bound and let go of again: nobody listens there now.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Address::new("split-tcp", &listener.local_addr().unwrap().to_string()).unwrap()
    }

    fn window(&self) -> Window {
        Window { items: 1024, bytes: 256 << 10 }
    }
}

mod plain {
    sinew_testkit::duplex_suite!(crate::conformance::Split::new(false));
}

mod pooled {
    sinew_testkit::duplex_suite!(crate::conformance::Split::new(true));
}
