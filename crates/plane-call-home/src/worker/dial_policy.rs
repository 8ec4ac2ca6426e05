//! Which addresses a worker dials for a response.
//!
//! A request names its response address, so without a rule a caller could make the worker connect
//! to addresses that only the worker can reach.

use std::net::{IpAddr, SocketAddr};

use sinew_plane::{Code, Error, Executed, Origin};

use super::{network::Network, own_networks::OwnNetworks};
use crate::config::CheckedTcpStreamClientConfig;

/// The rule, and what this host knows of its own networks.
pub(crate) struct DialPolicy {
    allowed: Vec<Network>,
    own: OwnNetworks,
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No setting makes it one that can be dialled.
    Never(&'static str),
    /// `allowed_networks` could name it.
    NotAllowed(&'static str),
}

impl DialPolicy {
    pub(crate) fn new(config: &CheckedTcpStreamClientConfig) -> Self {
        Self::with_networks(config, OwnNetworks::of_this_host())
    }

    fn with_networks(config: &CheckedTcpStreamClientConfig, own: OwnNetworks) -> Self {
        Self { allowed: config.allowed_networks.clone(), own }
    }

    /// The interfaces are looked at again for the next address that needs it.
    pub(crate) fn look_again(&self) {
        self.own.forget();
    }

    /// Whether an address may be dialled for a request of this origin; `text` is how the request
    /// writes it.
    ///
    /// # Errors
    /// [`Code::NoTransport`] with the address, the reason and the setting. Nothing has run.
    pub(crate) fn check(
        &self,
        address: SocketAddr,
        origin: Origin,
        text: &str,
    ) -> Result<(), Error> {
        self.judge(address, origin).map_err(|refusal| refusal.error(text, origin))
    }

    /// The same as a reason.
    pub(crate) fn judge(&self, address: SocketAddr, origin: Origin) -> Result<(), Refusal> {
        let ip = address.ip().to_canonical();
        if address.port() == 0 {
            return Err(Refusal::Never("has no port"));
        }
        let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || is_broadcast {
            return Err(Refusal::Never("is not the address of one host"));
        }
        if self.is_allowed(ip) {
            return Ok(());
        }
        match origin {
            Origin::Peer(peer) => self.judge_peer(ip, peer.to_canonical()),
            Origin::SameHost | Origin::SameProcess => self.judge_local(ip),
            Origin::Broker { is_local } => self.judge_hidden(ip, is_local),
        }
    }

    /// A wide network does not mean the link-local addresses in it: services that must not be
    /// reached at a caller's word live there.
    fn is_allowed(&self, ip: IpAddr) -> bool {
        let link_local = is_link_local(ip);
        let names = |it: &Network| it.contains(ip) && (!link_local || it.is_link_local());
        self.allowed.iter().any(names)
    }

    fn judge_peer(&self, ip: IpAddr, peer: IpAddr) -> Result<(), Refusal> {
        if ip == peer || (ip.is_loopback() && peer.is_loopback()) {
            return Ok(());
        }
        if peer.is_loopback() || self.own.has_address(peer) {
            return self.judge_local(ip);
        }
        if ip.is_loopback() {
            return Err(Refusal::NotAllowed("is loopback, and the request came from another host"));
        }
        if self.own.has_address(ip) {
            return Err(Refusal::NotAllowed(
                "is the worker's own, and the request came from another host",
            ));
        }
        // A caller with several addresses names one of them and asks from another. What is on its
        // own link it reaches without the worker.
        if self.own.share_a_link(ip, peer) {
            return Ok(());
        }
        Err(Refusal::NotAllowed("is not the address that the request came from"))
    }

    fn judge_local(&self, ip: IpAddr) -> Result<(), Refusal> {
        if ip.is_loopback() || self.own.has_address(ip) {
            return Ok(());
        }
        Err(Refusal::NotAllowed("is not of this host, and the request came from this host"))
    }

    fn judge_hidden(&self, ip: IpAddr, is_local: bool) -> Result<(), Refusal> {
        if ip.is_loopback() {
            // With the broker on this host callers on this host are the common case, and they know
            // themselves by loopback.
            if is_local {
                return Ok(());
            }
            return Err(Refusal::NotAllowed("is loopback, and the request may be of another host"));
        }
        if self.own.has_network_of(ip) {
            return Ok(());
        }
        Err(Refusal::NotAllowed("is in none of the networks of the worker's interfaces"))
    }
}

impl Refusal {
    pub(crate) fn error(self, text: &str, origin: Origin) -> Error {
        let shown: String = text.chars().take(64).collect();
        // The acknowledgement is known by its first words: `acknowledgement` of
        // `sinew-dynamo-wire` reads them.
        let message = match self {
            Self::Never(why) => format!("response address {shown:?} refused: it {why}"),
            Self::NotAllowed(why) => format!(
                "response address {shown:?} refused: it {why} ({origin}). If the caller is to be \
                 dialled there, name the network at the worker: --allow-call-home, \
                 SINEW_ALLOW_CALL_HOME or allowed_networks"
            ),
        };
        Error::new(Code::NoTransport, message).with_executed(Executed::No)
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
