//! Where instances are announced and found, as text.

use std::{fmt, path::PathBuf, str::FromStr};

use sinew_plane::Address;

use crate::{ConfigError, servers};

/// Where instances are announced and found.
///
/// | text | meaning |
/// |---|---|
/// | `file:PATH` | a folder; shared with Dynamo's file store |
/// | `etcd://HOST:PORT,HOST:PORT` | an etcd cluster, in Dynamo's layout |
/// | `dns://NAME:PORT`, `dns://_SERVICE._tcp.NAME` | A and AAAA records, or SRV records; nothing is announced |
/// | `static:HOST:PORT,...` | servers at known addresses; nothing is announced |
/// | `memory` | this process alone |
///
/// Several, with `;` between them, are merged into one view.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoverySource {
    /// A folder that all peers can reach; also read and written by Dynamo's file store.
    File(PathBuf),
    /// The members of an etcd cluster, `HOST:PORT` each. Needs the feature `etcd`.
    Etcd(Vec<String>),
    /// A name in DNS: `NAME:PORT`, or `_SERVICE._PROTOCOL.NAME`. Needs the feature `dns`.
    Dns(String),
    /// Servers at known addresses; nothing is announced.
    Static(Vec<Address>),
    /// This process alone.
    Memory,
    /// All of these in one view.
    Merged(Vec<DiscoverySource>),
}

impl DiscoverySource {
    /// True if other processes can find instances that this process announces there.
    pub fn announces(&self) -> bool {
        match self {
            Self::File(_) | Self::Etcd(_) => true,
            Self::Dns(_) | Self::Static(_) | Self::Memory => false,
            Self::Merged(all) => all.iter().any(Self::announces),
        }
    }
}

impl FromStr for DiscoverySource {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let parsed = if text.contains(';') {
            let all = text.split(';').map(|one| Self::single(one.trim()));
            all.collect::<Result<_, _>>().map(Self::Merged)
        } else {
            Self::single(text)
        };
        // Not quoted then: what stands before an @ may be a password.
        parsed.map_err(|error| if text.contains('@') { holds_a_user(text) } else { error })
    }
}

/// The error for a text that is not valid and may hold a password, which the error does not repeat.
fn holds_a_user(text: &str) -> ConfigError {
    let variables = match text.split(';').any(|one| one.trim().starts_with("etcd:")) {
        true => ": set SINEW_ETCD_USER and SINEW_ETCD_PASSWORD, and write",
        // Of the others, none asks for a user.
        false => "; write",
    };
    let reason = format!(
        "user and password do not belong into an address{variables} file:PATH, \
         etcd://HOST:PORT,HOST:PORT,..., dns://NAME:PORT, static:HOST:PORT,... or memory"
    );
    ConfigError::new("discovery", reason)
}

impl DiscoverySource {
    /// Parses one source.
    fn single(text: &str) -> Result<Self, ConfigError> {
        let fault = |reason: String| ConfigError::new("discovery", reason);
        match text.split_once(':') {
            Some(("file", "")) => Err(fault("file: needs a folder: file:PATH".to_owned())),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("etcd", rest)) => members(rest).map(Self::Etcd).map_err(fault),
            Some(("dns", rest)) => match rest.strip_prefix("//") {
                Some(name) if !name.is_empty() && !name.contains('@') => {
                    Ok(Self::Dns(name.to_owned()))
                }
                _ => Err(fault("write dns://NAME:PORT or dns://_SERVICE._tcp.NAME".to_owned())),
            },
            Some(("static", list)) => {
                let addresses = list.split(',').map(|one| static_address(one.trim()));
                addresses.collect::<Result<_, _>>().map(Self::Static).map_err(fault)
            }
            None if text == "memory" => Ok(Self::Memory),
            _ => Err(fault(format!(
                "{text:?} is not a discovery: write file:PATH, etcd://HOST:PORT, dns://NAME:PORT, \
                 static:HOST:PORT,... or memory"
            ))),
        }
    }
}

fn members(rest: &str) -> Result<Vec<String>, String> {
    let list = rest.strip_prefix("//").unwrap_or_default();
    let member = |one: &str| {
        let member = servers::etcd_member(one)?;
        if member.is_tls { Err(servers::NO_ETCD_TLS.to_owned()) } else { Ok(member.address) }
    };
    let members: Vec<_> = servers::items(list)
        .map(member)
        .collect::<Result<_, _>>()
        .map_err(|reason: String| format!("{reason}: write etcd://HOST:PORT,HOST:PORT,..."))?;
    if members.is_empty() {
        return Err("etcd: needs a member: write etcd://HOST:PORT,HOST:PORT,...".to_owned());
    }
    Ok(members)
}

fn static_address(text: &str) -> Result<Address, String> {
    if text.contains("://") {
        let address: Address = text.parse().map_err(|error| format!("{error}"))?;
        // A file's name may hold one, a host's may not.
        let has_user = address.scheme() != "unix" && address.rest().contains('@');
        return if has_user { Err("has a user".to_owned()) } else { Ok(address) };
    }
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('@') && port.parse::<u16>().is_ok()
    });
    if !has_port {
        return Err(format!("{text:?} has no port: write static:HOST:PORT,..."));
    }
    Address::new("tcp", text).map_err(|error| error.to_string())
}

impl fmt::Display for DiscoverySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Etcd(members) => write!(f, "etcd://{}", members.join(",")),
            Self::Dns(name) => write!(f, "dns://{name}"),
            Self::Static(addresses) => {
                let texts: Vec<_> = addresses.iter().map(Address::as_str).collect();
                write!(f, "static:{}", texts.join(","))
            }
            Self::Memory => f.write_str("memory"),
            Self::Merged(all) => {
                for (position, one) in all.iter().enumerate() {
                    let between = if position == 0 { "" } else { ";" };
                    write!(f, "{between}{one}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_shown_alike() {
        for text in [
            "file:/tmp/x",
            "static:tcp://127.0.0.1:1,unix:///a@b.sock",
            "memory",
            "etcd://127.0.0.1:2379,etcd-2.pool:2379",
            "dns://workers.pool:9000",
            "dns://_sinew._tcp.pool",
            "file:/tmp/x;etcd://[::1]:2379",
        ] {
            let source: DiscoverySource = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
        }
        let short: DiscoverySource = "static:localhost:9, [::1]:10".parse().unwrap();
        assert_eq!(short.to_string(), "static:tcp://localhost:9,tcp://[::1]:10");
        for bad in [
            "",
            "file:",
            "etcd",
            "etcd://",
            "etcd:127.0.0.1:1",
            "etcd://host",
            "etcd://https://host:1",
            "etcd:///",
            "etcd://,",
            "etcd://bob:hunter2@host:1",
            "etcd:bob:hunter2@host:1",
            "etcd://bob:hunt;hunter2@host:1",
            "redis://bob:hunter2@host:1",
            "dns://bob:hunter2@host:1",
            "static:bob:hunter2@host:1",
            "static:tcp://bob:hunter2@host:1",
            "static::9000",
            "dns:",
            "dns://",
            "static:",
            "static:localhost",
            "static:x://",
            "memory;",
        ] {
            let error = bad.parse::<DiscoverySource>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn merged_sources_announce_when_one_does() {
        let announces = |text: &str| text.parse::<DiscoverySource>().unwrap().announces();
        assert!(announces("static:h:1;file:/x"));
        assert!(!announces("static:h:1;dns://h:1"));
    }
}
