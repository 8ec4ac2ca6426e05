//! Settings of the etcd backend.

use std::{fmt, time::Duration};

use etcd_client::ConnectOptions;

use super::BACKEND;
use crate::DiscoveryError;

/// etcd itself takes no shorter leases than about this.
const MIN_TTL: Duration = Duration::from_secs(2);
const MAX_TTL: Duration = Duration::from_secs(3600);

/// A member that hangs must not hold anything up for longer.
const MAX_REQUEST: Duration = Duration::from_secs(2);

/// A member that is asked this often at most allows its clients' pings (its own limit is 5 s).
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(3);

/// Settings of an [`EtcdDiscovery`](super::EtcdDiscovery). The defaults are those of a stock
/// Dynamo peer.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// The members of the cluster, at least one: `http://HOST:PORT`, `https://HOST:PORT` (with the
    /// feature `etcd-tls`), or `HOST:PORT`, which is `https` when [`tls`](Self::tls) is set. One is
    /// used at a time, and the next one if it fails. Default `http://localhost:2379`. A user or a
    /// password in these texts is an error, because members are logged.
    pub endpoints: Vec<String>,
    /// User name and password. Never logged.
    pub user: Option<(String, String)>,
    /// How long the entries of a killed process stay: 2 s to 1 h, in whole seconds (rounded up);
    /// default 30 s. The lease is renewed after every third of this time.
    pub lease_ttl: Duration,
    /// Longest wait for one answer of one member, 10 ms to 2 s; default 2 s.
    pub request_timeout: Duration,
    /// How long [`connect`](super::EtcdDiscovery::connect) tries to reach a member; default 120 s.
    pub startup_timeout: Duration,
    /// How long instances stay in the view after etcd was restarted without its data, at most 1 h;
    /// default 30 s. It has to be long enough for their owners to register again.
    pub reset_guard: Duration,
    /// How long an instance stays in the view after its lease has ended, at most 1 h; default 1 s.
    /// An owner that still runs registers again within milliseconds. If etcd did not answer for 2 s
    /// or more within the last [`reset_guard`](Self::reset_guard), the instance stays for that time
    /// instead.
    pub expiry_grace: Duration,
    /// How long an endpoint is still watched after the last [`Interest`](crate::Interest) was
    /// dropped, at most 1 h; default 30 s. A caller that wants it again by then gets its instances
    /// at once.
    pub unwatch_after: Duration,
    /// TLS settings, used if every member is `https`; `None` means the default of [`EtcdTls`].
    #[cfg(feature = "etcd-tls")]
    pub tls: Option<EtcdTls>,
}

/// TLS settings for etcd. All texts are PEM.
#[cfg(feature = "etcd-tls")]
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// Certificate authorities to trust; `None` means those of the system.
    pub ca: Option<String>,
    /// The certificate and private key of this process, if etcd asks for a certificate.
    pub identity: Option<(String, String)>,
    /// The name that the server's certificate must have, if it is not the host name.
    pub server_name: Option<String>,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://localhost:2379".to_owned()],
            user: None,
            lease_ttl: Duration::from_secs(30),
            request_timeout: MAX_REQUEST,
            startup_timeout: Duration::from_secs(120),
            reset_guard: Duration::from_secs(30),
            expiry_grace: Duration::from_secs(1),
            unwatch_after: Duration::from_secs(30),
            #[cfg(feature = "etcd-tls")]
            tls: None,
        }
    }
}

impl EtcdConfig {
    /// The default settings with these members.
    pub fn new<I>(endpoints: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self { endpoints, ..Self::default() }
    }

    /// Checks the values against their bounds.
    pub(super) fn check(&self) -> Result<(), DiscoveryError> {
        let invalid = |reason: String| Err(DiscoveryError::Invalid { reason });
        if self.endpoints.is_empty() {
            return invalid("etcd discovery needs at least one member: etcd://HOST:PORT".into());
        }
        if self.endpoints.iter().any(|one| one.contains('@')) {
            // Not quoted: what stands before it may be a password.
            return invalid(
                "a member of etcd has a user or password in its address: write HOST:PORT, and \
                 give them as EtcdConfig::user"
                    .into(),
            );
        }
        if let Some(bad) = self.endpoints.iter().find(|one| !self.can_speak(one)) {
            return invalid(format!(
                "{bad:?} is not a member of etcd: write http://HOST:PORT, or https://HOST:PORT \
                 with the feature etcd-tls"
            ));
        }
        let secs = Duration::from_secs;
        let ten_ms = Duration::from_millis(10);
        for (name, value, least, most) in [
            ("lease_ttl", self.lease_ttl, MIN_TTL, MAX_TTL),
            ("request_timeout", self.request_timeout, ten_ms, MAX_REQUEST),
            ("startup_timeout", self.startup_timeout, ten_ms, MAX_TTL),
            ("reset_guard", self.reset_guard, secs(0), MAX_TTL),
            ("expiry_grace", self.expiry_grace, secs(0), MAX_TTL),
            ("unwatch_after", self.unwatch_after, secs(0), MAX_TTL),
        ] {
            if !(least..=most).contains(&value) {
                return invalid(format!(
                    "{name} of {BACKEND} discovery is {value:?}: use {least:?} to {most:?}"
                ));
            }
        }
        Ok(())
    }

