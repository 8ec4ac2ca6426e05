//! Servers, credentials, limits and timing of a connection.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use sinew_plane::Budget;

use crate::{NatsConfigError, server_address::ServerAddress};

/// Settings of a connection to NATS. Start from [`NatsConfig::default`].
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// The servers, `nats://HOST[:PORT]` or `tls://HOST[:PORT]`; the port is 4222 if not given.
    /// With several, one is picked at random, and the others are used if it fails. Further servers
    /// that a server announces are used only if all of these are `tls://`.
    pub servers: Vec<String>,
    /// How this process authenticates.
    pub auth: NatsAuth,
    /// Certificate and key files for `tls://`.
    pub tls: NatsTls,
    /// Allows `nats://`, which is plain text, to servers that are not on this host.
    pub insecure: bool,
    /// The name under which the server lists this connection.
    pub name: String,
    /// Longest wait for the first connection, with pauses between attempts.
    pub startup_timeout: Duration,
    /// Longest wait for one attempt.
    pub connect_timeout: Duration,
    /// Longest wait for the acknowledgement of a request.
    pub request_timeout: Duration,
    /// Pause after the first failed attempt; doubles with each further one, with full jitter.
    pub backoff_base: Duration,
    /// Longest pause between attempts, and so the longest time until a server that is back is used.
    pub backoff_max: Duration,
    /// Interval of pings on a silent connection, which is closed after three without an answer.
    pub ping_interval: Duration,
    /// Most requests that wait for their acknowledgement at once. Further requests are refused.
    pub max_in_flight: usize,
    /// Most requests that one endpoint has received and not passed on yet. Further requests are
    /// answered with `Server overloaded`.
    pub queue_limit: usize,
    /// Prefix of the subjects that replies go to. Requests with another reply subject are dropped,
    /// so that a caller cannot make a worker send to other subjects.
    pub inbox_prefix: String,
    /// The memory budget of the process. Requests are charged to it until the last reference to
    /// their payload is dropped, and so are long replies. All callers over one connection share one
    /// account, because the broker hides which caller sends. `None`, the default, bounds only their
    /// number.
    pub budget: Option<Arc<Budget>>,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            auth: NatsAuth::None,
            tls: NatsTls::default(),
            insecure: false,
            name: "sinew".to_owned(),
            startup_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            ping_interval: Duration::from_secs(10),
            max_in_flight: 4_096,
            queue_limit: 1_024,
            inbox_prefix: "_INBOX".to_owned(),
            budget: None,
        }
    }
}

impl NatsConfig {
    /// Checks that the settings fit together and may be used.
    ///
    /// # Errors
    /// [`NatsConfigError`] names the field, the rule that it breaks and the remedy.
    pub fn checked(self) -> Result<CheckedNatsConfig, NatsConfigError> {
        let fault = |field, reason: &str| Err(NatsConfigError { field, reason: reason.to_owned() });
        let servers = self.checked_servers()?;
        self.auth.check()?;
        self.tls.check()?;
        let waits = [
            ("startup_timeout", self.startup_timeout),
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("backoff_base", self.backoff_base),
            ("ping_interval", self.ping_interval),
        ];
        if let Some((field, _)) = waits.iter().find(|(_, wait)| wait.is_zero()) {
            return fault(field, "must be longer than zero");
        }
        if self.backoff_max < self.backoff_base {
            return fault("backoff_max", "must be at least backoff_base");
        }
        let counts = [("max_in_flight", self.max_in_flight), ("queue_limit", self.queue_limit)];
        if let Some((field, _)) = counts.iter().find(|(_, count)| !(1..=1 << 20).contains(count)) {
            return fault(field, "must be 1 to 1,048,576");
        }
        let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let prefix = &self.inbox_prefix;
        if !prefix.bytes().all(is_word) || prefix.split('.').any(str::is_empty) {
            return fault("inbox_prefix", "must be words of letters, digits, '-' and '_'");
        }
        Ok(CheckedNatsConfig { servers, nats: self })
    }

    fn checked_servers(&self) -> Result<Vec<ServerAddress>, NatsConfigError> {
        let fault = |reason| NatsConfigError { field: "servers", reason };
        if self.servers.is_empty() {
            return Err(fault("is empty: write at least one nats://HOST:PORT".to_owned()));
        }
        let servers = self.servers.iter().map(|text| ServerAddress::parse(text));
        let servers = servers.collect::<Result<Vec<_>, _>>().map_err(fault)?;
        for server in &servers {
            if server.is_tls() && !cfg!(feature = "tls") {
                let reason =
                    format!("has {server}, and this program was built without feature tls");
                return Err(fault(reason));
            }
            if !server.is_tls() && !server.is_loopback() && !self.insecure {
                return Err(fault(format!(
                    "has {server}, which is plain text across a network: write tls://{host} in \
                     its place, or accept that anyone on the way can read and send requests and \
                     say so (insecure = true)",
                    host = server.host_and_port(),
                )));
            }
        }
        Ok(servers)
    }
}

/// How this process authenticates to the server. Secrets appear in no log and not in `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NatsAuth {
    /// No authentication.
    #[default]
    None,
    /// A user and a password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// The seed of an nkey, `SU...`. Needs feature `nkeys`.
    Nkey(String),
    /// A file with a user's JWT and nkey seed. Needs feature `nkeys`.
    CredentialsFile(PathBuf),
}

