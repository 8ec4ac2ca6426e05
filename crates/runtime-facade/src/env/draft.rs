//! The values of the variables read so far, and the configuration that they make together.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use crate::{
    Config, ConfigError, DiscoverySource, RequestPlane,
    env::{Overrides, all},
    features::Features,
    runtime_dir,
    servers::{EtcdMember, NO_ETCD_TLS},
};

/// A configuration that is not complete yet. Settings that take several variables are put together
/// at the end.
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) runtime_dir: RuntimeDirNames,
    pub(super) discovery: DiscoveryNames,
    pub(super) etcd: EtcdNames,
    pub(super) nats: NatsNames,
    /// Waits for single backends, used if no wait for all is set.
    pub(super) startup_waits: Vec<Duration>,
    /// Dynamo's limits of a shutdown. The shortest counts.
    pub(super) graces: Vec<Duration>,
    /// Dynamo's limit of a call's wait for the first item and for each further one.
    pub(super) inactivity: Option<Duration>,
    /// The log filter, and the log filter of the variable that all programs share (`RUST_LOG`).
    pub(super) log: Option<String>,
    pub(super) rust_log: Option<String>,
    /// For each setting, the name of the variable that set it.
    pub(super) given: BTreeMap<&'static str, &'static str>,
    /// The overrides, which take precedence over the variables.
    pub(super) chosen: Overrides,
}

/// The variables that say where the user's folders are.
#[derive(Default)]
pub(super) struct RuntimeDirNames {
    pub(super) xdg: Option<PathBuf>,
    pub(super) tmp: Option<PathBuf>,
}

/// The variables that name the discovery.
#[derive(Default)]
pub(super) struct DiscoveryNames {
    pub(super) source: Option<DiscoverySource>,
    pub(super) folder: Option<PathBuf>,
    pub(super) backend: Option<String>,
    pub(super) etcd_members: Vec<EtcdMember>,
}

/// The variables for etcd.
#[derive(Default)]
pub(super) struct EtcdNames {
    pub(super) lease_ttl: Option<Duration>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// The variables for the authentication to NATS.
#[derive(Default)]
pub(super) struct NatsNames {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) nkey: Option<String>,
    pub(super) credentials: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
}

