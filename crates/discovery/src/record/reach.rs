//! Which addresses of a record the reader can dial.

use std::net::{IpAddr, SocketAddr};

use sinew_plane::Address;

use crate::{MAX_ADDRESSES, Obstacle, Unreachable, host::are_different_machines};

/// Longest host name in DNS, in bytes.
const MAX_HOST_BYTES: usize = 253;

/// Who reads an address that was written where.
pub(super) struct Reader<'a> {
    pub(super) our_host: Option<&'a str>,
    pub(super) their_host: Option<&'a str>,
}

impl Reader<'_> {
    /// Those that a dial from here may reach, and those that none can, each within
    /// [`MAX_ADDRESSES`].
    pub(super) fn sort(&self, addresses: Vec<Address>) -> (Vec<Address>, Vec<Unreachable>) {
        let (mut reachable, mut unreachable) = (Vec::new(), Vec::new());
        for address in addresses {
            match self.obstacle(&address) {
                None => reachable.push(address),
                Some(obstacle) => unreachable.push(Unreachable { address, obstacle }),
            }
        }
        reachable.truncate(MAX_ADDRESSES);
        unreachable.truncate(MAX_ADDRESSES);
        (reachable, unreachable)
    }

    /// What keeps every dial from reaching it. Schemes that we do not know pass: their transports
    /// judge.
    fn obstacle(&self, address: &Address) -> Option<Obstacle> {
        match address.scheme() {
            "tcp" | "dynamo-tcp" => {
                let authority = address.rest().split('/').next().unwrap_or_default();
                self.obstacle_to_socket(authority)
            }
            // Paths mean the same within one container alone.
            "unix" => {
                self.is_known(|ours, theirs| ours != theirs).then_some(Obstacle::ForeignSocket)
            }
            _ => None,
        }
    }

    fn obstacle_to_socket(&self, authority: &str) -> Option<Obstacle> {
        if let Ok(socket) = authority.parse::<SocketAddr>() {
            return match socket.port() {
                0 => Some(Obstacle::NoHostAndPort),
                _ => self.obstacle_to_ip(socket.ip().to_canonical()),
            };
        }
        (!is_name_and_port(authority)).then_some(Obstacle::NoHostAndPort)
    }

    fn obstacle_to_ip(&self, ip: IpAddr) -> Option<Obstacle> {
        let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() {
            return Some(Obstacle::Unspecified);
        }
        if ip.is_multicast() || is_broadcast {
            return Some(Obstacle::Multicast);
        }
        (ip.is_loopback() && self.is_known(are_different_machines))
            .then_some(Obstacle::ForeignLoopback)
    }

    /// Whether something is so of both hosts. Not while one is unknown: an address of this host
    /// that leads nowhere costs one refused connection.
    fn is_known(&self, is_so: impl FnOnce(&str, &str) -> bool) -> bool {
        self.our_host.zip(self.their_host).is_some_and(|(ours, theirs)| is_so(ours, theirs))
    }
}

fn is_name_and_port(authority: &str) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    port.parse::<u16>().is_ok_and(|port| port != 0)
        && (1..=MAX_HOST_BYTES).contains(&host.len())
        && host.bytes().all(is_host_byte)
}
