//! Settings of a runtime: a draft with public fields, and the checked form that the rest of the
//! code uses.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sinew_codec::{ChecksumMode, PayloadFormat};
use sinew_plane::{
    BindPolicy, Budget, CallLimits, DEFAULT_ACCEPT_LIMIT, ProcessId, budget::MIN_BUDGET_BYTES,
};
use sinew_plane_call_home::{
    CheckedTcpStreamClientConfig, CheckedTcpStreamServerConfig, ListenHost, TcpStreamClientConfig,
    TcpStreamServerConfig,
};
#[cfg(feature = "dynamo")]
use sinew_plane_request_tcp::{
    CheckedTcpRequestConfig, CheckedTcpRequestServerConfig, TcpRequestConfig,
    TcpRequestServerConfig,
};
use sinew_transport_tcp::{Advertised, CheckedTcpConfig, ListenConfig, TcpConfig};

use crate::{
    ByteSize, ConfigError, DiscoverySource, FrameChecks, RequestPlane, config_overlaps,
    features::Features, runtime_dir,
};

/// Settings of a [`Runtime`](crate::Runtime). Start from [`Config::default`] and change the fields
/// that differ.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where instances are announced and found.
    pub discovery: DiscoverySource,
    /// Timing of discovery through a folder, and which users' folders and records it trusts.
    pub file: sinew_discovery::FileConfig,
    /// Settings for etcd, if `discovery` names it. `discovery` has the addresses of its members,
    /// and `startup_wait` the time to wait for it.
    #[cfg(feature = "etcd")]
    pub etcd: sinew_discovery::EtcdConfig,
    /// The planes over which this process sends and receives requests.
    pub request_plane: RequestPlane,
    /// The format that a typed endpoint advertises first: MessagePack, or JSON.
    pub codec: PayloadFormat,
    /// NATS servers, `nats://HOST:PORT`, or `tls://HOST:PORT` with the feature `nats-tls`. An empty
    /// list turns NATS off.
    pub nats: Vec<String>,
    /// How this process authenticates to the NATS servers. An nkey or a credentials file needs the
    /// feature `nats-nkeys`.
    #[cfg(feature = "nats")]
    pub nats_auth: sinew_transport_nats::NatsAuth,
    /// Certificate and key files for `tls://`.
    #[cfg(feature = "nats")]
    pub nats_tls: sinew_transport_nats::NatsTls,
    /// Longest wait for the acknowledgement of a request over NATS.
    pub nats_ack_timeout: Duration,
    /// The address on which this process listens once it serves an endpoint. Port 0 picks a free
    /// port.
    pub listen: SocketAddr,
    /// The address that this process announces instead of what `listen` binds: `HOST` or
    /// `HOST:PORT`, an IPv6 address with or without brackets. Without it, if `listen` binds all
    /// addresses of the machine (`0.0.0.0` or `::`), the process announces an address that other
    /// machines can reach.
    pub advertise: Option<String>,
    /// Allows `listen` beyond loopback in plain text.
    pub insecure: bool,
    /// Also listens on a Unix domain socket, for callers on the same host. If it cannot (no
    /// permission for the folder, or a path over 107 bytes), it logs that and listens on TCP only.
    pub unix: bool,
    /// Absolute path of the folder, private to this user, that holds the Unix sockets and the
    /// records of the default `discovery`. Default: `sinew` in `XDG_RUNTIME_DIR`, or else
    /// `sinew-UID` in the folder for temporary files.
    pub runtime_dir: PathBuf,
    /// Whether frames carry checksums and whether this process verifies them, in the mux and in
    /// Dynamo's two-part frames. `None` means `verify` if `listen` is beyond loopback; otherwise
    /// only the checksums that a peer asks for.
    pub frame_checks: Option<FrameChecks>,
    /// Most requests in flight over all endpoints of this process. Further requests are refused as
    /// `Overloaded`.
    pub max_in_flight: usize,
    /// Bytes that this process may hold on behalf of its peers: request bodies, frames, and items
    /// that are kept or queued. New requests are refused as `Overloaded` when it is spent. At least
    /// 4 MiB. `None` means a quarter of the memory that the control group or the machine allows.
    pub memory_budget: Option<usize>,
    /// How long the start waits for an etcd or NATS server that is not up yet.
    pub startup_wait: Duration,
    /// How long a shutdown waits for requests in flight before it cuts them.
    pub grace: Duration,
    /// Time limits of calls. A client, a router or the context of a call can override them. By
    /// default 10 s until the acceptance, and no limit for items.
    pub limits: CallLimits,
    /// Limits and timing of TCP and Unix connections. The runtime refuses `listen.bind_policy`,
    /// `listen.advertise` and `unix_dir` here: `insecure`, `advertise`, `unix` and `runtime_dir`
    /// decide them.
    pub tcp: TcpConfig,
    /// How this process sends requests over Dynamo's TCP frames.
    #[cfg(feature = "dynamo")]
    pub frames: TcpRequestConfig,
    /// How this process serves requests in Dynamo's TCP frames.
    #[cfg(feature = "dynamo")]
    pub frame_server: TcpRequestServerConfig,
    /// The listener that workers dial back to, for requests whose response comes on another
    /// connection. It is bound at the first such request. `tcp`, `listen` and `advertise` decide
    /// its connections and addresses: a change of its own `driver`, `frame_checks` or `listen`,
    /// apart from the name to advertise, is an error.
    pub call_home: TcpStreamServerConfig,
    /// How this process dials its callers back. `tcp` decides the settings of the connections.
    pub dial_back: TcpStreamClientConfig,
}

