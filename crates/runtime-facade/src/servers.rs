//! Parses lists of servers as people write them: `HOST:PORT`, with or without a scheme, a final
//! slash or an extra comma.

use std::net::Ipv6Addr;

/// The items of a list with commas. Blanks and empty items are skipped.
pub(crate) fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|one| !one.is_empty())
}

/// A member of an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EtcdMember {
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// It was written with `https://`.
    pub(crate) is_tls: bool,
}

/// Why TLS to etcd is refused.
pub(crate) const NO_ETCD_TLS: &str = "https:// asks for TLS to etcd, which is not in this build: reach etcd at http://HOST:PORT, \
     over loopback or an encrypted network";

/// Reads `HOST:PORT` or `http://HOST:PORT`, with or without a final slash.
///
/// # Errors
/// What is wrong with it, without a password that it may hold.
pub(crate) fn etcd_member(text: &str) -> Result<EtcdMember, String> {
    if text.contains('@') {
        // Not quoted: what stands before it may be a password.
        let reason = "user and password do not belong into an address: set SINEW_ETCD_USER and \
                      SINEW_ETCD_PASSWORD";
        return Err(reason.to_owned());
    }
    let (is_tls, rest) = match text.split_once("://") {
        None => (false, text),
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => return Err(format!("{scheme:?} is no scheme of etcd")),
    };
    let address = rest.trim_end_matches('/');
    match host_and_port(address) {
        Some((_, Some(_))) => Ok(EtcdMember { address: address.to_owned(), is_tls }),
        _ => Err(format!("{text:?} is not HOST:PORT (etcd listens on port 2379)")),
    }
}

/// Reads a list of at least one NATS server.
///
/// # Errors
/// As [`nats_server`].
pub(crate) fn nats_servers(list: &str) -> Result<Vec<String>, String> {
    let servers = items(list).map(nats_server).collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() {
        return Err("names no server: write nats://HOST:PORT,...".to_owned());
    }
    Ok(servers)
}

/// Reads `nats://HOST:PORT` or `tls://HOST:PORT`; a text without a scheme gets `nats://`, and a
/// text without a port keeps none.
///
/// # Errors
/// What is wrong with it, without a password that it may hold.
fn nats_server(text: &str) -> Result<String, String> {
    if text.contains('@') {
        let reason = "holds a user or a token: set SINEW_NATS_USER and SINEW_NATS_PASSWORD, or \
                      SINEW_NATS_TOKEN";
        return Err(reason.to_owned());
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    if !matches!(scheme, "nats" | "tls") {
        return Err(format!("{text:?} does not begin with nats:// or tls://"));
    }
    let rest = rest.trim_end_matches('/');
    match host_and_port(rest) {
        Some(_) => Ok(format!("{scheme}://{rest}")),
        None => Err(format!("{text:?} is not {scheme}://HOST:PORT")),
    }
}

/// Splits `HOST`, `HOST:PORT`, `[IPV6]` and `[IPV6]:PORT` into host and port.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(text) => Some((host, Some(port(text)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let (host, port) = match text.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (text, None),
    };
    (!host.is_empty() && host.bytes().all(is_host_byte)).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_forgives_blanks_commas_and_slashes() {
        let read = |list| items(list).map(etcd_member).collect::<Result<Vec<_>, _>>();
        for list in [
            "http://h:2379,http://[::1]:2380",
            "http://h:2379/,http://[::1]:2380/,",
            " h:2379 , ,[::1]:2380// ",
        ] {
            let members = read(list).unwrap();
            let addresses: Vec<_> = members.iter().map(|one| one.address.as_str()).collect();
            assert_eq!(addresses, ["h:2379", "[::1]:2380"], "{list}");
            assert!(members.iter().all(|one| !one.is_tls));
        }
        assert!(etcd_member("https://h:2379").unwrap().is_tls);
    }

    #[test]
    fn what_is_no_server_is_refused_without_its_password() {
        for bad in ["h", "http://h", "h:0", "h:x", "ftp://h:1", "::1:2379", "a b:1", "h:1/x", ":1"]
        {
            assert!(etcd_member(bad).is_err(), "{bad}");
        }
        for bad in ["http://h:1", "nats://", "h:0", "a b", "nats://h/x"] {
            assert!(nats_server(bad).is_err(), "{bad}");
        }
        for bad in ["http://bob:hunter2@h:1", "bob:hunter2@h:1"] {
            assert!(!etcd_member(bad).unwrap_err().contains("hunter2"));
            assert!(!nats_server(bad).unwrap_err().contains("hunter2"));
        }
    }

    #[test]
    fn a_nats_server_needs_neither_scheme_nor_port() {
        for (text, read) in [
            ("h:4222", "nats://h:4222"),
            ("nats://h:4222/", "nats://h:4222"),
            ("tls://[::1]", "tls://[::1]"),
            ("h", "nats://h"),
        ] {
            assert_eq!(nats_server(text).unwrap(), read);
        }
    }
}