    fn can_speak(&self, endpoint: &str) -> bool {
        let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
        let is_known =
            matches!(scheme, "" | "http") || (scheme == "https" && cfg!(feature = "etcd-tls"));
        let port = rest.trim_end_matches('/').rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        is_known && port.is_some_and(|port| port.is_ok_and(|port| port != 0))
    }

    /// The lease time as etcd takes it.
    pub(super) fn ttl_seconds(&self) -> i64 {
        // `check` leaves 2 to 3,600.
        let seconds = self.lease_ttl.as_secs() + u64::from(self.lease_ttl.subsec_nanos() > 0);
        i64::try_from(seconds).unwrap_or(i64::MAX)
    }

    pub(super) fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            // A member cut off from the others must say so instead of going on with old data.
            .with_require_leader(true)
            .with_auto_token_refresh(true)
            .with_connect_timeout(self.request_timeout)
            .with_keep_alive(PING_EVERY, PING_ANSWER)
            .with_tcp_keepalive(PING_EVERY);
        if let Some((name, password)) = &self.user {
            options = options.with_user(name, password);
        }
        #[cfg(feature = "etcd-tls")]
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls.options());
        } else if self.endpoints.iter().any(|one| one.starts_with("https://")) {
            options = options.with_tls(EtcdTls::default().options());
        }
        options
    }
}

#[cfg(feature = "etcd-tls")]
impl EtcdTls {
    fn options(&self) -> etcd_client::TlsOptions {
        let mut options = etcd_client::TlsOptions::new();
        options = match &self.ca {
            Some(pem) => options.ca_certificate(etcd_client::Certificate::from_pem(pem)),
            None => options.with_enabled_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            options = options.identity(etcd_client::Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            options = options.domain_name(name);
        }
        options
    }
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("EtcdConfig");
        // One that `check` is going to refuse shows no password either.
        let host = |one: &String| one.rsplit_once('@').map_or(one.clone(), |(_, host)| host.into());
        shown.field("endpoints", &self.endpoints.iter().map(host).collect::<Vec<_>>());
        shown.field("user", &self.user.as_ref().map(|(name, _)| name));
        shown.field("lease_ttl", &self.lease_ttl);
        shown.finish_non_exhaustive()
    }
}

#[cfg(feature = "etcd-tls")]
impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        assert!(EtcdConfig::default().check().is_ok());
        let second = Duration::from_secs(1);
        let good = EtcdConfig::default();
        for (bad, name) in [
            (EtcdConfig { lease_ttl: second, ..good.clone() }, "lease_ttl"),
            (EtcdConfig { request_timeout: second * 3, ..good.clone() }, "request_timeout"),
            (EtcdConfig { startup_timeout: Duration::ZERO, ..good.clone() }, "startup_timeout"),
            (EtcdConfig { reset_guard: second * 9999, ..good.clone() }, "reset_guard"),
            (EtcdConfig { expiry_grace: second * 9999, ..good.clone() }, "expiry_grace"),
            (EtcdConfig { unwatch_after: second * 9999, ..good.clone() }, "unwatch_after"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
        let ttl = Duration::from_millis(2500);
        assert_eq!(EtcdConfig { lease_ttl: ttl, ..good }.ttl_seconds(), 3);
    }

    #[test]
    fn members_are_hosts_with_ports() {
        for good in ["http://h:1", "h:1", "[::1]:2379", "http://127.0.0.1:2379/"] {
            assert!(EtcdConfig::new([good]).check().is_ok(), "{good}");
        }
        for bad in ["h", "http://h", "ftp://h:1", "h:0", "", "h:port"] {
            assert!(EtcdConfig::new([bad]).check().is_err(), "{bad}");
        }
        assert!(EtcdConfig::new([""; 0]).check().is_err());
        assert_eq!(EtcdConfig::new(["https://h:1"]).check().is_ok(), cfg!(feature = "etcd-tls"));
    }

    #[test]
    fn the_password_is_never_shown() {
        let user = Some(("me".to_owned(), "secret".to_owned()));
        let shown = format!("{:?}", EtcdConfig { user, ..EtcdConfig::default() });
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_never_shown() {
        for bad in ["bob:hunter2@host:2379", "http://bob:hunter2@host:2379", "hunter2@host:1"] {
            let config = EtcdConfig::new(["http://host:1", bad]);
            let error = config.check().unwrap_err();
            for shown in [error.to_string(), format!("{error:?}"), format!("{config:?}")] {
                assert!(!shown.contains("hunter2") && !shown.contains("bob"), "{shown}");
            }
            assert!(error.to_string().contains("EtcdConfig::user"), "{error}");
        }
    }
}