impl Default for Config {
    fn default() -> Self {
        let runtime_dir = runtime_dir::of_this_process();
        Self {
            discovery: DiscoverySource::File(runtime_dir::discovery_dir(&runtime_dir)),
            file: sinew_discovery::FileConfig::default(),
            #[cfg(feature = "etcd")]
            etcd: sinew_discovery::EtcdConfig::default(),
            request_plane: RequestPlane::Auto,
            codec: PayloadFormat::Msgpack,
            nats: Vec::new(),
            #[cfg(feature = "nats")]
            nats_auth: sinew_transport_nats::NatsAuth::None,
            #[cfg(feature = "nats")]
            nats_tls: sinew_transport_nats::NatsTls::default(),
            nats_ack_timeout: Duration::from_secs(5),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            insecure: false,
            unix: true,
            runtime_dir,
            frame_checks: None,
            max_in_flight: 8_192,
            memory_budget: None,
            startup_wait: Duration::from_secs(120),
            grace: Duration::from_secs(30),
            limits: CallLimits { accept: Some(DEFAULT_ACCEPT_LIMIT), ..CallLimits::default() },
            tcp: TcpConfig::default(),
            #[cfg(feature = "dynamo")]
            frames: TcpRequestConfig::default(),
            #[cfg(feature = "dynamo")]
            frame_server: TcpRequestServerConfig::default(),
            call_home: TcpStreamServerConfig::default(),
            dial_back: TcpStreamClientConfig::default(),
        }
    }
}

