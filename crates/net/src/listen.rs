//! Listening sockets.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::{Accept, Peer, Socket};

/// Listens on a TCP address; port 0 picks a free one. Returns the listener and the address that was
/// bound. At most `backlog` connections wait to be accepted; the kernel may allow fewer.
///
/// # Errors
/// The address cannot be bound.
pub fn listen_tcp(address: SocketAddr, backlog: u32) -> io::Result<(TcpListener, SocketAddr)> {
    let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All addresses of the machine, those of IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

impl Accept for TcpListener {
    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (stream, address) = Self::accept(self).await?;
        Ok((Socket::Tcp(stream), Peer::at(address.ip())))
    }
}

impl Accept for UnixListener {
    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        Ok((Socket::Unix(stream), Peer::Unix))
    }
}
