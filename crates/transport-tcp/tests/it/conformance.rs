//! The suite that every transport passes, over TCP and over Unix domain sockets.

use std::{sync::Arc, time::Duration};

use sinew_plane::{Address, BoxFuture, DuplexServer, DuplexTransport, RequestHandler};
use sinew_testkit::{Harness, Served};
use sinew_transport_tcp::{CheckedTcpConfig, DriverConfig, TcpConfig, TcpServer, TcpTransport};

/// Servers and clients over one kind of socket.
struct Sockets {
    config: CheckedTcpConfig,
    scheme: &'static str,
    /// Keeps the folder of the Unix domain sockets.
    _dir: tempfile::TempDir,
}

impl Sockets {
    fn new(scheme: &'static str, integrity: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = TcpConfig {
            unix_dir: Some(dir.path().join("sockets")),
            driver: DriverConfig {
                backoff_max: Duration::from_millis(50),
                ..DriverConfig::default()
            },
            ..TcpConfig::default()
        };
        config.driver.mux.integrity = integrity;
        Self { config: config.checked().unwrap(), scheme, _dir: dir }
    }
}

impl Harness for Sockets {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        Box::pin(async move {
            let any = "127.0.0.1:0".parse().unwrap();
            let server = TcpServer::bind(self.config.clone(), any, handler).unwrap();
            let addresses = server.addresses();
            let address = addresses.into_iter().find(|it| it.scheme() == self.scheme).unwrap();
            Served { server: Arc::new(server), client: self.client(), address }
        })
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        Arc::new(match self.scheme {
            "unix" => TcpTransport::unix(self.config.clone()),
            _ => TcpTransport::new(self.config.clone()),
        })
    }

    fn nowhere(&self) -> Address {
        match self.scheme {
            "unix" => "unix:///nowhere/at/all.sock".parse().unwrap(),
            // Bound and let go of again: nobody listens there now.
            _ => {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                Address::tcp(listener.local_addr().unwrap())
            }
        }
    }
}

mod tcp {
    sinew_testkit::duplex_suite!(crate::conformance::Sockets::new("tcp", false));
}

mod tcp_with_integrity {
    sinew_testkit::duplex_suite!(crate::conformance::Sockets::new("tcp", true));
}

mod unix {
    sinew_testkit::duplex_suite!(crate::conformance::Sockets::new("unix", false));
}