impl Config {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, the rule that it breaks and the remedy.
    pub fn checked(self) -> Result<CheckedConfig, ConfigError> {
        let policy = if self.insecure { BindPolicy::Insecure } else { BindPolicy::LoopbackOnly };
        policy.check(self.listen).map_err(|error| ConfigError::new("listen", error.to_string()))?;
        if self.max_in_flight == 0 {
            return Err(ConfigError::new("max_in_flight", "must be at least 1"));
        }
        config_overlaps::check(&self)?;
        let budget = self.budget()?;
        if !matches!(self.codec, PayloadFormat::Msgpack | PayloadFormat::Json) {
            return Err(ConfigError::new("codec", "must be MessagePack or JSON"));
        }
        if self.nats_ack_timeout.is_zero() {
            return Err(ConfigError::new("nats_ack_timeout", "must be longer than zero"));
        }
        let limits = [
            ("limits.accept", self.limits.accept),
            ("limits.first_item", self.limits.first_item),
            ("limits.idle", self.limits.idle),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == Some(Duration::ZERO)) {
            let reason = "must be longer than zero: leave it out, or Duration::MAX, for no limit";
            return Err(ConfigError::new(*name, reason));
        }
        if self.startup_wait.is_zero() {
            return Err(ConfigError::new("startup_wait", "must be longer than zero"));
        }
        if let Some(advertise) = &self.advertise {
            let advertised = advertise.parse::<Advertised>();
            advertised.map_err(|reason| {
                ConfigError::new("advertise", format!("{advertise:?} {reason}"))
            })?;
        }
        if self.unix && !self.runtime_dir.is_absolute() {
            let reason = format!(
                "{:?} is not an absolute path: see XDG_RUNTIME_DIR and TMPDIR",
                self.runtime_dir
            );
            return Err(ConfigError::new("runtime_dir", reason));
        }
        self.check_nats(Features::THIS)?;
        let mut tcp = self.tcp.clone();
        tcp.listen.bind_policy = policy;
        tcp.listen.advertise = self.advertise.clone();
        tcp.unix_dir = self.unix.then(|| runtime_dir::socket_dir(&self.runtime_dir));
        tcp.driver.budget = Some(Arc::clone(&budget));
        // The same number in the record that discovery keeps and in the hello, so that callers
        // notice when another process has taken the address.
        if !tcp.driver.mux.process.is_known() {
            tcp.driver.mux.process = ProcessId::random();
        }
        // What crosses a network in plain text is checked: TCP's own checksum misses much.
        let network = !self.listen.ip().to_canonical().is_loopback();
        let checks = self.frame_checks.or(network.then_some(FrameChecks::Verify));
        let checks = checks.map(FrameChecks::mode);
        let call_home = self.call_home_over(&tcp, checks)?;
        let dial_back = TcpStreamClientConfig {
            driver: tcp.driver.clone(),
            frame_checks: checks.or(self.dial_back.frame_checks),
            ..self.dial_back.clone()
        };
        let dial_back = dial_back.checked().map_err(|error| fault("dial_back", &error))?;
        #[cfg(feature = "dynamo")]
        let frames = self.frames.clone().checked().map_err(|error| fault("frames", &error))?;
        #[cfg(feature = "dynamo")]
        let frame_server = self.frame_server_within(&budget)?;
        if let Some(mode) = checks {
            let writes = mode != ChecksumMode::Off;
            tcp.driver.mux.check_frames(writes, mode != ChecksumMode::Write);
        }
        let tcp = tcp.checked().map_err(|error| fault("tcp", &error))?;
        // What is checked once more, with a setting changed, is of the same process.
        let mut config = self;
        config.tcp.driver.budget = Some(Arc::clone(&budget));
        config.tcp.driver.mux.process = tcp.driver.mux.process;
        Ok(CheckedConfig {
            config: Box::new(config),
            budget,
            tcp,
            #[cfg(feature = "dynamo")]
            frames,
            #[cfg(feature = "dynamo")]
            frame_server,
            call_home,
            dial_back,
        })
    }

