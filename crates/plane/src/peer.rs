//! What the serving side knows of the other end of a request.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use crate::ProcessId;

/// What a worker knows of the other end of a request: where it is, and who it has proven to be.
///
/// A [`RequestHandler`](crate::RequestHandler) finds it in
/// [`IncomingRequest::peer`](crate::IncomingRequest::peer). What a transport does not know is left
/// out. Only [`identity`](Self::identity) is proven; the rest decides nothing by itself about who
/// may do what.
///
/// ```
/// use sinew_plane::{Origin, PeerFacts};
///
/// let peer = PeerFacts::at("10.0.0.7:4711".parse()?).with_encryption(true);
/// assert!(peer.encrypted && peer.identity.is_none());
/// assert_eq!(peer.origin, Origin::Peer("10.0.0.7".parse()?));
/// assert_eq!(peer.to_string(), "10.0.0.7:4711");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerFacts {
    /// Where the request came from, which bounds what it may ask for.
    pub origin: Origin,
    /// The address of the other end, if the connection has one.
    pub remote: Option<SocketAddr>,
    /// The address of this end, if the connection has one.
    pub local: Option<SocketAddr>,
    /// The process that the other end says it is. It proves nothing.
    pub process: ProcessId,
    /// True if the connection that the request came on is encrypted. Beyond a broker or a proxy this
    /// says nothing.
    pub encrypted: bool,
    /// Who the other end has proven to be.
    pub identity: Option<PeerIdentity>,
}

/// Who a peer has proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerIdentity {
    /// A process of this host that runs as this user, by the kernel's word.
    User(u32),
}

/// What a worker knows of where a request came from. It decides which addresses the worker dials
/// for the response, because a request names its response address itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The other end of the connection that the request came on.
    Peer(IpAddr),
    /// A process of the same host: the request came over a Unix domain socket.
    SameHost,
    /// The same process: the request was handed over in memory.
    SameProcess,
    /// A broker, which hides the sender.
    Broker {
        /// Every broker that this process may use is on this host, by its loopback address.
        is_local: bool,
    },
}

impl PeerFacts {
    /// A peer of which nothing is known. All unknown peers count as the same peer. None counts as a
    /// process of this host, so an unknown peer may not ask for what such a process may.
    pub const UNKNOWN: Self = Self::from_origin(Origin::Peer(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));

    /// The same process.
    pub const SAME_PROCESS: Self = Self::from_origin(Origin::SameProcess);

    /// A peer of which the origin alone is known.
    pub const fn from_origin(origin: Origin) -> Self {
        let process = ProcessId::UNKNOWN;
        Self { origin, remote: None, local: None, process, encrypted: false, identity: None }
    }

    /// A peer that is known by its address alone.
    pub fn at(remote: SocketAddr) -> Self {
        Self { remote: Some(remote), ..Self::from_origin(Origin::Peer(remote.ip().to_canonical())) }
    }

    /// A process of this host.
    pub fn same_host(identity: Option<PeerIdentity>) -> Self {
        Self { identity, ..Self::from_origin(Origin::SameHost) }
    }

    /// The same peer, connected to this address of this process.
    #[must_use]
    pub fn with_local(self, local: Option<SocketAddr>) -> Self {
        Self { local, ..self }
    }

    /// The same peer, which says that it is this process.
    #[must_use]
    pub fn with_process(self, process: ProcessId) -> Self {
        Self { process, ..self }
    }

    /// The same peer over a connection that is encrypted, or not. For a carrier that encrypts.
    #[must_use]
    pub fn with_encryption(self, encrypted: bool) -> Self {
        Self { encrypted, ..self }
    }

    /// The same peer, which has proven who it is.
    #[must_use]
    pub fn with_identity(self, identity: PeerIdentity) -> Self {
        Self { identity: Some(identity), ..self }
    }
}

impl fmt::Display for PeerFacts {
    /// Its address, or else its origin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remote {
            Some(remote) => write!(f, "{remote}"),
            None => write!(f, "{}", self.origin),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(ip) => write!(f, "{}", ip.to_canonical()),
            Self::SameHost => f.write_str("a process of this host"),
            Self::SameProcess => f.write_str("this process"),
            Self::Broker { .. } => f.write_str("a broker that hides its sender"),
        }
    }
}
