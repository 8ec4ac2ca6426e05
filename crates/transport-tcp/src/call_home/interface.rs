//! Which address to listen on, and which one to tell.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use sinew_plane::BindPolicy;

use crate::call_home::config::ListenHost;

/// The addresses of this machine, each with the name of its interface.
pub(crate) fn addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(interfaces.into_iter().map(|it| (it.name.clone(), it.ip())).collect())
}

/// The address to listen on.
///
/// # Errors
/// There is no interface of the name, or it has no address. The automatic choice falls back to
/// loopback and never fails.
pub(crate) fn choose(
    host: &ListenHost,
    policy: BindPolicy,
    machine: io::Result<Vec<(String, IpAddr)>>,
) -> io::Result<IpAddr> {
    match host {
        ListenHost::Ip(ip) => Ok(*ip),
        ListenHost::Automatic if policy == BindPolicy::LoopbackOnly => {
            Ok(Ipv4Addr::LOCALHOST.into())
        }
        ListenHost::Automatic => {
            Ok(reachable(&machine.unwrap_or_default(), false).unwrap_or(Ipv4Addr::LOCALHOST.into()))
        }
        ListenHost::Interface(name) => {
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

/// What to tell others for an address that is bound: itself, or one of the machine's where it
/// stands for all of them.
pub(crate) fn concrete(
    bound: SocketAddr,
    machine: io::Result<Vec<(String, IpAddr)>>,
) -> SocketAddr {
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
        choose(host, policy, Ok(machine())).unwrap().to_string()
    }

    #[test]
    fn the_automatic_choice_is_the_first_address_others_can_reach() {
        assert_eq!(chosen(&ListenHost::Automatic, BindPolicy::Insecure), "192.0.2.7");
        assert_eq!(chosen(&ListenHost::Automatic, BindPolicy::LoopbackOnly), "127.0.0.1");
    }

    #[test]
    fn without_such_an_address_it_falls_back_to_loopback() {
        for machine in [Ok(machine()[..2].to_vec()), Err(io::Error::other("no list"))] {
            let ip = choose(&ListenHost::Automatic, BindPolicy::Insecure, machine).unwrap();
            assert_eq!(ip, Ipv4Addr::LOCALHOST);
        }
    }

    #[test]
    fn an_interface_is_found_by_its_name_and_its_absence_is_an_error() {
        let named = |name: &str| ListenHost::Interface(name.to_owned());
        assert_eq!(chosen(&named("eth1"), BindPolicy::Insecure), "198.51.100.9");
        assert_eq!(chosen(&named("wg0"), BindPolicy::Insecure), "fd00::5");
        let error = choose(&named("eth7"), BindPolicy::Insecure, Ok(machine())).unwrap_err();
        assert!(error.to_string().contains("eth7"), "{error}");
        let broken = Err(io::Error::other("no list"));
        let error = choose(&named("eth0"), BindPolicy::Insecure, broken).unwrap_err();
        assert_eq!(error.to_string(), "no list");
    }

    #[test]
    fn a_wildcard_is_advertised_as_one_address() {
        let told = |bound: &str, machine| concrete(bound.parse().unwrap(), Ok(machine)).to_string();
        assert_eq!(told("0.0.0.0:81", machine()), "192.0.2.7:81");
        assert_eq!(told("[::]:81", machine()), "[fd00::5]:81");
        assert_eq!(told("0.0.0.0:81", vec![]), "127.0.0.1:81");
        assert_eq!(told("[::]:81", vec![]), "[::1]:81");
        assert_eq!(told("10.0.0.1:81", machine()), "10.0.0.1:81");
    }
}
