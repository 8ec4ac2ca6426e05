//! Addresses that this process cannot dial.

use std::fmt;

use sinew_plane::Address;

/// An address of an instance that this process cannot dial, and why. Formatted as
/// `tcp://127.0.0.1:9000, which is loopback of another machine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The address.
    pub address: Address,
    /// Why it cannot be dialled.
    pub obstacle: Obstacle,
}

/// Why this process cannot dial an address. Formatted as the text that follows "the address is".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// A loopback address of another machine; a dial would reach this machine.
    ForeignLoopback,
    /// A Unix socket of another host, or of another container of this one.
    ForeignSocket,
    /// `0.0.0.0` or `[::]`, which a server can listen on and no client can dial.
    Unspecified,
    /// A multicast or broadcast address, which belongs to no single server.
    Multicast,
    /// Not a host and a port of 1 to 65,535.
    NoHostAndPort,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ForeignLoopback => "loopback of another machine",
            Self::ForeignSocket => "a socket within another host",
            Self::Unspecified => "every address of its machine and names none",
            Self::Multicast => "multicast or broadcast",
            Self::NoHostAndPort => "not a host with a port of 1 to 65,535",
        })
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, which is {}", self.address, self.obstacle)
    }
}
