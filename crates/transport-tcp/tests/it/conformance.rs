//! The suite that every transport passes, over TCP and over Unix domain sockets.

use std::{sync::Arc, time::Duration};

use sinew_plane::{Address, BoxFuture, DuplexServer, DuplexTransport, ProcessId, RequestHandler};
use sinew_testkit::{Cuts, CuttingProxy, Harness, Listen, Served, Way};
use sinew_transport_tcp::{CheckedTcpConfig, DriverConfig, TcpConfig, TcpServer, TcpTransport};

/// Servers and clients over one kind of socket.
struct Sockets {
    config: TcpConfig,
    scheme: &'static str,
    resumes: bool,
    /// Keeps the folder of the Unix domain sockets.
    dir: tempfile::TempDir,
}

impl Sockets {
    /// Whose ends keep the streams of a lost connection.
    fn resuming(scheme: &'static str, integrity: bool) -> Self {
        Self { resumes: true, ..Self::new(scheme, integrity) }
    }

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
        // Found soon, and given up soon: cases wait for both.
        config.driver.mux.keepalive_interval = Duration::from_millis(500);
        config.driver.mux.keepalive_timeout = Duration::from_secs(2);
        config.driver.mux.resume_grace = Duration::from_secs(4);
        Self { config, scheme, resumes: false, dir }
    }

    /// The settings of one end, which is a process of its own where streams resume.
    fn end(&self) -> CheckedTcpConfig {
        let mut config = self.config.clone();
        if self.resumes {
            config.driver.mux.process = ProcessId::random();
        }
        config.checked().unwrap()
    }

    fn listen(&self) -> Listen {
        match self.scheme {
            "unix" => Listen::Unix(self.dir.path().join("before")),
            _ => Listen::loopback(),
        }
    }
}

impl Harness for Sockets {
    fn serve(&self, handler: Arc<dyn RequestHandler>) -> BoxFuture<'_, Served> {
        Box::pin(async move {
            let any = "127.0.0.1:0".parse().unwrap();
            let server = TcpServer::bind(self.end(), any, handler).unwrap();
            let addresses = server.addresses();
            let address = addresses.into_iter().find(|it| it.scheme() == self.scheme).unwrap();
            Served { server: Arc::new(server), client: self.client(), address }
        })
    }

    fn serve_resuming(
        &self,
        handler: Arc<dyn RequestHandler>,
    ) -> Option<BoxFuture<'_, (Served, Arc<dyn Way>)>> {
        self.resumes.then(|| -> BoxFuture<'_, _> {
            Box::pin(async move {
                let served = self.serve(handler).await;
                let cuts = Cuts::when_told();
                let proxy = CuttingProxy::start(self.listen(), served.address.clone(), cuts);
                let proxy = proxy.await.unwrap();
                let address = proxy.address().clone();
                (Served { address, ..served }, Arc::new(proxy) as _)
            })
        })
    }

    fn client(&self) -> Arc<dyn DuplexTransport> {
        Arc::new(match self.scheme {
            "unix" => TcpTransport::unix(self.end()),
            _ => TcpTransport::new(self.end()),
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
    sinew_testkit::duplex_suite!(crate::conformance::Sockets::resuming("tcp", false));
    sinew_testkit::resume_suite!(crate::conformance::Sockets::resuming("tcp", false));
}

/// Without an identity, an end keeps nothing for its peer; with one, checks follow an attach as well.
mod tcp_with_integrity {
    sinew_testkit::duplex_suite!(crate::conformance::Sockets::new("tcp", true));
    sinew_testkit::resume_suite!(crate::conformance::Sockets::resuming("tcp", true));
}

mod unix {
    sinew_testkit::duplex_suite!(crate::conformance::Sockets::resuming("unix", false));
    sinew_testkit::resume_suite!(crate::conformance::Sockets::resuming("unix", false));
}
