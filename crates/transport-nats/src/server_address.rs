//! Addresses of NATS servers.

use std::{fmt, net::IpAddr};

/// Where a NATS server listens when its address does not say.
const DEFAULT_PORT: u16 = 4222;

/// `nats://HOST:PORT` or `tls://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    scheme: &'static str,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl ServerAddress {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("nats", rest)) => ("nats", rest),
            Some(("tls", rest)) => ("tls", rest),
            // The text is not shown before it is known to hold no password.
            _ => return Err("must begin with nats:// or tls://".to_owned()),
        };
        if rest.contains('@') {
            // Addresses are logged, by us and by others.
            let reason = "must not hold a user, password or token before an @: put them in auth";
            return Err(reason.to_owned());
        }
        let fault = || format!("has {scheme}://{rest}, which is not {scheme}://HOST:PORT");
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest).ok_or_else(fault)?;
        let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let is_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        if !is_ipv6 && (host.is_empty() || !host.bytes().all(is_host_byte)) {
            return Err(fault());
        }
        let port = match port {
            None => DEFAULT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(fault)?,
        };
        Ok(Self { scheme, host: host.to_owned(), port })
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.scheme == "tls"
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost",
        }
    }

    pub(crate) fn host_and_port(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Splits `HOST`, `HOST:PORT`, `[IPV6]` and `[IPV6]:PORT`.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    Some(text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))))
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host_and_port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_4222_if_not_given() {
        for (text, shown) in [
            ("nats://localhost", "nats://localhost:4222"),
            ("nats://10.0.0.3:4333/", "nats://10.0.0.3:4333"),
            ("tls://[::1]", "tls://[::1]:4222"),
            ("tls://[::1]:4333", "tls://[::1]:4333"),
        ] {
            assert_eq!(ServerAddress::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost:4222",
            "http://h",
            "nats://",
            "nats://h:",
            "nats://h:0",
            "nats://h:x",
            "nats://h:65536",
            "nats://a b",
            "nats://a/b",
            "nats://[::1",
            "nats://[::1]4222",
            "nats://h\r\n",
        ] {
            assert!(ServerAddress::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        for text in ["nats://me:hush@h:4222", "nats://hush@h", "me:hush@h"] {
            let reason = ServerAddress::parse(text).unwrap_err();
            assert!(!reason.contains("hush"), "{reason}");
        }
    }

    #[test]
    fn loopback_is_told_by_address_or_the_name_localhost() {
        for (text, is_loopback) in [
            ("nats://localhost", true),
            ("nats://127.9.9.9", true),
            ("nats://[::1]", true),
            ("nats://localhost.example.com", false),
            ("nats://0.0.0.0", false),
        ] {
            assert_eq!(ServerAddress::parse(text).unwrap().is_loopback(), is_loopback, "{text}");
        }
    }
}
