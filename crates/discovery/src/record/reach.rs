//! Which addresses of a record make sense to the reader.

use std::net::{IpAddr, SocketAddr};

use sinew_plane::Address;

use crate::host::are_different_machines;

/// Longest host name in DNS, in bytes.
const MAX_HOST_BYTES: usize = 253;

/// Who reads an address that was written where.
pub(super) struct Reader<'a> {
    pub(super) our_host: Option<&'a str>,
    pub(super) their_host: Option<&'a str>,
}

impl Reader<'_> {
    /// False for what no dial from here can reach. Schemes that we do not know pass: their
    /// transports judge.
    pub(super) fn can_dial(&self, address: &Address) -> bool {
        match address.scheme() {
            "tcp" | "dynamo-tcp" => {
                let authority = address.rest().split('/').next().unwrap_or_default();
                self.can_dial_socket(authority)
            }
            _ => true,
        }
    }

    fn can_dial_socket(&self, authority: &str) -> bool {
        if let Ok(socket) = authority.parse::<SocketAddr>() {
            return socket.port() != 0 && self.can_dial_ip(socket.ip().to_canonical());
        }
        let Some((host, port)) = authority.rsplit_once(':') else { return false };
        let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        port.parse::<u16>().is_ok_and(|port| port != 0)
            && (1..=MAX_HOST_BYTES).contains(&host.len())
            && host.bytes().all(is_host_byte)
    }

    fn can_dial_ip(&self, ip: IpAddr) -> bool {
        let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        let is_ours = match (self.our_host, self.their_host) {
            (Some(ours), Some(theirs)) => !are_different_machines(ours, theirs),
            // Unknown: a loopback address that leads nowhere costs one refused connection.
            _ => true,
        };
        let is_foreign_loopback = ip.is_loopback() && !is_ours;
        !(ip.is_unspecified() || ip.is_multicast() || is_broadcast || is_foreign_loopback)
    }
}
