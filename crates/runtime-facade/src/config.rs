//! Settings of a runtime: a draft that anyone can fill, and the checked form that is trusted.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use sinew_plane::{Address, BindPolicy, Incarnation};
use sinew_transport_tcp::{CheckedTcpConfig, TcpConfig};

use crate::place;

/// Settings of a [`Runtime`](crate::Runtime). Start from [`Config::default`] and change what you
/// know better.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where instances are announced and found.
    pub discovery: DiscoverySource,
    /// Where this process listens once it serves. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// `HOST` or `HOST:PORT` that others are told instead of what `listen` binds.
    pub advertise: Option<String>,
    /// Allows `listen` beyond loopback in plain text.
    pub insecure: bool,
    /// Also listens on a Unix domain socket, for callers on the same host.
    pub unix: bool,
    /// Requests in flight over all endpoints of this process; more are refused.
    pub max_in_flight: usize,
    /// How long a shutdown lets requests finish.
    pub grace: Duration,
    /// Limits and timing of TCP and Unix connections. Its address settings are overridden by
    /// the ones above.
    pub tcp: TcpConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            discovery: DiscoverySource::File(place::discovery_dir()),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            insecure: false,
            unix: true,
            max_in_flight: 8_192,
            grace: Duration::from_secs(30),
            tcp: TcpConfig::default(),
        }
    }
}

impl Config {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, the rule and the way out.
    pub fn checked(self) -> Result<CheckedConfig, ConfigError> {
        let policy = if self.insecure { BindPolicy::Insecure } else { BindPolicy::LoopbackOnly };
        policy.check(self.listen).map_err(|error| ConfigError::new("listen", error.to_string()))?;
        if self.max_in_flight == 0 {
            return Err(ConfigError::new("max_in_flight", "must be at least 1"));
        }
        if let Some(advertise) = &self.advertise {
            Address::new("tcp", advertise)
                .map_err(|error| ConfigError::new("advertise", error.to_string()))?;
        }
        let mut tcp = self.tcp.clone();
        tcp.bind_policy = policy;
        tcp.advertise = self.advertise.clone();
        tcp.unix_dir = self.unix.then(place::socket_dir);
        // The same number in the record that discovery keeps and in the hello, so that callers
        // notice when another process has taken the address.
        if tcp.mux.process == 0 {
            tcp.mux.process = Incarnation::random().0;
        }
        // What crosses a network in plain text is checked: TCP's own checksum misses much.
        tcp.mux.integrity |= !self.listen.ip().to_canonical().is_loopback();
        let tcp = tcp.checked().map_err(|error| ConfigError::new("tcp", error.to_string()))?;
        Ok(CheckedConfig { config: self, tcp })
    }
}

/// A [`Config`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedConfig {
    config: Config,
    pub(crate) tcp: CheckedTcpConfig,
}

impl std::ops::Deref for CheckedConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

/// Where instances are announced and found: `file:PATH`, `static:ADDRESS,...` or `memory`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoverySource {
    /// A folder that all peers can reach; also read and written by Dynamo's file store.
    File(PathBuf),
    /// Servers at known addresses; nothing is announced.
    Static(Vec<Address>),
    /// This process alone.
    Memory,
}

impl FromStr for DiscoverySource {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let fault = |reason: String| ConfigError::new("discovery", reason);
        match text.split_once(':') {
            Some(("file", "")) => Err(fault("file: needs a folder: file:PATH".to_owned())),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("static", list)) => {
                let addresses = list.split(',').map(|one| static_address(one.trim()));
                addresses.collect::<Result<_, _>>().map(Self::Static).map_err(fault)
            }
            None if text == "memory" => Ok(Self::Memory),
            _ => Err(fault(format!(
                "{text:?} is not a discovery: write file:PATH, static:HOST:PORT,... or memory"
            ))),
        }
    }
}

fn static_address(text: &str) -> Result<Address, String> {
    if text.contains("://") {
        return text.parse().map_err(|error| format!("{error}"));
    }
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !has_port {
        return Err(format!("{text:?} has no port: write static:HOST:PORT,..."));
    }
    Address::new("tcp", text).map_err(|error| error.to_string())
}

impl fmt::Display for DiscoverySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Static(addresses) => {
                let texts: Vec<_> = addresses.iter().map(Address::as_str).collect();
                write!(f, "static:{}", texts.join(","))
            }
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// Which setting cannot be used, and why. The operator's to mend; nothing was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    setting: String,
    reason: String,
}

impl ConfigError {
    pub(crate) fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { setting: setting.into(), reason: reason.into() }
    }

    /// The setting.
    pub fn setting(&self) -> &str {
        &self.setting
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_shown_alike() {
        for text in ["file:/tmp/x", "static:tcp://127.0.0.1:1,unix:///a.sock", "memory"] {
            let source: DiscoverySource = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
        }
        let short: DiscoverySource = "static:localhost:9, [::1]:10".parse().unwrap();
        assert_eq!(short.to_string(), "static:tcp://localhost:9,tcp://[::1]:10");
        for bad in ["", "file:", "etcd", "static:", "static:localhost", "static:x://"] {
            assert!(bad.parse::<DiscoverySource>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn plain_text_beyond_loopback_needs_a_word() {
        let open = Config { listen: "0.0.0.0:0".parse().unwrap(), ..Config::default() };
        let refusal = open.clone().checked().unwrap_err();
        assert_eq!(refusal.setting(), "listen");
        assert!(refusal.to_string().contains("--insecure"), "{refusal}");
        assert!(Config { insecure: true, ..open }.checked().is_ok());
    }
}
