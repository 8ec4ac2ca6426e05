//! Accepts connections, also if the process runs out of file descriptors.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{Peer, Socket};

/// Pause after the first failed accept; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A listening socket, TCP or Unix.
pub trait Accept: Send + Sync + 'static {
    /// Waits for the next connection. Cancel-safe.
    ///
    /// # Errors
    /// The error of the system, for example that no file descriptor is left.
    fn accept(&self) -> impl Future<Output = io::Result<(Socket, Peer)>> + Send;
}

/// Receives the sockets that a listener accepts.
pub trait Admit: Send + Sync + 'static {
    /// The token that ends the listeners.
    fn stop_accepting(&self) -> &CancellationToken;

    /// Takes a socket, or drops it, which closes it. Must not block.
    fn admit(self: &Arc<Self>, socket: Socket, peer: Peer);

    /// Called if no connection can be accepted, mostly because no file descriptor is left.
    fn make_room(&self) {}
}

/// Accepts connections until [`stop_accepting`](Admit::stop_accepting) is cancelled. If no file
/// descriptor is left it pauses; new connections wait in the backlog meanwhile.
pub async fn accept_connections(listener: impl Accept, shared: Arc<impl Admit>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop_accepting().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                pause = FIRST_PAUSE;
                shared.admit(socket, peer);
            }
            Err(error) if concerns_one_peer(&error) => {}
            Err(error) => {
                // Doubling makes this rare: at the last pause one line a second.
                tracing::warn!(%error, ?pause, "cannot accept connections");
                shared.make_room();
                tokio::select! {
                    biased;
                    () = shared.stop_accepting().cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// The connection was gone before it was accepted: not this process's trouble.
fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener that is out of descriptors for a while.
    struct Exhausted(std::sync::atomic::AtomicUsize);

    impl Accept for Exhausted {
        async fn accept(&self) -> io::Result<(Socket, Peer)> {
            let tries = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match tries {
                // ECONNABORTED costs no pause, EMFILE does.
                1 => Err(io::Error::from_raw_os_error(103)),
                0 | 2 | 3 => Err(io::Error::from_raw_os_error(24)),
                4 | 5 => Ok((Socket::Unix(tokio::net::UnixStream::pair()?.0), Peer::Unix)),
                _ => std::future::pending().await,
            }
        }
    }

    #[derive(Default)]
    struct Admitted {
        stop: CancellationToken,
        sockets: std::sync::atomic::AtomicUsize,
        asked_for_room: std::sync::atomic::AtomicUsize,
    }

    impl Admit for Admitted {
        fn stop_accepting(&self) -> &CancellationToken {
            &self.stop
        }

        fn make_room(&self) {
            self.asked_for_room.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }

        fn admit(self: &Arc<Self>, _socket: Socket, _peer: Peer) {
            if self.sockets.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
                self.stop.cancel();
            }
        }
    }

    #[tokio::test]
    async fn accepting_goes_on_after_exhaustion() {
        let admitted = Arc::new(Admitted::default());
        let began = std::time::Instant::now();
        accept_connections(Exhausted(0.into()), Arc::clone(&admitted)).await;
        assert_eq!(admitted.sockets.load(std::sync::atomic::Ordering::Relaxed), 2);
        assert_eq!(admitted.asked_for_room.load(std::sync::atomic::Ordering::Relaxed), 3);
        // Three pauses, each twice the one before.
        assert!(began.elapsed() >= FIRST_PAUSE * (1 + 2 + 4), "{:?}", began.elapsed());
    }

    #[test]
    fn exhaustion_pauses_and_a_lost_peer_does_not() {
        // EMFILE, ENFILE, ENOBUFS, ENOMEM
        for errno in [24, 23, 105, 12] {
            assert!(!concerns_one_peer(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
        // ECONNABORTED, ECONNRESET, EINTR
        for errno in [103, 104, 4] {
            assert!(concerns_one_peer(&io::Error::from_raw_os_error(errno)), "{errno}");
        }
    }
}