    /// The budget of the process: the one in the TCP settings, or a new one.
    fn budget(&self) -> Result<Arc<Budget>, ConfigError> {
        if let Some(budget) = &self.tcp.driver.budget {
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

    #[cfg(feature = "dynamo")]
    fn frame_server_within(
        &self,
        budget: &Arc<Budget>,
    ) -> Result<CheckedTcpRequestServerConfig, ConfigError> {
        let budget = Some(Arc::clone(budget));
        let frame_server = TcpRequestServerConfig { budget, ..self.frame_server.clone() };
        frame_server.checked().map_err(|error| fault("frame_server", &error))
    }

    /// The settings of the dial-back listener: on the host of `listen`, unless it names its own.
    fn call_home_over(
        &self,
        tcp: &TcpConfig,
        checks: Option<ChecksumMode>,
    ) -> Result<CheckedTcpStreamServerConfig, ConfigError> {
        let mut call_home = self.call_home.clone();
        // The name that this process is known by; its port is another.
        let host = self.call_home.listen.advertise.clone().or_else(|| {
            let advertised: Advertised = self.advertise.as_deref()?.parse().ok()?;
            Some(advertised.host().to_owned())
        });
        call_home.driver = tcp.driver.clone();
        call_home.listen = ListenConfig { advertise: host, ..tcp.listen.clone() };
        call_home.frame_checks = checks.or(call_home.frame_checks);
        if call_home.host == ListenHost::Automatic && !self.listen.ip().is_unspecified() {
            call_home.host = ListenHost::Ip(self.listen.ip());
        }
        // Not when the first request is made: an interface that is not there is an error at once.
        let listens = call_home.host.resolve(call_home.listen.bind_policy);
        listens.map_err(|error| fault("call_home.host", &error))?;
        call_home.checked().map_err(|error| fault("call_home", &error))
    }

    /// Checks that this build has the NATS features that the settings use.
    fn check_nats(&self, build: Features) -> Result<(), ConfigError> {
        if !self.uses_nats() {
            return Ok(());
        }
        if !build.nats {
            return Err(ConfigError::not_in_this_build("nats", "NATS", "nats"));
        }
        let tls = self.nats.iter().find(|server| server.starts_with("tls://"));
        if let Some(server) = tls.filter(|_| !build.nats_tls) {
            // An address may hold a password that does not belong there.
            let shown = if server.contains('@') { "tls://" } else { server };
            return Err(ConfigError::not_in_this_build("nats", shown, "nats-tls"));
        }
        #[cfg(feature = "nats")]
        {
            use sinew_transport_nats::{NatsAuth, NatsTls};
            let is_nkey =
                matches!(self.nats_auth, NatsAuth::Nkey(_) | NatsAuth::CredentialsFile(_));
            if is_nkey && !build.nats_nkeys {
                return Err(ConfigError::not_in_this_build("nats_auth", "an nkey", "nats-nkeys"));
            }
            if self.nats_tls != NatsTls::default() && !build.nats_tls {
                return Err(ConfigError::not_in_this_build("nats_tls", "TLS to NATS", "nats-tls"));
            }
        }
        Ok(())
    }
}

fn fault(setting: &str, error: &dyn fmt::Display) -> ConfigError {
    ConfigError::new(setting, error.to_string())
}

/// A [`Config`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedConfig {
    /// On the heap, because the futures that start a runtime hold the settings several times.
    config: Box<Config>,
    budget: Arc<Budget>,
    tcp: CheckedTcpConfig,
    #[cfg(feature = "dynamo")]
    pub(crate) frames: CheckedTcpRequestConfig,
    #[cfg(feature = "dynamo")]
    pub(crate) frame_server: CheckedTcpRequestServerConfig,
    pub(crate) call_home: CheckedTcpStreamServerConfig,
    pub(crate) dial_back: CheckedTcpStreamClientConfig,
}

impl CheckedConfig {
    /// The memory that the process may hold on behalf of its peers.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The settings of mux connections and of the port, with the identity and the budget of the
    /// process. Use them for your own listener or transport.
    pub fn tcp(&self) -> &CheckedTcpConfig {
        &self.tcp
    }
}

impl std::ops::Deref for CheckedConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_no_time_is_refused() {
        let zero = Some(Duration::ZERO);
        let base = CallLimits::default;
        for (limits, name) in [
            (CallLimits { accept: zero, ..base() }, "limits.accept"),
            (CallLimits { first_item: zero, ..base() }, "limits.first_item"),
            (CallLimits { idle: zero, ..base() }, "limits.idle"),
        ] {
            let refusal = Config { limits, ..Config::default() }.checked().unwrap_err();
            assert_eq!(refusal.setting(), name);
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

    #[test]
    fn frames_are_checked_beyond_loopback_unless_a_word_says_otherwise() {
        let home = Config::default;
        let away =
            || Config { listen: "0.0.0.0:0".parse().unwrap(), insecure: true, ..Config::default() };
        let checks = |config: Config| {
            let checked = config.checked().unwrap();
            let modes = [checked.call_home.frame_checks, checked.dial_back.frame_checks];
            assert_eq!(modes[0], modes[1]);
            (checked.tcp.driver.mux.integrity, modes[0])
        };
        use sinew_codec::ChecksumMode::{Off, Verify, Write};
        assert_eq!(checks(home()), (false, None));
        assert_eq!(checks(away()), (true, Some(Verify)));
        let set = |checks, config| Config { frame_checks: Some(checks), ..config };
        assert_eq!(checks(set(FrameChecks::Off, away())), (false, Some(Off)));
        assert_eq!(checks(set(FrameChecks::Write, home())), (true, Some(Write)));
        assert_eq!(checks(set(FrameChecks::Verify, home())), (true, Some(Verify)));
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
        assert!(
            again.tcp.driver.budget.as_ref().is_some_and(|it| Arc::ptr_eq(it, &checked.budget))
        );
        assert!(Config::default().checked().unwrap().budget.limit() >= MIN_BUDGET_BYTES);
    }

    #[test]
    fn a_process_has_one_identity_however_it_listens() {
        let checked = Config::default().checked().unwrap();
        let process = checked.tcp.driver.mux.process;
        assert!(process.is_known());
        assert_eq!(checked.call_home.driver.mux.process, process);
        assert_eq!(checked.dial_back.driver.mux.process, process);
        let again = Config { unix: false, ..(*checked).clone() }.checked().unwrap();
        assert_eq!(again.tcp.driver.mux.process, process);
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error_at_the_start() {
        let mut config = Config::default();
        config.call_home.host = ListenHost::Interface("eth-no-such".to_owned());
        let error = config.checked().unwrap_err();
        assert_eq!(error.setting(), "call_home.host");
        assert!(error.reason().contains("eth-no-such"), "{error}");
    }

    #[test]
    fn callers_are_told_the_host_of_an_advertised_address() {
        for (advertise, told) in [
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[fd00::7]:9000", "fd00::7"),
            ("worker.example:9000", "worker.example"),
        ] {
            let config = Config { advertise: Some(advertise.to_owned()), ..Config::default() };
            let checked = config.checked().unwrap();
            assert_eq!(checked.call_home.listen.advertise.as_deref(), Some(told), "{advertise}");
        }
        for bad in ["0.0.0.0", "[::]:9000", "a b", "tcp://h:1"] {
            let config = Config { advertise: Some(bad.to_owned()), ..Config::default() };
            assert_eq!(config.checked().unwrap_err().setting(), "advertise", "{bad}");
        }
    }

    #[cfg(feature = "nats")]
    #[test]
    fn what_a_build_cannot_do_over_nats_is_refused_where_it_is_used() {
        use sinew_transport_nats::NatsAuth;
        let bare = Features { nats: true, nats_tls: false, nats_nkeys: false, ..Features::THIS };
        let over = |server: &str, nats_auth| Config {
            nats: vec![server.to_owned()],
            nats_auth,
            ..Config::default()
        };
        for (config, setting) in [
            (over("tls://h:4222", NatsAuth::None), "nats"),
            (over("nats://h:4222", NatsAuth::Nkey("SUSECRET".to_owned())), "nats_auth"),
            (over("nats://h:4222", NatsAuth::CredentialsFile("/c".into())), "nats_auth"),
        ] {
            let error = config.check_nats(bare).unwrap_err();
            assert_eq!(error.setting(), setting);
            assert!(error.reason().contains("not in this build"), "{error}");
            assert!(!error.to_string().contains("SUSECRET"), "{error}");
            let unused = Config { request_plane: RequestPlane::Tcp, ..config.clone() };
            assert!(unused.check_nats(bare).is_ok());
            let all = Features { nats_tls: true, nats_nkeys: true, ..bare };
            assert!(config.check_nats(all).is_ok());
            let none = Features { nats: false, ..bare };
            assert!(config.check_nats(none).is_err());
        }
    }
}
