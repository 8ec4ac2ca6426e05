//! One connected socket, TCP or Unix.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use sinew_plane::{PeerFacts, PeerIdentity, TransportId};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream, tcp, unix},
};

use crate::{Carrier, ReadHalf, WriteHalf};

/// Name of the transport over TCP.
pub const TCP: TransportId = TransportId::from_static("tcp");
/// Name of the transport over Unix domain sockets.
pub const UNIX: TransportId = TransportId::from_static("unix");

/// Send buffer of a Unix socket, in bytes. Linux doubles it, to count its own overhead in; what it
/// gives by default is under half of that and does not grow by itself, as that of TCP does, so a
/// writer sleeps more often: 1 MiB bodies of one caller took 15 % longer. With 1 and 2 MiB they
/// were slower again.
const UNIX_SEND_BYTES: usize = 256 << 10;

/// Linux gives a connection that is accepted the options of its listener, as others do that do
/// not promise it.
const LISTENER_HANDS_DOWN: bool = cfg!(target_os = "linux");

/// Sets the options of [`Socket::tune_unread`] on a listener, for all sockets that it accepts,
/// which saves four system calls for each.
///
/// # Errors
/// The system refuses an option.
pub fn tune_listener(listener: &TcpListener, dead_after: Duration) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)?;
    set_keepalive(SockRef::from(listener), dead_after)
}

/// Makes the kernel detect in about `dead_after` that the peer of a silent connection is dead.
///
/// # Errors
/// The system refuses an option.
pub fn keep_alive(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    set_keepalive(SockRef::from(stream), dead_after)
}

/// How long a connection is silent before the kernel probes its peer.
pub fn silence(dead_after: Duration) -> Duration {
    // The kernel counts in whole seconds, and refuses 0.
    (dead_after / 3).max(Duration::from_secs(1))
}

fn set_keepalive(socket: SockRef<'_>, dead_after: Duration) -> io::Result<()> {
    let between = (dead_after / 6).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(silence(dead_after)).with_interval(between);
    socket.set_tcp_keepalive(&keepalive)
}

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix domain socket.
    Unix(UnixStream),
}

impl Socket {
    /// Sets the options that every connection needs: small frames are sent at once, and the kernel
    /// detects a dead peer. It sets both keep-alive, which is suspended while data is
    /// unacknowledged, and the user timeout, which does not cover an idle connection.
    ///
    /// # Errors
    /// The system refuses an option, for example on a connection that has ended already.
    pub fn tune(&self, dead_after: Duration) -> io::Result<()> {
        self.tune_unread(dead_after)?;
        #[cfg(target_os = "linux")]
        if let Self::Tcp(stream) = self {
            SockRef::from(stream).set_tcp_user_timeout(Some(dead_after))?;
        }
        Ok(())
    }

    /// As [`tune`](Self::tune), without the user timeout, for a connection whose reader may stop
    /// reading without a limit: with the timeout the kernel would report such a peer as dead.
    ///
    /// # Errors
    /// As [`tune`](Self::tune).
    pub fn tune_unread(&self, dead_after: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                keep_alive(stream, dead_after)
            }
            // The system gives what it allows, so this fails only for what is no socket.
            Self::Unix(stream) => SockRef::from(stream).set_send_buffer_size(UNIX_SEND_BYTES),
        }
    }

    /// As [`tune_unread`](Self::tune_unread), for a connection that was accepted by a
    /// [tuned](tune_listener) listener.
    ///
    /// # Errors
    /// As [`tune`](Self::tune).
    pub fn tune_accepted(&self, dead_after: Duration) -> io::Result<()> {
        if LISTENER_HANDS_DOWN { Ok(()) } else { self.tune_unread(dead_after) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl Carrier for Socket {
    fn transport(&self) -> TransportId {
        match self {
            Self::Tcp(_) => TCP,
            Self::Unix(_) => UNIX,
        }
    }

    /// Costs a system call or two.
    fn peer(&self) -> PeerFacts {
        match self {
            // One that is gone already has no address any more: the system does not know it.
            Self::Tcp(stream) => {
                let facts = stream.peer_addr().map_or(PeerFacts::UNKNOWN, PeerFacts::at);
                facts.with_local(stream.local_addr().ok())
            }
            Self::Unix(stream) => {
                let user = stream.peer_cred().ok().map(|peer| PeerIdentity::User(peer.uid()));
                PeerFacts::same_host(user)
            }
        }
    }

    fn split(self: Box<Self>) -> (ReadHalf, Arc<dyn WriteHalf>) {
        match *self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), Arc::new(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (Box::new(read), Arc::new(write))
            }
        }
    }
}

impl WriteHalf for tcp::OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, pieces)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(cx)
    }

    fn shutdown(&self) {
        // It fails only when the peer is gone already, which is as good.
        let _ = SockRef::from(self.as_ref()).shutdown(Shutdown::Write);
    }
}

impl WriteHalf for unix::OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, pieces)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(cx)
    }

    fn shutdown(&self) {
        // As above.
        let _ = SockRef::from(self.as_ref()).shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use sinew_plane::Origin;

    use super::*;

    /// A caller that resets its connection at once must not pass for a process of this host.
    #[tokio::test]
    async fn a_peer_that_is_gone_is_a_stranger() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let far = far.unwrap().0;
        SockRef::from(near.as_ref().unwrap()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(near);
        // The reset has arrived once a read says so.
        far.readable().await.unwrap();
        assert!(far.try_read(&mut [0]).is_err());
        let facts = Socket::Tcp(far).peer();
        assert_eq!((facts.origin, facts.remote), (PeerFacts::UNKNOWN.origin, None));
        assert_ne!(facts.origin, Origin::SameHost);
    }

    /// The system calls that are spared at each connection are those that need not be made.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_tuned_listener_hands_its_options_down() {
        let dead_after = Duration::from_secs(42);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        tune_listener(&listener, dead_after).unwrap();
        let address = listener.local_addr().unwrap();
        let (_near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let far = Socket::Tcp(far.unwrap().0);
        far.tune_accepted(dead_after).unwrap();
        let Socket::Tcp(stream) = &far else { panic!("a TCP connection") };
        let socket = SockRef::from(stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(14));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
    }
}
