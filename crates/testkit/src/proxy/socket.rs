//! A TCP or Unix domain socket, as the proxy sees it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use sinew_plane::Address;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use super::Listen;

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(super) async fn bind(listen: Listen) -> io::Result<Self> {
        Ok(match listen {
            Listen::Tcp(address) => Self::Tcp(TcpListener::bind(address).await?),
            Listen::Unix(path) => Self::Unix(UnixListener::bind(path)?),
        })
    }

    /// Where it is reached, for callers of `target`.
    pub(super) fn address(&self, target: &Address) -> io::Result<Address> {
        let (scheme, rest) = match self {
            Self::Tcp(listener) => {
                let scheme = if target.scheme() == "unix" { "tcp" } else { target.scheme() };
                (scheme, listener.local_addr()?.to_string())
            }
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().and_then(|path| path.to_str());
                let path = path.ok_or_else(|| io::Error::other("the path is not text"))?;
                ("unix", path.to_owned())
            }
        };
        Address::new(scheme, &rest).map_err(|error| io::Error::other(error.to_string()))
    }

    pub(super) async fn accept(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => Socket::tcp(listener.accept().await?.0)?,
            Self::Unix(listener) => Socket::Unix(listener.accept().await?.0),
        })
    }
}

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) async fn connect(target: &Address) -> io::Result<Self> {
        match target.scheme() {
            "unix" => Ok(Self::Unix(UnixStream::connect(target.rest()).await?)),
            _ => Self::tcp(TcpStream::connect(target.rest()).await?),
        }
    }

    fn tcp(socket: TcpStream) -> io::Result<Self> {
        // What passes through must not wait for more.
        socket.set_nodelay(true)?;
        Ok(Self::Tcp(socket))
    }

    /// Closes it so that the peer has an error and no end. A Unix domain socket just closes.
    pub(super) fn reset(self) {
        if let Self::Tcp(socket) = self {
            // Fails where the connection is gone already.
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, room),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
