//! The target of a lookup, `NAME:PORT` or `_SERVICE._PROTOCOL.NAME`, and the DNS server to ask.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use hickory_resolver::proto::rr::Name;

use crate::DiscoveryError;

/// A name in DNS, and the server to ask when it is not the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) what: What,
    pub(super) server: Option<SocketAddr>,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Its A and AAAA records are the servers, all on one port.
    Host { name: Name, port: u16 },
    /// An address, with nothing to look up.
    Address(SocketAddr),
    /// Its SRV records are the servers.
    Service(Name),
}

impl FromStr for Target {
    type Err = DiscoveryError;

    fn from_str(text: &str) -> Result<Self, DiscoveryError> {
        let whole = text.strip_prefix("dns://").unwrap_or(text);
        let fault = |reason: &str| DiscoveryError::Invalid {
            reason: format!(
                "{whole:?} is not a discovery through DNS: {reason}. Write dns://NAME:PORT or \
                 dns://_SERVICE._tcp.NAME, with ?server=IP:PORT to ask another server"
            ),
        };
        let (target, options) = whole.split_once('?').unwrap_or((whole, ""));
        let server = match options.split_once('=') {
            Some(("server", server)) => {
                let with_port = server.parse::<SocketAddr>();
                let address = with_port
                    .or_else(|_| server.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT)));
                Some(address.map_err(|_| fault("the server is not an address"))?)
            }
            None if options.is_empty() => None,
            _ => return Err(fault("the only option is server")),
        };
        let what = what(target).map_err(fault)?;
        Ok(Self { what, server, text: whole.to_owned() })
    }
}

const DNS_PORT: u16 = 53;

fn what(target: &str) -> Result<What, &'static str> {
    if let Ok(address) = target.parse::<SocketAddr>() {
        return if address.port() == 0 { Err("the port is 0") } else { Ok(What::Address(address)) };
    }
    let parse = |name: &str| match Name::from_utf8(name) {
        Ok(parsed) if !name.is_empty() && name != "." => Ok(parsed),
        _ => Err("the name is not valid"),
    };
    match target.rsplit_once(':') {
        Some((name, port)) => match port.parse() {
            Ok(port) if port != 0 => Ok(What::Host { name: parse(name)?, port }),
            _ => Err("the port is not valid"),
        },
        None if target.starts_with('_') => parse(target).map(What::Service),
        None => Err("it has no port"),
    }
}

impl Target {
    /// What is looked up, as it was written.
    pub(super) fn name(&self) -> &str {
        let target = self.text.split('?').next().unwrap_or_default();
        match self.what {
            What::Service(_) => target,
            _ => target.rsplit_once(':').map_or(target, |(name, _)| name),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dns://{}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_services_and_servers_are_read() {
        let of = |text: &str| text.parse::<Target>().unwrap();
        let host = of("dns://workers.pool:9000");
        let name = Name::from_utf8("workers.pool").unwrap();
        assert_eq!(host.what, What::Host { name, port: 9000 });
        assert_eq!((host.server, host.to_string().as_str()), (None, "dns://workers.pool:9000"));
        let name = Name::from_utf8("_sinew._tcp.pool.").unwrap();
        let service = of("_sinew._tcp.pool.?server=[::1]:5353");
        assert_eq!(service.what, What::Service(name));
        assert_eq!(service.server, Some("[::1]:5353".parse().unwrap()));
        assert_eq!(of("a:1?server=9.9.9.9").server, Some("9.9.9.9:53".parse().unwrap()));
        assert_eq!(of("[::1]:7").what, What::Address("[::1]:7".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        let long = format!("{}.pool:1", "x".repeat(64));
        for bad in [
            "",
            "dns://",
            "name",
            ":1",
            ".:1",
            "name:0",
            "name:x",
            "1.2.3.4:0",
            "a..b:1",
            "a:1?x=1",
            "a:1?server=name",
            "pool._tcp",
            &long,
        ] {
            let error = bad.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains("dns://NAME:PORT"), "{bad}: {error}");
        }
    }
}
