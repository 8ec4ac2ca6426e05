//! A wire to etcd that can be cut.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;

/// Passes connections on while it is whole.
pub(crate) struct Wire {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    connections: TaskTracker,
}

impl Wire {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_whole, whole) = watch::channel(true);
        let connections = TaskTracker::new();
        let tracker = connections.clone();
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut whole = whole.clone();
                if !*whole.borrow_and_update() {
                    continue;
                }
                tracker.spawn(async move {
                    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                    tokio::select! {
                        biased;
                        _ = whole.changed() => {}
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, is_whole, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no new connection, and waits until those that are there have ended.
    pub(crate) async fn cut(&self) {
        self.is_whole.send_replace(false);
        self.connections.close();
        self.connections.wait().await;
        self.connections.reopen();
    }

    pub(crate) fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}
