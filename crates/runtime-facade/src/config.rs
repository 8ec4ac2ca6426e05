//! Settings of a runtime: a draft that anyone can fill, and the checked form that is trusted.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use sinew_plane::{Address, BindPolicy, Budget, Incarnation, budget::MIN_BUDGET_BYTES};
use sinew_transport_tcp::{
    CheckedTcpConfig, CheckedTcpRequestConfig, CheckedTcpStreamClientConfig,
    CheckedTcpStreamServerConfig, ListenHost, TcpConfig, TcpRequestConfig, TcpStreamClientConfig,
    TcpStreamServerConfig,
};

use crate::{ByteSize, DiscoverySource, RequestPlane, place};

/// Settings of a [`Runtime`](crate::Runtime). Start from [`Config::default`] and change what you
/// know better.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where instances are announced and found.
    pub discovery: DiscoverySource,
    /// How to speak with etcd, where `discovery` names it. Its members are named
    /// there, and `startup_wait` is how long it is waited for.
    #[cfg(feature = "etcd")]
    pub etcd: sinew_discovery::EtcdConfig,
    /// Which planes requests may take, and are taken from.
    pub request_plane: RequestPlane,
    /// NATS servers, `nats://HOST:PORT` or `tls://HOST:PORT`; with none there is no NATS.
    pub nats: Vec<String>,
    /// Who this process is to the NATS servers.
    #[cfg(feature = "nats")]
    pub nats_auth: sinew_transport_nats::NatsAuth,
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
    /// Bytes that this process may hold on behalf of its peers: request bodies, frames, items that
    /// are kept or queued. New requests are refused as `Overloaded` when it is spent. At least
    /// 4 MiB; `None` is a quarter of the memory that the control group or the machine gives.
    pub memory_budget: Option<usize>,
    /// How long a start waits for an etcd or a NATS that is not there yet.
    pub startup_wait: Duration,
    /// How long a shutdown lets requests finish.
    pub grace: Duration,
    /// Limits and timing of TCP and Unix connections. Its address settings are overridden by
    /// the ones above.
    pub tcp: TcpConfig,
    /// How this process sends requests over Dynamo's TCP frames.
    pub frames: TcpRequestConfig,
    /// Where workers dial this process back, for requests whose response comes on another
    /// connection; it listens from the first such request on. Its connections are set up as
    /// `tcp` says, and it binds and advertises as `listen` and `advertise` allow.
    pub call_home: TcpStreamServerConfig,
    /// How this process dials its callers back.
    pub dial_back: TcpStreamClientConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            discovery: DiscoverySource::File(place::discovery_dir()),
            #[cfg(feature = "etcd")]
            etcd: sinew_discovery::EtcdConfig::default(),
            request_plane: RequestPlane::Auto,
            nats: Vec::new(),
            #[cfg(feature = "nats")]
            nats_auth: sinew_transport_nats::NatsAuth::None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            insecure: false,
            unix: true,
            max_in_flight: 8_192,
            memory_budget: None,
            startup_wait: Duration::from_secs(120),
            grace: Duration::from_secs(30),
            tcp: TcpConfig::default(),
            frames: TcpRequestConfig::default(),
            call_home: TcpStreamServerConfig::default(),
            dial_back: TcpStreamClientConfig::default(),
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
        let budget = self.budget()?;
        if self.startup_wait.is_zero() {
            return Err(ConfigError::new("startup_wait", "must be longer than zero"));
        }
        if let Some(advertise) = &self.advertise {
            Address::new("tcp", advertise)
                .map_err(|error| ConfigError::new("advertise", error.to_string()))?;
        }
        let mut tcp = self.tcp.clone();
        tcp.bind_policy = policy;
        tcp.advertise = self.advertise.clone();
        tcp.unix_dir = self.unix.then(place::socket_dir);
        tcp.budget = Some(Arc::clone(&budget));
        // The same number in the record that discovery keeps and in the hello, so that callers
        // notice when another process has taken the address.
        if tcp.mux.process == 0 {
            tcp.mux.process = Incarnation::random().0;
        }
        // What crosses a network in plain text is checked: TCP's own checksum misses much.
        tcp.mux.integrity |= !self.listen.ip().to_canonical().is_loopback();
        let call_home = self.call_home_over(&tcp)?;
        let dial_back = TcpStreamClientConfig { tcp: tcp.clone(), ..self.dial_back.clone() };
        let dial_back = dial_back.checked().map_err(|error| fault("dial_back", &error))?;
        let frames = self.frames.clone().checked().map_err(|error| fault("frames", &error))?;
        let tcp = tcp.checked().map_err(|error| fault("tcp", &error))?;
        // What is checked once more, with a setting changed, is of the same process.
        let mut config = self;
        config.tcp.budget = Some(Arc::clone(&budget));
        Ok(CheckedConfig { config, budget, tcp, frames, call_home, dial_back })
    }

    /// The budget of the process: one that is given with the TCP settings, or a new one.
    fn budget(&self) -> Result<Arc<Budget>, ConfigError> {
        if let Some(budget) = &self.tcp.budget {
            return Ok(Arc::clone(budget));
        }
        let bytes = self.memory_budget.unwrap_or_else(Budget::default_bytes);
        if bytes < MIN_BUDGET_BYTES {
            let least = ByteSize(MIN_BUDGET_BYTES);
            let reason = format!("is {}; it must be at least {least}", ByteSize(bytes));
            return Err(ConfigError::new("memory_budget", reason));
        }
        Ok(Budget::new(bytes))
    }

    /// Where workers dial back: on the host that `listen` names, unless it says its own.
    fn call_home_over(&self, tcp: &TcpConfig) -> Result<CheckedTcpStreamServerConfig, ConfigError> {
        let mut call_home = self.call_home.clone();
        // The name that this process is known by; its port is another.
        let host = self.call_home.tcp.advertise.clone().or_else(|| {
            let advertised = self.advertise.as_deref()?;
            let name = advertised.rsplit_once(':').map_or(advertised, |(name, _)| name);
            Some(name.to_owned())
        });
        call_home.tcp = TcpConfig { advertise: host, unix_dir: None, ..tcp.clone() };
        if call_home.host == ListenHost::Automatic && !self.listen.ip().is_unspecified() {
            call_home.host = ListenHost::Ip(self.listen.ip());
        }
        call_home.checked().map_err(|error| fault("call_home", &error))
    }
}

