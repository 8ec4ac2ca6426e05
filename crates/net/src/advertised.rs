//! The address that a server announces in place of the one that it is bound to.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// A host, with or without a port, that a server announces: `HOST`, `HOST:PORT`, and for IPv6
/// `::1`, `[::1]` and `[::1]:PORT`. An ambiguous text such as `::1:9000` is an IPv6 address without
/// a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Without brackets.
    host: String,
    port: Option<u16>,
}

impl Advertised {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one was given.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// `HOST:PORT`, with the given port, or with `bound` if there is none.
    pub fn with_port(&self, bound: u16) -> String {
        let port = self.port.unwrap_or(bound);
        match self.host.contains(':') {
            true => format!("[{}]:{port}", self.host),
            false => format!("{}:{port}", self.host),
        }
    }
}

impl FromStr for Advertised {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (host, port) = split(text).ok_or("is not HOST or HOST:PORT")?;
        let port = match port {
            None => None,
            Some(port) => Some(
                port.parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or("has a port that is not 1 to 65535")?,
            ),
        };
        let is_name = |host: &str| {
            let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            (1..=253).contains(&host.len()) && host.bytes().all(is_name_byte)
        };
        match host.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => {
                Err("stands for every address of a machine, which nobody can dial: name one")
            }
            Ok(_) => Ok(Self { host: host.to_owned(), port }),
            Err(_) if is_name(host) => Ok(Self { host: host.to_owned(), port }),
            Err(_) => Err("is not HOST or HOST:PORT"),
        }
    }
}

/// The host without brackets, and the text of the port.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some((text, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    Some(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => f.write_str(&self.with_port(port)),
            None => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_with_one_port() {
        for (setting, told) in [
            ("caller.example", "caller.example:81"),
            ("caller.example:90", "caller.example:90"),
            ("192.0.2.1", "192.0.2.1:81"),
            ("::1", "[::1]:81"),
            ("[::1]", "[::1]:81"),
            ("[::1]:90", "[::1]:90"),
            ("fd00::1", "[fd00::1]:81"),
            ("::1:9000", "[::1:9000]:81"),
        ] {
            let advertised: Advertised = setting.parse().unwrap();
            assert_eq!(advertised.with_port(81), told);
            assert_eq!(advertised.to_string().parse(), Ok(advertised));
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        for bad in [
            "",
            ":90",
            "h:0",
            "h:65536",
            "h:port",
            "h:1:2",
            "[::1",
            "[::1]90",
            "[h]:1",
            "a b",
            "tcp://h:1",
            "h/x",
            "bob@h",
            "0.0.0.0",
            "0.0.0.0:90",
            "::",
            "[::]:90",
            "fe80::1%eth0",
        ] {
            assert!(bad.parse::<Advertised>().is_err(), "{bad}");
        }
    }
}
