//! Settings from environment variables.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use sinew_transport_tcp::ListenHost;

use crate::{Config, ConfigError, DiscoverySource};

/// A variable, the names of others that mean the same, and what it sets.
struct Variable {
    name: &'static str,
    aliases: &'static [&'static str],
    apply: fn(&mut Config, &str) -> Result<(), String>,
}

const VARIABLES: &[Variable] = &[
    Variable {
        name: "SINEW_DISCOVERY",
        aliases: &[],
        apply: |config, text| {
            config.discovery = text.parse().map_err(|error: ConfigError| error.to_string())?;
            Ok(())
        },
    },
    Variable {
        name: "SINEW_DISCOVERY_DIR",
        aliases: &["DYN_FILE_KV"],
        apply: |config, text| {
            config.discovery = DiscoverySource::File(text.into());
            Ok(())
        },
    },
    #[cfg(feature = "etcd")]
    Variable {
        name: "SINEW_ETCD_LEASE_TTL",
        aliases: &["ETCD_LEASE_TTL"],
        apply: |config, text| {
            let seconds = text.parse().map_err(|_| "must be seconds".to_owned())?;
            config.etcd.lease_ttl = Duration::from_secs(seconds);
            Ok(())
        },
    },
    #[cfg(feature = "etcd")]
    Variable {
        name: "SINEW_ETCD_USER",
        aliases: &["ETCD_AUTH_USERNAME"],
        apply: |config, text| {
            config.etcd.user.get_or_insert_default().0 = text.to_owned();
            Ok(())
        },
    },
    #[cfg(feature = "etcd")]
    Variable {
        name: "SINEW_ETCD_PASSWORD",
        aliases: &["ETCD_AUTH_PASSWORD"],
        apply: |config, text| {
            config.etcd.user.get_or_insert_default().1 = text.to_owned();
            Ok(())
        },
    },
    Variable {
        name: "SINEW_REQUEST_PLANE",
        aliases: &["DYN_REQUEST_PLANE", "DYN_REQUEST_PLANE_MODE"],
        apply: |config, text| text.parse().map(|plane| config.request_plane = plane),
    },
    Variable {
        name: "SINEW_NATS_SERVER",
        aliases: &["NATS_SERVER"],
        apply: |config, text| {
            config.nats = text.split(',').map(|one| one.trim().to_owned()).collect();
            Ok(())
        },
    },
    Variable {
        name: "SINEW_CALL_HOME_HOST",
        aliases: &["DYN_TCP_RESPONSE_STREAM_HOST"],
        apply: |config, text| {
            config.call_home.host = match text.parse() {
                Ok(ip) => ListenHost::Ip(ip),
                Err(_) => ListenHost::Interface(text.to_owned()),
            };
            Ok(())
        },
    },
    Variable {
        name: "SINEW_CALL_HOME_PORT",
        aliases: &["DYN_TCP_RESPONSE_STREAM_PORT"],
        apply: |config, text| {
            let port = text.parse().map_err(|_| "must be a port, 0 to 65535".to_owned())?;
            config.call_home.port = port;
            Ok(())
        },
    },
    Variable {
        name: "SINEW_CALL_HOME_ADVERTISE",
        aliases: &[],
        apply: |config, text| {
            config.call_home.tcp.advertise = Some(text.to_owned());
            Ok(())
        },
    },
    Variable {
        name: "SINEW_TCP_POOL_ENABLED",
        aliases: &["DYN_TCP_POOL_ENABLED"],
        apply: |config, text| {
            switch(text).map(|on| (config.call_home.pool, config.dial_back.pool) = (on, on))
        },
    },
    Variable {
        name: "SINEW_TCP_POOL_MAX_PER_TARGET",
        aliases: &["DYN_TCP_POOL_MAX_PER_TARGET"],
        apply: |config, text| {
            let most = text.parse().map_err(|_| "must be a number".to_owned())?;
            config.dial_back.max_per_target = most;
            Ok(())
        },
    },
    Variable {
        name: "SINEW_LISTEN_HOST",
        aliases: &["DYN_TCP_RPC_HOST"],
        apply: |config, text| {
            let host = text.parse().map_err(|_| "must be an IP address".to_owned())?;
            config.listen.set_ip(host);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_LISTEN_PORT",
        aliases: &["DYN_TCP_RPC_PORT"],
        apply: |config, text| {
            let port = text.parse().map_err(|_| "must be a port, 0 to 65535".to_owned())?;
            config.listen.set_port(port);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_ADVERTISE",
        aliases: &[],
        apply: |config, text| {
            config.advertise = Some(text.to_owned());
            Ok(())
        },
    },
    Variable {
        name: "SINEW_INSECURE",
        aliases: &[],
        apply: |config, text| switch(text).map(|on| config.insecure = on),
    },
    Variable {
        name: "SINEW_UNIX",
        aliases: &[],
        apply: |config, text| switch(text).map(|on| config.unix = on),
    },
    Variable {
        name: "SINEW_MAX_IN_FLIGHT",
        aliases: &[],
        apply: |config, text| {
            config.max_in_flight = text.parse().map_err(|_| "must be a number".to_owned())?;
            Ok(())
        },
    },
    Variable {
        name: "SINEW_GRACE_MS",
        aliases: &[],
        apply: |config, text| {
            let millis = text.parse().map_err(|_| "must be milliseconds".to_owned())?;
            config.grace = Duration::from_millis(millis);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_MAX_MESSAGE_BYTES",
        aliases: &["DYN_TCP_MAX_MESSAGE_SIZE"],
        apply: |config, text| {
            let bytes = text.parse().map_err(|_| "must be a number of bytes".to_owned())?;
            config.tcp.mux.max_message_bytes = bytes;
            Ok(())
        },
    },
];

/// Variables of other parts of the `sinew` family that are not settings of a runtime.
const FOREIGN: &[&str] = &["SINEW_LOG"];

impl Config {
    /// The defaults, changed by the `SINEW_*` variables of the process, and by the `DYN_*` names
    /// that mean the same.
    ///
    /// # Errors
    /// A value that cannot be read, a `SINEW_*` name that means nothing, or a variable and its
    /// alias that say different things.
    pub fn from_env() -> Result<Self, ConfigError> {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::from_variables(std::env::vars_os().filter_map(utf8))
    }

    /// The same from any list of variables.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_variables(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut variables: BTreeMap<_, _> = variables.into_iter().collect();
        reject_unknown(&variables)?;
        let mut config = Self::default();
        if let Some(discovery) = dynamo_discovery(&variables)? {
            config.discovery = discovery;
            // Used above or, with another backend, unused: it does not choose one by itself.
            variables.remove("DYN_FILE_KV");
        }
        for variable in VARIABLES {
            let Some((name, text)) = lookup(variable, &variables)? else { continue };
            (variable.apply)(&mut config, text)
                .map_err(|reason| ConfigError::new(name, format!("{text:?} {reason}")))?;
        }
        Ok(config)
    }
}

fn lookup<'a>(
    variable: &Variable,
    variables: &'a BTreeMap<String, String>,
) -> Result<Option<(&'static str, &'a str)>, ConfigError> {
    let names = std::iter::once(variable.name).chain(variable.aliases.iter().copied());
    let mut set = names.filter_map(|name| Some((name, variables.get(name)?.as_str())));
    let Some((first, text)) = set.next() else { return Ok(None) };
    match set.find(|(_, other)| *other != text) {
        None => Ok(Some((first, text))),
        Some((name, other)) => Err(ConfigError::new(
            first,
            format!("is {text:?} but {name}, which means the same, is {other:?}: unset one"),
        )),
    }
}

/// Where a process that is set up for Dynamo looks for instances. Only what is asked for by name:
/// Dynamo's own default, etcd, is not ours.
fn dynamo_discovery(
    variables: &BTreeMap<String, String>,
) -> Result<Option<DiscoverySource>, ConfigError> {
    let get = |name: &str| variables.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let fault = |name: &str, reason: String| ConfigError::new(name, reason);
    match get("DYN_DISCOVERY_BACKEND") {
        None => Ok(None),
        Some("mem") => Ok(Some(DiscoverySource::Memory)),
        Some("file") => {
            let default = || std::env::temp_dir().join("dynamo_store_kv");
            let folder = get("DYN_FILE_KV").map_or_else(default, PathBuf::from);
            Ok(Some(DiscoverySource::File(folder)))
        }
        Some("etcd") => {
            let list = get("ETCD_ENDPOINTS").unwrap_or("http://localhost:2379");
            let member = |one: &str| one.trim().trim_start_matches("http://").to_owned();
            let members: Vec<_> = list.split(',').map(member).collect();
            let source = format!("etcd://{}", members.join(",")).parse();
            source
                .map(Some)
                .map_err(|error: ConfigError| fault("ETCD_ENDPOINTS", error.to_string()))
        }
        Some(other) => Err(fault(
            "DYN_DISCOVERY_BACKEND",
            format!("{other:?} is not supported: use etcd, file or mem"),
        )),
    }
}

fn reject_unknown(variables: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let known = || VARIABLES.iter().map(|variable| variable.name).chain(FOREIGN.iter().copied());
    let ours = |name: &&String| name.starts_with("SINEW_") && !name.starts_with("SINEW_TEST_");
    let Some(unknown) = variables.keys().filter(ours).find(|name| known().all(|it| it != *name))
    else {
        return Ok(());
    };
    let nearest = known().min_by_key(|name| distance(unknown, name)).unwrap_or_default();
    let reason = format!("is not a setting; did you mean {nearest}?");
    Err(ConfigError::new(unknown.clone(), reason))
}

/// Edit distance between two short names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Config::from_variables(pairs.iter().map(owned))
    }

    #[test]
    fn variables_and_their_aliases_set_the_same() {
        let ours = config(&[("SINEW_LISTEN_PORT", "9001"), ("SINEW_DISCOVERY", "memory")]).unwrap();
        let theirs = config(&[("DYN_TCP_RPC_PORT", "9001"), ("DYN_FILE_KV", "/kv")]).unwrap();
        assert_eq!(ours.listen.port(), theirs.listen.port());
        assert_eq!(theirs.discovery.to_string(), "file:/kv");
        assert_eq!(ours.discovery, DiscoverySource::Memory);
    }

    #[test]
    fn an_environment_made_for_dynamo_means_the_same_here() {
        let etcd = config(&[
            ("DYN_DISCOVERY_BACKEND", "etcd"),
            ("ETCD_ENDPOINTS", "http://10.0.0.1:2379,http://10.0.0.2:2379"),
            ("DYN_REQUEST_PLANE", "nats"),
            ("NATS_SERVER", "nats://10.0.0.3:4222"),
        ]);
        let etcd = etcd.unwrap();
        assert_eq!(etcd.discovery.to_string(), "etcd://10.0.0.1:2379,10.0.0.2:2379");
        assert_eq!(etcd.request_plane, crate::RequestPlane::Nats);
        assert_eq!(etcd.nats, ["nats://10.0.0.3:4222"]);
        let file = config(&[("DYN_DISCOVERY_BACKEND", "file"), ("DYN_FILE_KV", "/kv")]).unwrap();
        assert_eq!(file.discovery.to_string(), "file:/kv");
        let both = config(&[("DYN_DISCOVERY_BACKEND", "etcd"), ("DYN_FILE_KV", "/kv")]).unwrap();
        assert_eq!(both.discovery.to_string(), "etcd://localhost:2379");
        let ours = config(&[("DYN_DISCOVERY_BACKEND", "etcd"), ("SINEW_DISCOVERY", "memory")]);
        assert_eq!(ours.unwrap().discovery, DiscoverySource::Memory);
        assert!(config(&[("DYN_DISCOVERY_BACKEND", "kubernetes")]).is_err());
    }

    #[test]
    fn a_contradiction_names_both() {
        let error = config(&[("SINEW_LISTEN_PORT", "1"), ("DYN_TCP_RPC_PORT", "2")]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("SINEW_LISTEN_PORT") && text.contains("DYN_TCP_RPC_PORT"), "{text}");
        assert!(config(&[("SINEW_LISTEN_PORT", "1"), ("DYN_TCP_RPC_PORT", "1")]).is_ok());
    }

    #[test]
    fn a_typing_error_gets_a_hint_and_a_bad_value_its_name() {
        let error = config(&[("SINEW_DISCOVRY", "memory")]).unwrap_err();
        assert!(error.to_string().contains("did you mean SINEW_DISCOVERY?"), "{error}");
        let error = config(&[("SINEW_INSECURE", "maybe")]).unwrap_err();
        assert_eq!(error.setting(), "SINEW_INSECURE");
    }
}
