//! A way to a server that a test can cut, stall and close.

use std::path::Path;

use sinew_plane::{Address, DuplexServer};
use sinew_transport_tcp::TcpServer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::attach::pass;

/// What happens to the connections through a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Bytes pass.
    Open,
    /// Nothing passes any more, and neither end is told.
    Silent,
    /// They are closed.
    Cut,
}

/// A listener that passes connections on to a server.
pub(crate) struct Gate {
    pub(crate) address: Address,
    fates: watch::Sender<(u32, Fate)>,
    accepting: AbortHandle,
    _tasks: JoinSet<()>,
}

impl Gate {
    pub(crate) async fn tcp(server: &TcpServer) -> Self {
        let target = server.local_address().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::tcp(listener.local_addr().unwrap());
        let (fates, fate) = watch::channel((0, Fate::Open));
        let mut tasks = JoinSet::new();
        let accepting = tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                near.set_nodelay(true).unwrap();
                let Ok(far) = TcpStream::connect(target).await else { continue };
                far.set_nodelay(true).unwrap();
                let _ = connections.spawn(carry(near, far, fate.clone()));
            }
        });
        Self { address, fates, accepting, _tasks: tasks }
    }

    pub(crate) fn unix(server: &TcpServer, folder: &Path) -> Self {
        let addresses = server.addresses();
        let target = addresses.iter().find(|it| it.scheme() == "unix").unwrap().rest().to_owned();
        let path = folder.join("gate.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let address = Address::new("unix", path.to_str().unwrap()).unwrap();
        let (fates, fate) = watch::channel((0, Fate::Open));
        let mut tasks = JoinSet::new();
        let accepting = tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = UnixStream::connect(&target).await else { continue };
                let _ = connections.spawn(carry(near, far, fate.clone()));
            }
        });
        Self { address, fates, accepting, _tasks: tasks }
    }

    fn decide(&self, fate: Fate) {
        self.fates.send_modify(|(times, now)| (*times, *now) = (*times + 1, fate));
    }

    /// Closes the connections that are up; new ones pass.
    pub(crate) fn cut(&self) {
        self.decide(Fate::Cut);
    }

    /// Stops passing bytes on the connections that are up, without a word; new ones pass.
    pub(crate) fn stall(&self) {
        self.decide(Fate::Silent);
    }

    /// Takes no further connection and closes those that are up.
    pub(crate) fn close(&self) {
        self.accepting.abort();
    }
}

/// An address that passes one connection on to the server, and takes no other.
pub(crate) async fn passing_one(server: &TcpServer) -> Address {
    let target = server.local_address().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::tcp(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        drop(listener);
        pass(near, TcpStream::connect(target).await.unwrap(), usize::MAX).await;
    });
    address
}

async fn carry(
    near: impl AsyncRead + AsyncWrite,
    far: impl AsyncRead + AsyncWrite,
    mut fate: watch::Receiver<(u32, Fate)>,
) {
    // What was decided before does not concern it.
    fate.mark_unchanged();
    let mut passing = std::pin::pin!(pass(near, far, usize::MAX));
    loop {
        tokio::select! {
            biased;
            decided = fate.changed() => {
                let now = if decided.is_ok() { fate.borrow().1 } else { Fate::Cut };
                match now {
                    Fate::Cut => return,
                    // Both sockets stay open.
                    Fate::Silent => while fate.changed().await.is_ok() {},
                    Fate::Open => {}
                }
            }
            () = &mut passing => return,
        }
    }
}
