//! Which address to listen on, and which one to announce.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use sinew_plane::BindPolicy;

/// The host on which a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListenHost {
    /// The first IPv4 address of this machine that is not loopback; loopback if there is none, or
    /// if the policy allows nothing else.
    #[default]
    Automatic,
    /// This address. `0.0.0.0` and `::` mean all addresses of the machine, of which one is
    /// announced.
    Ip(IpAddr),
    /// The first address of this network interface, IPv4 first.
    Interface(String),
}

impl ListenHost {
    /// Returns the address to listen on. Looks up an interface.
    ///
    /// # Errors
    /// There is no interface with that name, or it has no address. The automatic choice falls back
    /// to loopback and never fails.
    pub fn resolve(&self, policy: BindPolicy) -> io::Result<IpAddr> {
        match self {
            Self::Ip(ip) => Ok(*ip),
            _ => self.resolve_among(policy, interface_addresses()),
        }
    }

    fn resolve_among(&self, policy: BindPolicy, machine: MachineAddresses) -> io::Result<IpAddr> {
        match self {
            Self::Ip(ip) => Ok(*ip),
            Self::Automatic if policy == BindPolicy::LoopbackOnly => Ok(Ipv4Addr::LOCALHOST.into()),
            Self::Automatic => {
                let found = reachable(&machine.unwrap_or_default(), false);
                Ok(found.unwrap_or(Ipv4Addr::LOCALHOST.into()))
            }
            Self::Interface(name) => {
                let machine = machine?;
                let own = || machine.iter().filter(|(it, _)| it == name).map(|(_, ip)| *ip);
                let found = own().find(IpAddr::is_ipv4).or_else(|| own().find(is_global_enough));
                found.or_else(|| own().next()).ok_or_else(|| {
                    let message = format!("no network interface {name:?} with an address");
                    io::Error::new(io::ErrorKind::AddrNotAvailable, message)
                })
            }
        }
    }
}

/// An IP address, IPv6 with or without brackets; `localhost`; or the name of an interface.
impl FromStr for ListenHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(ip) = bare.unwrap_or(text).parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        if text == "localhost" {
            return Ok(Self::Ip(Ipv4Addr::LOCALHOST.into()));
        }
        // The kernel's own rules for names.
        let is_name_byte = |b: u8| b.is_ascii_graphic() && b != b'/';
        if !(1..=15).contains(&text.len()) || !text.bytes().all(is_name_byte) {
            return Err("is neither an IP address nor the name of a network interface".to_owned());
        }
        Ok(Self::Interface(text.to_owned()))
    }
}

/// The addresses of this machine, each with the name of its interface; or why they cannot be listed.
type MachineAddresses = io::Result<Vec<(String, IpAddr)>>;

pub(crate) fn interface_addresses() -> MachineAddresses {
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(interfaces.into_iter().map(|it| (it.name.clone(), it.ip())).collect())
}

/// What to tell others for an address that is bound: itself, or one of the machine's where it
/// stands for all of them.
pub(crate) fn advertised_address(bound: SocketAddr, machine: MachineAddresses) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let loopback: IpAddr = match bound {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let ip = reachable(&machine.unwrap_or_default(), bound.is_ipv6()).unwrap_or(loopback);
    SocketAddr::new(ip, bound.port())
}

/// An address at which other machines reach this one: IPv4 first, and IPv6 only where asked for.
fn reachable(machine: &[(String, IpAddr)], v6: bool) -> Option<IpAddr> {
    let mut known = machine.iter().map(|(_, ip)| *ip);
    let v4 = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(_) => false,
    };
    if v6 && let Some(ip) = known.clone().find(|ip| ip.is_ipv6() && is_global_enough(ip)) {
        return Some(ip);
    }
    known.find(v4)
}

fn is_global_enough(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<(String, IpAddr)> {
        [
            ("lo", "127.0.0.1"),
            ("lo", "::1"),
            ("eth0", "fe80::1"),
            ("eth0", "169.254.3.3"),
            ("eth0", "192.0.2.7"),
            ("eth1", "198.51.100.9"),
            ("wg0", "fe80::2"),
            ("wg0", "fd00::5"),
        ]
        .map(|(name, ip)| (name.to_owned(), ip.parse().unwrap()))
        .into()
    }

    fn chosen(host: &ListenHost, policy: BindPolicy) -> String {
        host.resolve_among(policy, Ok(machine())).unwrap().to_string()
    }

    #[test]
    fn the_automatic_choice_is_the_first_address_others_can_reach() {
        assert_eq!(chosen(&ListenHost::Automatic, BindPolicy::Insecure), "192.0.2.7");
        assert_eq!(chosen(&ListenHost::Automatic, BindPolicy::LoopbackOnly), "127.0.0.1");
    }

    #[test]
    fn without_such_an_address_it_falls_back_to_loopback() {
        for machine in [Ok(machine()[..2].to_vec()), Err(io::Error::other("no list"))] {
            let ip = ListenHost::Automatic.resolve_among(BindPolicy::Insecure, machine).unwrap();
            assert_eq!(ip, Ipv4Addr::LOCALHOST);
        }
    }

    #[test]
    fn an_interface_is_found_by_its_name_and_its_absence_is_an_error() {
        let named = |name: &str| ListenHost::Interface(name.to_owned());
        assert_eq!(chosen(&named("eth1"), BindPolicy::Insecure), "198.51.100.9");
        assert_eq!(chosen(&named("wg0"), BindPolicy::Insecure), "fd00::5");
        let error = named("eth7").resolve_among(BindPolicy::Insecure, Ok(machine())).unwrap_err();
        assert!(error.to_string().contains("eth7"), "{error}");
        let broken = Err(io::Error::other("no list"));
        let error = named("eth0").resolve_among(BindPolicy::Insecure, broken).unwrap_err();
        assert_eq!(error.to_string(), "no list");
    }

    #[test]
    fn a_wildcard_is_advertised_as_one_address() {
        let told = |bound: &str, machine| {
            advertised_address(bound.parse().unwrap(), Ok(machine)).to_string()
        };
        assert_eq!(told("0.0.0.0:81", machine()), "192.0.2.7:81");
        assert_eq!(told("[::]:81", machine()), "[fd00::5]:81");
        assert_eq!(told("0.0.0.0:81", vec![]), "127.0.0.1:81");
        assert_eq!(told("[::]:81", vec![]), "[::1]:81");
        assert_eq!(told("10.0.0.1:81", machine()), "10.0.0.1:81");
    }

    #[test]
    fn a_host_to_listen_on_is_an_address_or_an_interface() {
        let ip = |text: &str| ListenHost::Ip(text.parse().unwrap());
        for (text, host) in [
            ("0.0.0.0", ip("0.0.0.0")),
            ("::", ip("::")),
            ("[::]", ip("::")),
            ("localhost", ip("127.0.0.1")),
            ("eth0", ListenHost::Interface("eth0".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(host));
        }
        for bad in ["", "a b", "eth0/24", "a-name-that-is-too-long"] {
            assert!(bad.parse::<ListenHost>().is_err(), "{bad}");
        }
        let absent = ListenHost::Interface("eth-no-such".to_owned());
        let error = absent.resolve(BindPolicy::Insecure).unwrap_err();
        assert!(error.to_string().contains("eth-no-such"), "{error}");
    }
}
