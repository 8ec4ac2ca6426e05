//! Settings from environment variables.

use std::{collections::BTreeMap, time::Duration};

use crate::{Config, ConfigError};

/// A variable, the older name that is read too, and what it sets.
struct Variable {
    name: &'static str,
    alias: Option<&'static str>,
    apply: fn(&mut Config, &str) -> Result<(), String>,
}

const VARIABLES: &[Variable] = &[
    Variable {
        name: "SINEW_DISCOVERY",
        alias: None,
        apply: |config, text| {
            config.discovery = text.parse().map_err(|error: ConfigError| error.to_string())?;
            Ok(())
        },
    },
    Variable {
        name: "SINEW_DISCOVERY_DIR",
        alias: Some("DYN_FILE_KV"),
        apply: |config, text| {
            config.discovery = crate::DiscoverySource::File(text.into());
            Ok(())
        },
    },
    Variable {
        name: "SINEW_LISTEN_HOST",
        alias: Some("DYN_TCP_RPC_HOST"),
        apply: |config, text| {
            let host = text.parse().map_err(|_| "must be an IP address".to_owned())?;
            config.listen.set_ip(host);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_LISTEN_PORT",
        alias: Some("DYN_TCP_RPC_PORT"),
        apply: |config, text| {
            let port = text.parse().map_err(|_| "must be a port, 0 to 65535".to_owned())?;
            config.listen.set_port(port);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_ADVERTISE",
        alias: None,
        apply: |config, text| {
            config.advertise = Some(text.to_owned());
            Ok(())
        },
    },
    Variable {
        name: "SINEW_INSECURE",
        alias: None,
        apply: |config, text| switch(text).map(|on| config.insecure = on),
    },
    Variable {
        name: "SINEW_UNIX",
        alias: None,
        apply: |config, text| switch(text).map(|on| config.unix = on),
    },
    Variable {
        name: "SINEW_MAX_IN_FLIGHT",
        alias: None,
        apply: |config, text| {
            config.max_in_flight = text.parse().map_err(|_| "must be a number".to_owned())?;
            Ok(())
        },
    },
    Variable {
        name: "SINEW_GRACE_MS",
        alias: None,
        apply: |config, text| {
            let millis = text.parse().map_err(|_| "must be milliseconds".to_owned())?;
            config.grace = Duration::from_millis(millis);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_MAX_MESSAGE_BYTES",
        alias: Some("DYN_TCP_MAX_MESSAGE_SIZE"),
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
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        reject_unknown(&variables)?;
        let mut config = Self::default();
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
    let own = variables.get(variable.name).map(String::as_str);
    let Some(alias) = variable.alias else { return Ok(own.map(|text| (variable.name, text))) };
    match (own, variables.get(alias).map(String::as_str)) {
        (Some(own), Some(other)) if own != other => Err(ConfigError::new(
            variable.name,
            format!("is {own:?} but {alias}, which means the same, is {other:?}: unset one"),
        )),
        (Some(own), _) => Ok(Some((variable.name, own))),
        (None, other) => Ok(other.map(|text| (alias, text))),
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
        assert_eq!(ours.discovery, crate::DiscoverySource::Memory);
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