impl NatsAuth {
    fn check(&self) -> Result<(), NatsConfigError> {
        let fault =
            |reason: &str| Err(NatsConfigError { field: "auth", reason: reason.to_owned() });
        match self {
            Self::Nkey(_) | Self::CredentialsFile(_) if !cfg!(feature = "nkeys") => {
                fault("asks for an nkey, and this program was built without feature nkeys")
            }
            Self::UserPassword { user, .. } if user.is_empty() => fault("has an empty user"),
            Self::Token(secret) | Self::Nkey(secret) if secret.is_empty() => {
                fault("has an empty secret")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::UserPassword { .. } => "UserPassword(hidden)",
            Self::Token(_) => "Token(hidden)",
            Self::Nkey(_) => "Nkey(hidden)",
            Self::CredentialsFile(file) => return write!(f, "CredentialsFile({})", file.display()),
        })
    }
}

/// Files for `tls://`, all in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate of this process, if the server asks for one. Requires `client_key_file`.
    pub client_certificate_file: Option<PathBuf>,
    /// The private key of that certificate.
    pub client_key_file: Option<PathBuf>,
}

impl NatsTls {
    fn check(&self) -> Result<(), NatsConfigError> {
        if self.client_certificate_file.is_some() == self.client_key_file.is_some() {
            return Ok(());
        }
        let reason = "must name both a client certificate and its key, or neither".to_owned();
        Err(NatsConfigError { field: "tls", reason })
    }
}

/// A [`NatsConfig`] whose settings may be used.
#[derive(Debug, Clone)]
pub struct CheckedNatsConfig {
    pub(crate) servers: Vec<ServerAddress>,
    nats: NatsConfig,
}

impl CheckedNatsConfig {
    /// Messages that one subscription holds for its reader: a reply to each request that can wait
    /// for one; of an endpoint's messages, as many as are told that there are too many.
    pub(crate) fn subscription_capacity(&self) -> usize {
        self.max_in_flight.max(self.queue_limit)
    }

    /// True when all servers are named by loopback addresses.
    pub(crate) fn is_local(&self) -> bool {
        self.servers.iter().all(ServerAddress::is_loopback)
    }

    /// The servers as messages show them.
    pub(crate) fn servers_text(&self) -> String {
        self.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl std::ops::Deref for CheckedNatsConfig {
    type Target = NatsConfig;

    fn deref(&self) -> &NatsConfig {
        &self.nats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_server(server: &str) -> NatsConfig {
        NatsConfig { servers: vec![server.to_owned()], ..NatsConfig::default() }
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = NatsConfig::default;
        let half = NatsTls {
            ca_file: None,
            client_certificate_file: Some("c".into()),
            client_key_file: None,
        };
        let cases = [
            (NatsConfig { servers: vec![], ..base() }, "servers"),
            (NatsConfig { request_timeout: Duration::ZERO, ..base() }, "request_timeout"),
            (NatsConfig { startup_timeout: Duration::ZERO, ..base() }, "startup_timeout"),
            (NatsConfig { backoff_max: Duration::ZERO, ..base() }, "backoff_max"),
            (NatsConfig { max_in_flight: 0, ..base() }, "max_in_flight"),
            (NatsConfig { queue_limit: usize::MAX, ..base() }, "queue_limit"),
            (NatsConfig { inbox_prefix: "a.*".into(), ..base() }, "inbox_prefix"),
            (NatsConfig { inbox_prefix: String::new(), ..base() }, "inbox_prefix"),
            (NatsConfig { auth: NatsAuth::Token(String::new()), ..base() }, "auth"),
            (NatsConfig { tls: half, ..base() }, "tls"),
        ];
        for (config, field) in cases {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
        assert!(base().checked().is_ok());
    }

    #[test]
    fn plain_text_stays_on_this_host_unless_told() {
        for server in ["nats://localhost", "nats://127.8.1.2:4222", "nats://[::1]:4222"] {
            assert!(with_server(server).checked().is_ok(), "{server}");
        }
        for server in ["nats://10.0.0.3:4222", "nats://example.com", "nats://[2001:db8::1]"] {
            let refusal = with_server(server).checked().unwrap_err().to_string();
            assert!(refusal.contains("tls://") && refusal.contains("insecure = true"), "{refusal}");
            assert!(NatsConfig { insecure: true, ..with_server(server) }.checked().is_ok());
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn tls_without_its_feature_is_refused() {
        let refusal = with_server("tls://10.0.0.3").checked().unwrap_err();
        assert!(refusal.reason.contains("feature tls"), "{refusal}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_may_cross_a_network() {
        assert!(with_server("tls://10.0.0.3").checked().is_ok());
    }

    #[test]
    fn secrets_are_not_shown() {
        for auth in [
            NatsAuth::UserPassword { user: "hush-user".into(), password: "hush".into() },
            NatsAuth::Token("hush".into()),
            NatsAuth::Nkey("hush".into()),
        ] {
            let config = NatsConfig { auth, ..NatsConfig::default() };
            assert!(!format!("{config:?}").contains("hush"));
        }
    }
}
