//! What a worker knows of the other end of a request.

use std::sync::Arc;

use parking_lot::Mutex;
use sinew::{
    DiscoverySource, Endpoint, HandlerLayer, Origin, PeerFacts, PeerIdentity, ProcessId, Runtime,
    TransportId, handler_layer_fn,
};

use crate::support::GUARD;

const ECHO: Endpoint<String, String> = Endpoint::new("demo/peers/echo");

async fn echo(text: String) -> Result<String, sinew::Error> {
    Ok(text)
}

/// What a layer saw, in the order of the requests.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(TransportId, PeerFacts)>>>);

impl Seen {
    fn layer(&self) -> impl HandlerLayer + 'static {
        let seen = self.clone();
        handler_layer_fn(move |request, sink, inside| {
            seen.0.lock().push((request.transport().clone(), request.peer().clone()));
            inside.handle(request, sink);
        })
    }

    fn take(&self) -> (TransportId, PeerFacts) {
        let mut seen = std::mem::take(&mut *self.0.lock());
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }
}

async fn runtime(folder: &tempfile::TempDir, process: u64, unix: bool) -> Runtime {
    let start = Runtime::builder().discovery(DiscoverySource::File(folder.path().to_owned()));
    let start = start.configure(|config| {
        config.unix = unix;
        config.tcp.driver.mux.process = ProcessId(process);
    });
    start.build().await.unwrap()
}

async fn call(caller: &Runtime) {
    let router = caller.router(&ECHO);
    router.wait_for_instances(GUARD).await.unwrap();
    assert_eq!(router.call("hi").unary().await.unwrap(), "hi");
}

/// The user that this test runs as: that of a folder it made.
fn own_user(folder: &tempfile::TempDir) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    folder.path().metadata().unwrap().uid()
}

#[tokio::test]
async fn a_layer_sees_the_peer_over_tcp_a_unix_socket_and_within_the_process() {
    for unix in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (worker, caller) = (runtime(&folder, 7, unix).await, runtime(&folder, 8, unix).await);
        let seen = Seen::default();
        let served = worker.serve(&ECHO, echo).handler_layer(seen.layer()).await.unwrap();

        call(&caller).await;
        let (transport, peer) = seen.take();
        assert_eq!((peer.process, peer.encrypted), (ProcessId(8), false));
        if unix {
            assert_eq!((transport.as_str(), peer.origin), ("unix", Origin::SameHost));
            assert_eq!(peer.identity, Some(PeerIdentity::User(own_user(&folder))));
            assert_eq!((peer.remote, peer.local), (None, None));
        } else {
            let (remote, local) = (peer.remote.unwrap(), peer.local.unwrap());
            assert_eq!((transport.as_str(), peer.origin), ("tcp", Origin::Peer(remote.ip())));
            assert_eq!(peer.identity, None, "an address proves nothing");
            let announced = worker.addresses();
            let port = format!(":{}", local.port());
            assert!(announced.iter().any(|one| one.rest().ends_with(&port)), "{announced:?}");
            assert_ne!(remote.port(), local.port());
        }

        call(&worker).await;
        let (transport, peer) = seen.take();
        assert_eq!((transport.as_str(), peer.origin), ("memory", Origin::SameProcess));
        served.drain().await;
        caller.shutdown(GUARD).await;
        worker.shutdown(GUARD).await;
    }
}
