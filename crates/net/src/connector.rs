//! Connectors, which make carriers to an address.

use std::{collections::VecDeque, io, net::SocketAddr, path::PathBuf, time::Duration};

use sinew_plane::{Address, BoxFuture, Code, Error};
use tokio::net::TcpStream;

use crate::{Carrier, Socket, connect_unix};

/// Most socket addresses of one name that are tried for a connection. With as many the last is
/// begun after two seconds, within the time that one attempt has.
const MAX_ATTEMPTS: usize = 8;

/// Makes carriers to the addresses of one transport.
pub trait Connector: Send + Sync {
    /// The attempts to connect to `address`, in order, since a name may have several socket
    /// addresses. No attempt has started; dropping one abandons it.
    ///
    /// # Errors
    /// The address is not valid, or its name cannot be resolved. Nothing was sent.
    fn attempts<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Vec<Attempt>, Error>>;
}

/// One attempt to connect.
pub type Attempt = BoxFuture<'static, io::Result<Box<dyn Carrier>>>;

/// Connects over TCP (`tcp://HOST:PORT`) and Unix domain sockets (`unix:///PATH`).
///
/// Any other scheme counts as TCP, so that a connector with its own scheme can use this one for the
/// sockets below its carriers.
#[derive(Debug, Clone)]
pub struct SocketConnector {
    /// Longest wait for the resolver.
    pub resolve_timeout: Duration,
    /// After about this time of silence the kernel reports a peer as dead.
    pub dead_after: Duration,
}

impl SocketConnector {
    async fn resolve(&self, address: &Address) -> Result<Vec<SocketAddr>, Error> {
        let limit = self.resolve_timeout;
        let resolving = tokio::net::lookup_host(address.rest());
        let resolved = match tokio::time::timeout(limit, resolving).await {
            Ok(Ok(resolved)) => alternating(resolved.collect()),
            Ok(Err(cause)) => {
                let message = format!("{address} does not resolve: {cause}");
                return Err(Error::new(Code::ConnectFailed, message).with_source(cause));
            }
            Err(_) => {
                let message = format!("{address} did not resolve within {limit:?}");
                return Err(Error::new(Code::ConnectTimedOut, message));
            }
        };
        if resolved.is_empty() {
            let message = format!("{address} resolves to no address");
            return Err(Error::new(Code::ConnectFailed, message));
        }
        Ok(resolved)
    }

    /// Attempts to reach these socket addresses, in this order.
    pub fn attempts_at(&self, addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<Attempt> {
        let attempt = |address| -> Attempt { Box::pin(connect_tcp(address, self.dead_after)) };
        addresses.into_iter().take(MAX_ATTEMPTS).map(attempt).collect()
    }
}

impl Connector for SocketConnector {
    fn attempts<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Vec<Attempt>, Error>> {
        Box::pin(async move {
            if address.scheme() == "unix" {
                let path = PathBuf::from(address.rest());
                return Ok(vec![Box::pin(connect_path(path, self.dead_after)) as Attempt]);
            }
            Ok(self.attempts_at(self.resolve(address).await?))
        })
    }
}

async fn connect_tcp(address: SocketAddr, dead_after: Duration) -> io::Result<Box<dyn Carrier>> {
    tuned(Socket::Tcp(TcpStream::connect(address).await?), dead_after)
}

async fn connect_path(path: PathBuf, dead_after: Duration) -> io::Result<Box<dyn Carrier>> {
    tuned(Socket::Unix(connect_unix(&path).await?), dead_after)
}

fn tuned(socket: Socket, dead_after: Duration) -> io::Result<Box<dyn Carrier>> {
    socket.tune(dead_after)?;
    Ok(Box::new(socket))
}

/// The resolver's order, with the families in turn: one that has no way out of here is then
/// passed over by the second attempt, however many addresses it has.
fn alternating(resolved: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = resolved.first().map(SocketAddr::is_ipv6) else { return resolved };
    let (mut same, mut other) =
        resolved.into_iter().partition::<VecDeque<_>, _>(|place| place.is_ipv6() == first);
    let mut ordered = Vec::with_capacity(same.len() + other.len());
    while !same.is_empty() || !other.is_empty() {
        ordered.extend(same.pop_front());
        ordered.extend(other.pop_front());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scheme_of_ones_own_leads_to_a_tcp_socket() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let wait = Duration::from_secs(20);
        let connector = SocketConnector { resolve_timeout: wait, dead_after: wait };
        let mut attempts =
            connector.attempts(&Address::new("mine", &place).unwrap()).await.unwrap();
        assert_eq!(attempts.len(), 1);
        let (dialled, accepted) = tokio::join!(attempts.remove(0), listener.accept());
        accepted.unwrap();
        assert_eq!(dialled.unwrap().transport(), crate::TCP);
    }

    #[test]
    fn the_families_of_a_name_are_tried_in_turn() {
        let places = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|place| place.parse().unwrap()).collect()
        };
        let resolved = places(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]);
        let tried = ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"];
        assert_eq!(alternating(resolved), places(&tried));
        assert_eq!(alternating(Vec::new()), []);
    }
}
