//! One connection: passes bytes both ways, and is cut.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::watch,
};

use super::socket::Socket;
use crate::Cut;

/// Bytes that are read at once. Larger than what a mux writes for an item, so that the proxy adds
/// no writes; small beside a socket's buffer.
const CHUNK_BYTES: usize = 16 << 10;

/// How long a connection that was ended in order waits for its ends to close as well.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What all connections are told, and how often they were told something.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Order {
    number: u64,
    cut: Option<(u64, Cut)>,
}

impl Order {
    pub(super) fn give(&mut self, bytes: u64, how: Cut) {
        self.number += 1;
        self.cut = Some((bytes, how));
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// What cuts a connection: a number of bytes, or an order that is newer than those it has seen.
pub(super) struct Limits {
    pub(super) limit: Option<(u64, Cut)>,
    pub(super) seen: u64,
    pub(super) orders: watch::Receiver<Order>,
}

/// What all connections of a proxy share.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// The bytes that were passed to clients.
    pub(super) bytes: AtomicU64,
    /// How long each piece to a client is kept, in microseconds.
    pub(super) delay_micros: AtomicU64,
}

/// Passes bytes until an end closes the connection or it is cut. Counts the bytes to the client in
/// `passing`, and tells `log` of each cut, with those of this connection.
pub(super) async fn relay(
    near: Socket,
    far: Socket,
    limits: Limits,
    passing: &Passing,
    log: impl Fn(Cut, u64),
) {
    let Limits { limit, seen, mut orders } = limits;
    let (mut from_near, mut to_near) = tokio::io::split(near);
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let mut back = Back { passed: 0, limit, seen, passing };
    let how = tokio::select! {
        biased;
        how = back.pass(&mut from_far, &mut to_near, &mut orders) => how,
        _ = forth(&mut from_near, &mut to_far) => None,
    };
    let (near, far) = (from_near.unsplit(to_near), from_far.unsplit(to_far));
    let Some(how) = how else { return };
    log(how, back.passed);
    cut(near, far, how, orders, &|how| log(how, back.passed)).await;
}

/// Bytes to the server, until an end closes.
async fn forth(from: &mut ReadHalf<Socket>, to: &mut WriteHalf<Socket>) -> Option<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        to.write_all(&chunk[..read]).await.ok()?;
    }
}

/// The direction to the client, whose bytes are counted.
struct Back<'a> {
    passed: u64,
    limit: Option<(u64, Cut)>,
    seen: u64,
    passing: &'a Passing,
}

impl Back<'_> {
    /// Returns how the connection is to be cut, or `None` when an end has closed it.
    async fn pass(
        &mut self,
        from: &mut ReadHalf<Socket>,
        to: &mut WriteHalf<Socket>,
        orders: &mut watch::Receiver<Order>,
    ) -> Option<Cut> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            self.hear(orders);
            let room = match self.limit {
                Some((limit, how)) if limit <= self.passed => return Some(how),
                Some((limit, _)) => usize::try_from(limit - self.passed).unwrap_or(usize::MAX),
                None => usize::MAX,
            };
            let room = room.min(chunk.len());
            let read = tokio::select! {
                biased;
                _ = orders.changed() => continue,
                read = from.read(&mut chunk[..room]) => read.ok().filter(|read| *read > 0)?,
            };
            let delay = self.passing.delay_micros.load(Ordering::Acquire);
            if delay > 0 {
                // tidy-allow: sleep, this is what the proxy is told to do
                tokio::time::sleep(Duration::from_micros(delay)).await;
            }
            // A client that reads nothing must not keep an order from being heard.
            let write = to.write_all(&chunk[..read]);
            tokio::select! {
                biased;
                written = write => written.ok()?,
                how = Self::told_at_once(orders) => return Some(how),
            }
            self.passed += read as u64;
            self.passing.bytes.fetch_add(read as u64, Ordering::Release);
        }
    }

    /// Takes up an order that it has not heard yet.
    fn hear(&mut self, orders: &mut watch::Receiver<Order>) {
        let order = *orders.borrow_and_update();
        if let Some((bytes, how)) = order.cut.filter(|_| order.number > self.seen) {
            self.seen = order.number;
            self.limit = Some((self.passed + bytes, how));
        }
    }

    async fn told_at_once(orders: &mut watch::Receiver<Order>) -> Cut {
        loop {
            // Without a sender there is no proxy any more, which ends this task.
            if orders.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Some((0, how)) = orders.borrow().cut {
                return how;
            }
        }
    }
}

async fn cut(
    near: Socket,
    far: Socket,
    how: Cut,
    mut orders: watch::Receiver<Order>,
    log: &impl Fn(Cut),
) {
    match how {
        Cut::Fin => {
            let ended = async { tokio::join!(finish(near), finish(far)) };
            // An end that does not close finds out when this socket is dropped.
            let _ = tokio::time::timeout(CLOSE_LIMIT, ended).await;
        }
        Cut::Reset => {
            near.reset();
            far.reset();
        }
        Cut::Silence => {
            let (mut near, mut far) = (near, far);
            orders.mark_unchanged();
            let next = tokio::select! {
                biased;
                _ = orders.changed() => orders.borrow().cut.map(|(_, how)| how),
                // Each end on its own: that one has given up tells the other nothing.
                _ = async { tokio::join!(swallow(&mut near), swallow(&mut far)) } => None,
            };
            match next {
                Some(Cut::Fin) => {
                    log(Cut::Fin);
                    let ended = async { tokio::join!(finish(near), finish(far)) };
                    let _ = tokio::time::timeout(CLOSE_LIMIT, ended).await;
                }
                Some(Cut::Reset) => {
                    log(Cut::Reset);
                    near.reset();
                    far.reset();
                }
                Some(Cut::Silence) | None => {}
            }
        }
    }
}

/// Ends the connection in order. What still arrives is read, because a socket that is closed with
/// something unread sends a reset.
async fn finish(mut socket: Socket) {
    let _ = socket.shutdown().await;
    swallow(&mut socket).await;
}

/// Reads until the end and keeps nothing.
async fn swallow(socket: &mut Socket) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(1..) = socket.read(&mut chunk).await {}
}
