//! The networks of this host's interfaces.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;

use super::network::Network;

/// An address of this host, with the network around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) network: Network,
}

/// What reads the interfaces.
type Read = dyn Fn() -> io::Result<Vec<Interface>> + Send + Sync;

/// The interfaces as they were last read: on first need, and again when they were
/// [forgotten](Self::forget), so that most requests cost no system call.
pub(crate) struct OwnNetworks {
    read: Box<Read>,
    known: ArcSwapOption<Vec<Interface>>,
    is_stale: AtomicBool,
}

impl OwnNetworks {
    pub(crate) fn of_this_host() -> Self {
        Self::read_by(read)
    }

    pub(crate) fn read_by(
        read: impl Fn() -> io::Result<Vec<Interface>> + Send + Sync + 'static,
    ) -> Self {
        let (known, is_stale) = (ArcSwapOption::empty(), AtomicBool::new(true));
        Self { read: Box::new(read), known, is_stale }
    }

    /// What is known is read again when it is next asked for.
    pub(crate) fn forget(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// True for an address of this host.
    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        self.any(|it| it.ip == ip)
    }

    /// True for an address in the network of an interface.
    pub(crate) fn has_network_of(&self, ip: IpAddr) -> bool {
        self.any(|it| it.network.contains(ip) && it.is_host(ip))
    }

    /// True when one interface leads to both addresses without a router in between. Never for a
    /// link-local address, which stands on every interface.
    pub(crate) fn share_a_link(&self, one: IpAddr, other: IpAddr) -> bool {
        let known = self.known();
        let links = |ip: IpAddr| {
            known
                .iter()
                .filter(move |it| !it.ip.is_loopback() && it.network.contains(ip) && it.is_host(ip))
        };
        links(one).any(|a| links(other).any(|b| a.name == b.name))
    }

    fn any(&self, holds: impl Fn(&Interface) -> bool) -> bool {
        self.known().iter().any(holds)
    }

    fn known(&self) -> Arc<Vec<Interface>> {
        if !self.is_stale.swap(false, Ordering::AcqRel)
            && let Some(known) = self.known.load_full()
        {
            return known;
        }
        match (self.read)() {
            Ok(interfaces) => {
                let known = Arc::new(interfaces);
                self.known.store(Some(Arc::clone(&known)));
                known
            }
            Err(error) => {
                // Fewer addresses are dialled meanwhile, never more.
                tracing::debug!(%error, "the interfaces of this host cannot be read");
                self.forget();
                Arc::default()
            }
        }
    }
}

impl Interface {
    /// False for the address that means the whole network, and for all of its hosts at once.
    fn is_host(&self, ip: IpAddr) -> bool {
        !self.network.is_edge(ip)
    }
}

/// The addresses of this host but the link-local ones, of which each interface has some and none
/// says which link it means.
fn read() -> io::Result<Vec<Interface>> {
    let interface = |it: if_addrs::Interface| {
        let prefix = match &it.addr {
            if_addrs::IfAddr::V4(v4) => v4.prefixlen,
            if_addrs::IfAddr::V6(v6) => v6.prefixlen,
        };
        let ip = it.ip();
        let network = Network::new(ip, prefix).filter(|_| !it.is_link_local())?;
        Some(Interface { name: it.name, ip, network })
    };
    Ok(if_addrs::get_if_addrs()?.into_iter().filter_map(interface).collect())
}
