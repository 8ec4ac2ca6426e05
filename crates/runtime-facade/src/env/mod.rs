//! Settings from environment variables.

mod dynamo;
mod variables;

use std::collections::BTreeMap;

use self::variables::{VARIABLES, Variable};
use crate::{Config, ConfigError};

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
        if let Some(discovery) = dynamo::discovery(&variables)? {
            config.discovery = discovery;
            // Used above or, with another backend, unused: it does not choose one by itself.
            variables.remove("DYN_FILE_KV");
        }
        for variable in VARIABLES {
            let Some((name, text)) = lookup(variable, &variables)? else { continue };
            let shown = variable.shown(text);
            (variable.apply)(&mut config, text)
                .map_err(|reason| ConfigError::new(name, format!("{shown} {reason}")))?;
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
            format!(
                "is {} but {name}, which means the same, is {}: unset one",
                variable.shown(text),
                variable.shown(other)
            ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiscoverySource;

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
    fn no_message_shows_a_secret() {
        for pairs in [
            [("SINEW_ETCD_PASSWORD", "hunter2"), ("ETCD_AUTH_PASSWORD", "hunter22")],
            [("SINEW_NATS_SERVER", "nats://bob:hunter2@h:1"), ("NATS_SERVER", "nats://h:1")],
            [("SINEW_NATS_SERVER", "nats://bob:hunter2@h:1"), ("SINEW_UNIX", "true")],
            [("SINEW_DISCOVERY", "etcd://bob:hunter2@h:1"), ("SINEW_UNIX", "true")],
            [("SINEW_NATS_PASSWORD", "hunter2"), ("SINEW_UNIX", "true")],
        ] {
            let Err(error) = config(&pairs) else { panic!("{pairs:?}") };
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_memory_budget_is_an_amount() {
        let config_of = |text| config(&[("SINEW_MEMORY_BUDGET", text)]);
        assert_eq!(config_of("32MiB").unwrap().memory_budget, Some(32 << 20));
        assert_eq!(config_of("1g").unwrap().memory_budget, Some(1 << 30));
        let error = config_of("much").unwrap_err();
        assert!(error.to_string().contains("SINEW_MEMORY_BUDGET: \"much\" must be"), "{error}");
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
