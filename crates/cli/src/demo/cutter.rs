//! A way to a worker whose connections the demo can cut.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// Passes connections on to a worker until it is dropped.
pub(crate) struct Cutter {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    cuts: watch::Sender<u64>,
    _accepting: AbortOnDropHandle<()>,
}

impl Cutter {
    /// Listens on a free port of loopback for connections to `target`.
    ///
    /// # Errors
    /// No port can be bound.
    pub(crate) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (cuts, cut) = watch::channel(0);
        let open = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&open);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let _ = connections.spawn(pass(near, target, cut.clone(), Arc::clone(&counted)));
            }
        });
        Ok(Self { address, open, cuts, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where callers connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the connections that are open, and returns how many there were.
    pub(crate) fn cut(&self) -> usize {
        let open = self.open.load(Ordering::Acquire);
        self.cuts.send_modify(|cuts| *cuts += 1);
        open
    }
}

/// Passes bytes on both ways until either end closes, or the connection is cut: both ends are then
/// closed.
async fn pass(
    mut near: TcpStream,
    target: SocketAddr,
    mut cut: watch::Receiver<u64>,
    open: Arc<AtomicUsize>,
) {
    // What was cut before does not concern it.
    cut.mark_unchanged();
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    open.fetch_add(1, Ordering::AcqRel);
    tokio::select! {
        biased;
        _ = cut.changed() => {}
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
    }
    open.fetch_sub(1, Ordering::AcqRel);
}
