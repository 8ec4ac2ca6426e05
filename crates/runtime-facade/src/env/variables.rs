//! Each variable, and what it sets.

use std::time::Duration;

#[cfg(feature = "nats")]
use sinew_transport_nats::NatsAuth;
use sinew_transport_tcp::ListenHost;

use crate::{ByteSize, Config, ConfigError, DiscoverySource};

/// A variable, the names of others that mean the same, and what it sets.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) apply: fn(&mut Config, &str) -> Result<(), String>,
}

impl Variable {
    /// A value as messages may show it: not at all when it is a secret.
    pub(super) fn shown(&self, text: &str) -> String {
        let is_secret = ["PASSWORD", "TOKEN", "NKEY"].iter().any(|word| self.name.ends_with(word))
            // An address may hold one that does not belong there.
            || text.contains('@');
        if is_secret { "a secret".to_owned() } else { format!("{text:?}") }
    }
}

pub(super) const VARIABLES: &[Variable] = &[
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
        apply: |config, text| seconds(text).map(|time| config.etcd.lease_ttl = time),
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
            if text.contains('@') {
                return Err("holds a user: set SINEW_NATS_USER and SINEW_NATS_PASSWORD".to_owned());
            }
            config.nats = text.split(',').map(|one| one.trim().to_owned()).collect();
            Ok(())
        },
    },
    #[cfg(feature = "nats")]
    Variable {
        name: "SINEW_NATS_USER",
        aliases: &["NATS_AUTH_USERNAME"],
        apply: |config, text| {
            let (user, password) = (text.to_owned(), String::new());
            config.nats_auth = NatsAuth::UserPassword { user, password };
            Ok(())
        },
    },
    #[cfg(feature = "nats")]
    Variable {
        name: "SINEW_NATS_PASSWORD",
        aliases: &["NATS_AUTH_PASSWORD"],
        apply: |config, text| match &mut config.nats_auth {
            NatsAuth::UserPassword { password, .. } => {
                text.clone_into(password);
                Ok(())
            }
            _ => Err("needs SINEW_NATS_USER beside it".to_owned()),
        },
    },
    #[cfg(feature = "nats")]
    Variable {
        name: "SINEW_NATS_TOKEN",
        aliases: &["NATS_AUTH_TOKEN"],
        apply: |config, text| {
            config.nats_auth = NatsAuth::Token(text.to_owned());
            Ok(())
        },
    },
    #[cfg(feature = "nats")]
    Variable {
        name: "SINEW_NATS_NKEY",
        aliases: &["NATS_AUTH_NKEY"],
        apply: |config, text| {
            config.nats_auth = NatsAuth::Nkey(text.to_owned());
            Ok(())
        },
    },
    #[cfg(feature = "nats")]
    Variable {
        name: "SINEW_NATS_CREDENTIALS_FILE",
        aliases: &["NATS_AUTH_CREDENTIALS_FILE"],
        apply: |config, text| {
            config.nats_auth = NatsAuth::CredentialsFile(text.into());
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
        name: "SINEW_ACK_TIMEOUT",
        aliases: &["DYN_TCP_REQUEST_TIMEOUT"],
        apply: |config, text| seconds(text).map(|time| config.frames.request_timeout = time),
    },
    Variable {
        name: "SINEW_CONNECT_TIMEOUT",
        aliases: &["DYN_TCP_CONNECT_TIMEOUT"],
        apply: |config, text| {
            let time = seconds(text)?;
            (config.frames.connect_timeout, config.tcp.connect_timeout) = (time, time);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_FRAME_CONNECTIONS",
        aliases: &["DYN_TCP_POOL_SIZE"],
        apply: |config, text| {
            config.frames.pool_size = text.parse().map_err(|_| "must be a number".to_owned())?;
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
        name: "SINEW_MEMORY_BUDGET",
        aliases: &[],
        apply: |config, text| {
            let ByteSize(bytes) = text.parse()?;
            config.memory_budget = Some(bytes);
            Ok(())
        },
    },
    Variable {
        name: "SINEW_STARTUP_WAIT",
        aliases: &[],
        apply: |config, text| seconds(text).map(|time| config.startup_wait = time),
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
            config.tcp.max_request_bytes = bytes;
            config.frames.max_message_bytes = bytes;
            (config.call_home.max_frame_bytes, config.dial_back.max_frame_bytes) = (bytes, bytes);
            Ok(())
        },
    },
];

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "must be seconds".to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}
