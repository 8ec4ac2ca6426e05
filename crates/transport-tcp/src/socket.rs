//! One connected socket, TCP or Unix, in two halves.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BufMut;
use sinew_plane::TransportId;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpListener, TcpStream, UnixStream, tcp, unix},
};

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

/// Sets what [`Socket::tune_unread`] does on a listener, once for all that it will accept: four
/// system calls that each of them is spared.
pub(crate) fn tune_listener(listener: &TcpListener, dead_after: Duration) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)?;
    set_keepalive(SockRef::from(listener), dead_after)
}

/// Has the kernel find out in about `dead_after` that the peer of a silent connection is gone.
pub(crate) fn keep_alive(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    set_keepalive(SockRef::from(stream), dead_after)
}

/// How long a connection is silent before the kernel looks whether its peer is there.
pub(crate) fn silence(dead_after: Duration) -> Duration {
    // The kernel counts in whole seconds, and refuses 0.
    (dead_after / 3).max(Duration::from_secs(1))
}

fn set_keepalive(socket: SockRef<'_>, dead_after: Duration) -> io::Result<()> {
    let between = (dead_after / 6).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(silence(dead_after)).with_interval(between);
    socket.set_tcp_keepalive(&keepalive)
}

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Sets what every connection needs: small frames leave at once, and a dead peer is noticed
    /// by the kernel too. Keep-alive alone is suspended while data is unacknowledged, and the
    /// user timeout alone says nothing about an idle connection, so both are set.
    pub(crate) fn tune(&self, dead_after: Duration) -> io::Result<()> {
        self.tune_unread(dead_after)?;
        #[cfg(target_os = "linux")]
        if let Self::Tcp(stream) = self {
            SockRef::from(stream).set_tcp_user_timeout(Some(dead_after))?;
        }
        Ok(())
    }

    /// As [`tune`](Self::tune), for a connection that its reader may leave unread for as long as
    /// it likes: under a user timeout the kernel would take that for death.
    pub(crate) fn tune_unread(&self, dead_after: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                keep_alive(stream, dead_after)
            }
            // The system gives what it allows, so this fails only for what is no socket.
            Self::Unix(stream) => SockRef::from(stream).set_send_buffer_size(UNIX_SEND_BYTES),
        }
    }

    /// As [`tune_unread`](Self::tune_unread), for a connection that was accepted by a listener
    /// which was [tuned](tune_listener) itself.
    pub(crate) fn tune_accepted(&self, dead_after: Duration) -> io::Result<()> {
        if LISTENER_HANDS_DOWN { Ok(()) } else { self.tune_unread(dead_after) }
    }

    pub(crate) fn transport(&self) -> TransportId {
        match self {
            Self::Tcp(_) => TCP,
            Self::Unix(_) => UNIX,
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Reads what is there into the spare room of `buffer`, of which there must be some: 0 bytes
    /// are the end.
    pub(crate) fn try_read(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }

    /// No more bytes will be written; what was written still arrives.
    pub(crate) fn shutdown(&self) {
        // It fails only when the peer is gone already, which is as good.
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Self::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
        };
    }

    pub(crate) fn split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        }
    }
}

pub(crate) enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl ReadHalf {
    /// Waits until there is something to read, or the end. Cancel-safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.readable().await,
            Self::Unix(half) => half.readable().await,
        }
    }

    /// Reads what is there into `buffer`; `WouldBlock` if that is nothing.
    pub(crate) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_read_buf(buffer),
            Self::Unix(half) => half.try_read_buf(buffer),
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Self::Unix(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

/// The writing half. Shared: whoever finds the connection idle writes by itself.
pub(crate) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl WriteHalf {
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write_vectored(slices),
            Self::Unix(half) => half.try_write_vectored(slices),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Unix(half) => half.try_write(bytes),
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.writable().await,
            Self::Unix(half) => half.writable().await,
        }
    }

    /// No more bytes will be written; what was written still arrives.
    pub(crate) fn shutdown(&self) {
        // It fails only when the peer is gone already, which is as good.
        let _ = match self {
            Self::Tcp(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
            Self::Unix(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