fn fault(setting: &str, error: &dyn fmt::Display) -> ConfigError {
    ConfigError::new(setting, error.to_string())
}

/// A [`Config`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedConfig {
    config: Config,
    pub(crate) budget: Arc<Budget>,
    pub(crate) tcp: CheckedTcpConfig,
    pub(crate) frames: CheckedTcpRequestConfig,
    pub(crate) call_home: CheckedTcpStreamServerConfig,
    pub(crate) dial_back: CheckedTcpStreamClientConfig,
}

impl std::ops::Deref for CheckedConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
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
    fn plain_text_beyond_loopback_needs_a_word() {
        let open = Config { listen: "0.0.0.0:0".parse().unwrap(), ..Config::default() };
        let refusal = open.clone().checked().unwrap_err();
        assert_eq!(refusal.setting(), "listen");
        assert!(refusal.to_string().contains("--insecure"), "{refusal}");
        assert!(Config { insecure: true, ..open }.checked().is_ok());
    }

    #[test]
    fn a_process_has_one_budget() {
        let small = Config { memory_budget: Some(1 << 20), ..Config::default() };
        let refusal = small.checked().unwrap_err();
        assert_eq!(refusal.setting(), "memory_budget");
        assert!(refusal.to_string().contains("1MiB") && refusal.to_string().contains("4MiB"));
        let config = Config { memory_budget: Some(64 << 20), ..Config::default() };
        let checked = config.checked().unwrap();
        assert_eq!(checked.budget.limit(), 64 << 20);
        let again = Config { unix: false, ..(*checked).clone() }.checked().unwrap();
        assert!(Arc::ptr_eq(&checked.budget, &again.budget));
        assert!(again.tcp.budget.as_ref().is_some_and(|it| Arc::ptr_eq(it, &checked.budget)));
        assert!(Config::default().checked().unwrap().budget.limit() >= MIN_BUDGET_BYTES);
    }
}
