//! The environment of a program: that of the worker without its secrets.

use std::ffi::{OsStr, OsString};

use sinew::settings;

/// Names the worker whose program a process is, for it and for all that it starts in turn. The
/// guard finds by it what the worker leaves behind.
pub(crate) const WORKER_VARIABLE: &str = "SERVED_BY_SINEW";

/// Parts of a name that stand for a secret wherever they are.
const ANYWHERE: &[&str] = &[
    "ACCESS_KEY",
    "API_KEY",
    "APIKEY",
    "AUTHORIZATION",
    "CREDENTIAL",
    "KEY_FILE",
    "KEY_PATH",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PRIVATE_KEY",
    "SECRET",
];

/// Last words of a name that stand for a secret: not `MAX_TOKENS`, not `KEYBOARD`.
const LAST_WORDS: &[&str] =
    &["CREDS", "JWT", "KEY", "KEYS", "NKEY", "PASS", "PAT", "PWD", "SSHPASS", "TOKEN"];

/// Our own settings that say who the worker is to its servers, and Dynamo's.
const IDENTITIES: &[&str] = &["SINEW_NATS_USER", "SINEW_ETCD_USER"];
const IDENTITY_PREFIXES: &[&str] = &["NATS_AUTH_", "ETCD_AUTH_"];

/// Words in a value that a secret stands behind, in any case.
const IN_VALUES: &[&str] =
    &["password=", "passwd=", "accountkey=", "sharedaccesskey=", "private key-----"];

/// Which variables a program does not get.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    withheld: Vec<OsString>,
}

impl Environment {
    /// What is withheld of `variables`, where `passed` names those that are not.
    ///
    /// # Errors
    /// A name in `passed` that is not among them.
    pub(crate) fn new(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        passed: &[OsString],
    ) -> Result<Self, String> {
        let variables: Vec<_> = variables.into_iter().collect();
        let is_there = |name: &&OsString| variables.iter().any(|(there, _)| there == *name);
        if let Some(missing) = passed.iter().find(|name| !is_there(name)) {
            return Err(format!("--pass-env {}: no such variable is set", missing.display()));
        }
        let withheld = variables
            .into_iter()
            .filter(|(name, value)| !passed.contains(name) && is_secret(name, value))
            .map(|(name, _)| name)
            .collect();
        Ok(Self { withheld })
    }

    /// The names of what is withheld.
    pub(crate) fn withheld(&self) -> &[OsString] {
        &self.withheld
    }
}

/// True for a variable whose name, or whose value, says that it holds a secret.
fn is_secret(name: &OsStr, value: &OsStr) -> bool {
    is_secret_name(&name.to_string_lossy().to_ascii_uppercase())
        || is_secret_value(&value.to_string_lossy())
}

fn is_secret_name(name: &str) -> bool {
    if matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    let last = name.rsplit(['_', '-', '.']).next().unwrap_or_default();
    // As in `TOKEN2`.
    let last = last.trim_end_matches(|c: char| c.is_ascii_digit());
    LAST_WORDS.contains(&last)
        || ANYWHERE.iter().any(|part| name.contains(part))
        || IDENTITIES.contains(&name)
        || is_secret_setting(name)
        || IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// True for a setting of ours, or an alias of one, whose value no message shows.
fn is_secret_setting(name: &str) -> bool {
    settings::all().any(|(_, it)| it.is_secret() && it.names().any(|it| it == name))
}

fn is_secret_value(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    IN_VALUES.iter().any(|word| lower.contains(word))
        || lower.split([',', ' ', ';', '"', '\'']).any(has_user)
}

/// True for a URL with a password in it, or with a token before the host as NATS has them; and
/// for the same without a scheme.
fn has_user(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    user.contains(':') || matches!(scheme, "nats" | "tls" | "ws" | "wss")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withheld(variables: &[(&str, &str)], passed: &[&str]) -> Vec<OsString> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let passed: Vec<_> = passed.iter().map(OsString::from).collect();
        Environment::new(variables, &passed).unwrap().withheld
    }

    #[test]
    fn secrets_are_known_by_name() {
        for name in [
            "SINEW_NATS_PASSWORD",
            "SINEW_NATS_TOKEN",
            "SINEW_NATS_NKEY",
            "SINEW_ETCD_PASSWORD",
            "SINEW_NATS_CREDENTIALS_FILE",
            "SINEW_NATS_USER",
            "SINEW_ETCD_USER",
            "NATS_AUTH_PASSWORD",
            "NATS_AUTH_USERNAME",
            "NATS_AUTH_CREDENTIALS_FILE",
            "ETCD_AUTH_PASSWORD",
            "ETCD_AUTH_USERNAME",
            "DYN_TCP_TLS_KEY_PATH",
            "PGPASSWORD",
            "MYSQL_PWD",
            "OPENAI_API_KEY",
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "SECRET_KEY_BASE",
            "github_token",
            "TOKEN",
            "TOKEN2",
            "SSHPASS",
        ] {
            assert_eq!(withheld(&[(name, "x")], &[]), [name], "{name}");
            assert!(withheld(&[(name, "x")], &[name]).is_empty(), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "PWD",
            "OLDPWD",
            "LANG",
            "TERM",
            "MAX_TOKENS",
            "TOKENIZERS_PARALLELISM",
            "KEYBOARD",
            "SINEW_DISCOVERY",
            "DYN_NAMESPACE",
            "XDG_RUNTIME_DIR",
            "SSH_AUTH_SOCK",
        ] {
            assert!(withheld(&[(name, "x")], &[]).is_empty(), "{name}");
        }
    }

    #[test]
    fn every_secret_setting_is_withheld() {
        let secrets: Vec<_> = settings::all().filter(|(_, it)| it.is_secret()).collect();
        assert!(!secrets.is_empty());
        for name in secrets.iter().flat_map(|(_, it)| it.names()) {
            assert_eq!(withheld(&[(name, "x")], &[]), [name], "{name}");
        }
    }

    #[test]
    fn secrets_are_known_by_value() {
        for value in [
            "postgres://bob:hunter2@db/x",
            "nats://hunter2@host:4222",
            "bob:hunter2@host:1",
            "nats://a:1,nats://bob:hunter2@b:2",
            "host=db password=hunter2 user=bob",
            "Server=db;Password=hunter2",
            "-----BEGIN PRIVATE KEY-----\nhunter2",
        ] {
            assert_eq!(withheld(&[("WHERE", value)], &[]), ["WHERE"], "{value}");
        }
        for value in [
            "ssh://git@host/x",
            "http://host:80/a@b",
            "/bin:/usr/bin",
            "bob@host",
            "a b@c",
            "nats://host:4222",
            "http://host/?a=b:c@d",
        ] {
            assert!(withheld(&[("WHERE", value)], &[]).is_empty(), "{value}");
        }
    }

    #[test]
    fn a_variable_that_is_not_there_cannot_be_passed() {
        let error = Environment::new([], &["MY_TOKEN".into()]).unwrap_err();
        assert!(error.contains("MY_TOKEN"), "{error}");
    }
}