impl Draft {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            runtime_dir: RuntimeDirNames::default(),
            discovery: DiscoveryNames::default(),
            etcd: EtcdNames::default(),
            nats: NatsNames::default(),
            startup_waits: Vec::new(),
            graces: Vec::new(),
            inactivity: None,
            log: None,
            rust_log: None,
            given: BTreeMap::new(),
            chosen: Overrides::default(),
        }
    }

    /// The name of the variable that set it.
    fn given_as(&self, setting: &str) -> &'static str {
        self.given.get(setting).copied().unwrap_or_default()
    }

    /// Puts together what takes several variables.
    pub(super) fn finish(mut self, build: Features) -> Result<Config, ConfigError> {
        self.finish_place();
        self.check_dynamo(build)?;
        let chosen = std::mem::take(&mut self.chosen);
        // What nobody looks at need not be usable.
        match chosen.discovery {
            Some(discovery) => self.config.discovery = discovery,
            None => self.finish_discovery()?,
        }
        // Before NATS, whose settings depend on whether it is used.
        self.config.request_plane = chosen.request_plane.unwrap_or(self.config.request_plane);
        if !chosen.nats.is_empty() {
            self.config.nats = chosen.nats;
        } else if self.config.request_plane == RequestPlane::Tcp
            && (self.given_as("SINEW_NATS_SERVER") != "SINEW_NATS_SERVER"
                || chosen.request_plane.is_some())
        {
            // Dynamo's variable names the servers also for what is not its request plane, and an
            // option of the command line comes before a variable.
            self.config.nats.clear();
        }
        self.finish_etcd()?;
        self.finish_nats(build)?;
        if !self.given.contains_key("SINEW_STARTUP_WAIT")
            && let Some(longest) = self.startup_waits.iter().max()
        {
            self.config.startup_wait = *longest;
        }
        if !self.given.contains_key("SINEW_GRACE_MS")
            && let Some(shortest) = self.graces.iter().min()
        {
            self.config.grace = *shortest;
        }
        if let Some(limit) = self.inactivity {
            let limits = &mut self.config.limits;
            for (name, wait) in [
                ("SINEW_FIRST_ITEM_TIMEOUT", &mut limits.first_item),
                ("SINEW_IDLE_TIMEOUT", &mut limits.idle),
            ] {
                if !self.given.contains_key(name) {
                    *wait = Some(limit);
                }
            }
        }
        Ok(self.config)
    }

    /// Returns an error for a setting that needs the feature `dynamo`, in a build without it.
    fn check_dynamo(&self, build: Features) -> Result<(), ConfigError> {
        if build.dynamo {
            return Ok(());
        }
        let refused = |name, what| Err(ConfigError::not_in_this_build(name, what, "dynamo"));
        let mut needy = all().filter(|(_, setting)| setting.feature() == Some("dynamo"));
        if let Some(name) = needy.find_map(|(_, one)| self.given.get(one.name())) {
            return refused(name, "Dynamo's request plane over TCP");
        }
        // Beside an option of the command line nobody looks at it.
        let plane = self.given_as("SINEW_REQUEST_PLANE");
        if plane.starts_with("DYN_") && self.chosen.request_plane.is_none() {
            return refused(plane, "a request plane of Dynamo");
        }
        Ok(())
    }

    fn finish_place(&mut self) {
        let names = &self.runtime_dir;
        if names.xdg.is_some() || names.tmp.is_some() {
            let dir = runtime_dir::from_names(names.xdg.as_deref(), names.tmp.as_deref());
            self.config.discovery = DiscoverySource::File(runtime_dir::discovery_dir(&dir));
            self.config.runtime_dir = dir;
        }
    }

    /// Sinew's own variables take precedence over Dynamo's, which say the same in several
    /// variables. Dynamo's default, etcd, is not the default of Sinew: a variable has to ask for
    /// it.
    fn finish_discovery(&mut self) -> Result<(), ConfigError> {
        let names = &mut self.discovery;
        let (source, folder) = (names.source.take(), names.folder.take());
        let folder_name = self.given_as("SINEW_DISCOVERY_DIR");
        let found = match (source, folder, self.discovery.backend.as_deref()) {
            // Dynamo's folder is for Dynamo's backend, and says nothing against our own setting.
            (Some(source), Some(folder), _) if folder_name == "SINEW_DISCOVERY_DIR" => {
                let folder = DiscoverySource::File(folder);
                if folder != source {
                    let reason = format!(
                        "is {source} but {folder_name}, which means the same, is {folder}: unset \
                         one"
                    );
                    return Err(ConfigError::new("SINEW_DISCOVERY", reason));
                }
                source
            }
            (Some(source), ..) => source,
            (None, Some(folder), _) if folder_name == "SINEW_DISCOVERY_DIR" => {
                DiscoverySource::File(folder)
            }
            (None, folder, Some("file")) => {
                let tmp = self.runtime_dir.tmp.take();
                let default = || tmp.unwrap_or_else(std::env::temp_dir).join("dynamo_store_kv");
                DiscoverySource::File(folder.unwrap_or_else(default))
            }
            (None, _, Some("mem")) => DiscoverySource::Memory,
            (None, _, Some(_)) => self.etcd_cluster()?,
            (None, Some(folder), None) => DiscoverySource::File(folder),
            (None, None, None) => return Ok(()),
        };
        self.config.discovery = found;
        Ok(())
    }

    fn etcd_cluster(&mut self) -> Result<DiscoverySource, ConfigError> {
        let members = std::mem::take(&mut self.discovery.etcd_members);
        if members.iter().any(|one| one.is_tls) {
            return Err(ConfigError::new("ETCD_ENDPOINTS", NO_ETCD_TLS));
        }
        let mut addresses: Vec<_> = members.into_iter().map(|one| one.address).collect();
        if addresses.is_empty() {
            addresses.push("localhost:2379".to_owned());
        }
        Ok(DiscoverySource::Etcd(addresses))
    }

    fn finish_etcd(&mut self) -> Result<(), ConfigError> {
        let names = std::mem::take(&mut self.etcd);
        let _user =
            self.pair("SINEW_ETCD_USER", names.user, "SINEW_ETCD_PASSWORD", names.password)?;
        #[cfg(feature = "etcd")]
        {
            let etcd = &mut self.config.etcd;
            etcd.lease_ttl = names.lease_ttl.unwrap_or(etcd.lease_ttl);
            etcd.user = _user.or_else(|| etcd.user.take());
        }
        #[cfg(not(feature = "etcd"))]
        let _ = names.lease_ttl;
        Ok(())
    }

    /// Checks that two settings are given together or not at all.
    fn pair<T, U>(
        &self,
        first: &str,
        one: Option<T>,
        second: &str,
        other: Option<U>,
    ) -> Result<Option<(T, U)>, ConfigError> {
        match (one, other) {
            (Some(one), Some(other)) => Ok(Some((one, other))),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(ConfigError::new(self.given_as(first), format!("needs {second} beside it")))
            }
            (None, Some(_)) => {
                Err(ConfigError::new(self.given_as(second), format!("needs {first} beside it")))
            }
        }
    }

    fn finish_nats(&mut self, build: Features) -> Result<(), ConfigError> {
        let names = std::mem::take(&mut self.nats);
        let user =
            self.pair("SINEW_NATS_USER", names.user, "SINEW_NATS_PASSWORD", names.password)?;
        let files = self.pair(
            "SINEW_NATS_TLS_CERT_FILE",
            names.certificate_file,
            "SINEW_NATS_TLS_KEY_FILE",
            names.key_file,
        )?;
        let ways = [
            ("SINEW_NATS_USER", user.is_some()),
            ("SINEW_NATS_TOKEN", names.token.is_some()),
            ("SINEW_NATS_NKEY", names.nkey.is_some()),
            ("SINEW_NATS_CREDENTIALS_FILE", names.credentials.is_some()),
        ];
        let mut given = ways.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let (first, second) = (self.given_as(first), self.given_as(second));
            let reason = format!("and {second} are two ways to say who asks: unset one");
            return Err(ConfigError::new(first, reason));
        }
        // What the process does not use, it need not have.
        let (tls, nkeys) = ((build.nats_tls, "nats-tls"), (build.nats_nkeys, "nats-nkeys"));
        let parts = [
            ("SINEW_NATS_NKEY", names.nkey.is_some(), nkeys),
            ("SINEW_NATS_CREDENTIALS_FILE", names.credentials.is_some(), nkeys),
            ("SINEW_NATS_TLS_CA_FILE", names.ca_file.is_some(), tls),
            ("SINEW_NATS_TLS_CERT_FILE", files.is_some(), tls),
        ];
        let missing = parts.iter().find(|(_, is_given, (is_here, _))| *is_given && !is_here);
        if let Some((name, _, (_, feature))) = missing.filter(|_| self.config.uses_nats()) {
            return Err(ConfigError::not_in_this_build(
                self.given_as(name),
                "what it asks for",
                feature,
            ));
        }
        // Also where no server is named: a program may name one of its own afterwards.
        #[cfg(feature = "nats")]
        {
            use sinew_transport_nats::NatsAuth;
            let auth = &mut self.config.nats_auth;
            if let Some((user, password)) = user {
                *auth = NatsAuth::UserPassword { user, password };
            } else if let Some(token) = names.token {
                *auth = NatsAuth::Token(token);
            } else if let Some(seed) = names.nkey {
                *auth = NatsAuth::Nkey(seed);
            } else if let Some(file) = names.credentials {
                *auth = NatsAuth::CredentialsFile(file);
            }
            let tls = &mut self.config.nats_tls;
            tls.ca_file = names.ca_file.or_else(|| tls.ca_file.take());
            if let Some((certificate, key)) = files {
                (tls.client_certificate_file, tls.client_key_file) = (Some(certificate), Some(key));
            }
        }
        Ok(())
    }
}

impl Config {
    /// True when this process connects to NATS.
    pub(crate) fn uses_nats(&self) -> bool {
        match self.request_plane {
            RequestPlane::Tcp => false,
            RequestPlane::Auto => !self.nats.is_empty(),
            RequestPlane::Nats => true,
        }
    }
}

/// Reads the address of a host or of a network interface of this machine, for a listener.
pub(super) fn own_address(text: &str) -> Result<IpAddr, String> {
    use sinew_plane::BindPolicy;
    let host: sinew_plane_call_home::ListenHost = text.parse()?;
    host.resolve(BindPolicy::Insecure).map_err(|error| error.to_string())
}
