//! One connected socket, TCP or Unix, in two halves.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use sinew_plane::TransportId;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpStream, UnixStream, tcp, unix},
};

/// Name of the transport over TCP.
pub const TCP: TransportId = TransportId::from_static("tcp");
/// Name of the transport over Unix domain sockets.
pub const UNIX: TransportId = TransportId::from_static("unix");

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
        let Self::Tcp(stream) = self else { return Ok(()) };
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        // The kernel counts in whole seconds, and refuses 0.
        let second = Duration::from_secs(1);
        let keepalive = TcpKeepalive::new()
            .with_time((dead_after / 3).max(second))
            .with_interval((dead_after / 6).max(second));
        socket.set_tcp_keepalive(&keepalive)
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
    pub(crate) fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
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
