//! One case for each setting that is honoured: a value, and what it does.

use std::{path::Path, time::Duration};

use sinew_codec::PayloadFormat;
use sinew_plane_call_home::ListenHost;

use crate::{Config, DiscoverySource, RequestPlane};

/// What one setting does.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) good: &'static str,
    /// Another good value, where the form does not say one.
    pub(super) other: &'static str,
    /// Variables that must stand beside it.
    pub(super) with: &'static [(&'static str, &'static str)],
    pub(super) effect: fn(&Config) -> bool,
    /// Nonsense beyond what the form refuses.
    pub(super) bad: &'static [&'static str],
}

impl Case {
    const fn new(name: &'static str, good: &'static str, effect: fn(&Config) -> bool) -> Self {
        Self { name, good, other: "", with: &[], effect, bad: &[] }
    }

    const fn text(self, other: &'static str, bad: &'static [&'static str]) -> Self {
        Self { other, bad, ..self }
    }

    const fn with(self, with: &'static [(&'static str, &'static str)]) -> Self {
        Self { with, ..self }
    }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[cfg(feature = "nats")]
const NATS: (&str, &str) = ("NATS_SERVER", "nats://h:1");

#[cfg(feature = "etcd")]
fn etcd(config: &Config) -> (Duration, Option<(&str, &str)>) {
    let user = config.etcd.user.as_ref();
    (config.etcd.lease_ttl, user.map(|(name, password)| (name.as_str(), password.as_str())))
}

#[cfg(feature = "nats")]
fn auth(config: &Config) -> &sinew_transport_nats::NatsAuth {
    &config.nats_auth
}

#[cfg(feature = "nats")]
use sinew_transport_nats::NatsAuth;

/// What holds for requests in Dynamo's frames: the longest wait for a connection, and the largest
/// of them at both ends. In a build without these, what holds for the mux.
fn frames(config: &Config) -> (Duration, [usize; 2]) {
    #[cfg(feature = "dynamo")]
    return (
        config.frames.connect_timeout,
        [config.frames.max_message_bytes, config.frame_server.max_request_bytes],
    );
    #[cfg(not(feature = "dynamo"))]
    (config.tcp.driver.connect_timeout, [config.tcp.driver.mux.max_message_bytes; 2])
}

pub(super) const CASES: &[Case] = &[
    Case::new("SINEW_DISCOVERY", "memory", |it| it.discovery == DiscoverySource::Memory)
        .text("file:/d", &["nowhere", "etcd://h", "etcd://bob:hunter2@h:1", "static:", "file:"]),
    Case::new("SINEW_DISCOVERY_DIR", "/d", |it| it.discovery.to_string() == "file:/d")
        .text("/e", &[]),
    Case::new("SINEW_DISCOVERY_USERS", "1000,1001", |it| {
        it.file.trust.owners == sinew_discovery::Owners::Also(vec![1000, 1001])
    })
    .text("any", &["alice", "-1", "1,,2"]),
    Case::new("DYN_DISCOVERY_BACKEND", "mem", |it| it.discovery == DiscoverySource::Memory),
    Case::new("ETCD_ENDPOINTS", "http://h:1,http://i:2", |it| {
        it.discovery.to_string() == "etcd://h:1,i:2"
    })
    .with(&[("DYN_DISCOVERY_BACKEND", "etcd")])
    .text("http://h:1", &["h", "http://h", ",", "ftp://h:1", "http://bob:hunter2@h:1"]),
    #[cfg(feature = "etcd")]
    Case::new("SINEW_ETCD_LEASE_TTL", "7", |it| etcd(it).0 == SECONDS(7)),
    #[cfg(feature = "etcd")]
    Case::new("SINEW_ETCD_USER", "me", |it| etcd(it).1 == Some(("me", "pw")))
        .with(&[("SINEW_ETCD_PASSWORD", "pw")])
        .text("you", &[]),
    #[cfg(feature = "etcd")]
    Case::new("SINEW_ETCD_PASSWORD", "hunter2", |it| etcd(it).1 == Some(("me", "hunter2")))
        .with(&[("SINEW_ETCD_USER", "me")])
        .text("hunter3", &[]),
    Case::new("SINEW_REQUEST_PLANE", "tcp", |it| it.request_plane == RequestPlane::Tcp),
    Case::new("SINEW_REQUEST_CODEC", "json", |it| it.codec == PayloadFormat::Json),
    Case::new("SINEW_NATS_SERVER", "nats://h:1, i:2/,", |it| {
        it.nats == ["nats://h:1", "nats://i:2"]
    })
    .text("nats://h:1", &["http://h:1", "nats://", ",", "h:port", "nats://bob:hunter2@h:1"]),
    #[cfg(feature = "nats")]
    Case::new("SINEW_NATS_USER", "me", |it| {
        let (user, password) = ("me".to_owned(), "pw".to_owned());
        *auth(it) == NatsAuth::UserPassword { user, password }
    })
    .with(&[("SINEW_NATS_PASSWORD", "pw"), NATS])
    .text("you", &[]),
    #[cfg(feature = "nats")]
    Case::new("SINEW_NATS_PASSWORD", "hunter2", |it| {
        let (user, password) = ("me".to_owned(), "hunter2".to_owned());
        *auth(it) == NatsAuth::UserPassword { user, password }
    })
    .with(&[("SINEW_NATS_USER", "me"), NATS])
    .text("hunter3", &[]),
    #[cfg(feature = "nats")]
    Case::new("SINEW_NATS_TOKEN", "hunter2", |it| {
        *auth(it) == NatsAuth::Token("hunter2".to_owned())
    })
    .with(&[NATS])
    .text("u", &[]),
    #[cfg(feature = "nats-nkeys")]
    Case::new("SINEW_NATS_NKEY", "SUA", |it| *auth(it) == NatsAuth::Nkey("SUA".to_owned()))
        .with(&[NATS])
        .text("SUB", &[]),
    #[cfg(feature = "nats-nkeys")]
    Case::new("SINEW_NATS_CREDENTIALS_FILE", "/c", |it| {
        *auth(it) == NatsAuth::CredentialsFile("/c".into())
    })
    .with(&[NATS])
    .text("/d", &[]),
    #[cfg(feature = "nats-tls")]
    Case::new("SINEW_NATS_TLS_CA_FILE", "/ca", |it| it.nats_tls.ca_file == Some("/ca".into()))
        .with(&[NATS])
        .text("/d", &[]),
    #[cfg(feature = "nats-tls")]
    Case::new("SINEW_NATS_TLS_CERT_FILE", "/c", |it| {
        it.nats_tls.client_certificate_file == Some("/c".into())
    })
    .with(&[("SINEW_NATS_TLS_KEY_FILE", "/k"), NATS])
    .text("/d", &[]),
    #[cfg(feature = "nats-tls")]
    Case::new("SINEW_NATS_TLS_KEY_FILE", "/k", |it| {
        it.nats_tls.client_key_file == Some("/k".into())
    })
    .with(&[("SINEW_NATS_TLS_CERT_FILE", "/c"), NATS])
    .text("/d", &[]),
    Case::new("SINEW_NATS_ACK_TIMEOUT", "7", |it| it.nats_ack_timeout == SECONDS(7)),
    Case::new("SINEW_LISTEN_HOST", "[::1]", |it| it.listen.ip().to_string() == "::1")
        .text("0.0.0.0", &["a b", "no-such-if", "999.1.1.1", "host.example.com:1"]),
    Case::new("SINEW_LISTEN_PORT", "9001", |it| it.listen.port() == 9001),
    Case::new("SINEW_LISTEN_BACKLOG", "7", |it| it.tcp.listen.backlog == 7),
    Case::new("SINEW_ADVERTISE", "::1", |it| it.advertise.as_deref() == Some("::1"))
        .text("h:1", &["a b", "tcp://h:1", "h:0", "0.0.0.0", "[::]:9000", "bob@h"]),
    Case::new("SINEW_CALL_HOME_HOST", "[::]", |it| {
        it.call_home.host == ListenHost::Ip("::".parse().unwrap())
    })
    .text("0.0.0.0", &["a b", "no-such-if", "999.1.1.1"]),
    Case::new("SINEW_CALL_HOME_PORT", "9002", |it| it.call_home.port == 9002),
    Case::new("SINEW_CALL_HOME_ADVERTISE", "h:1", |it| {
        it.call_home.listen.advertise.as_deref() == Some("h:1")
    })
    .text("h:2", &["a b", "[::]"]),
    Case::new("SINEW_ALLOW_CALL_HOME", "10.0.0.0/8, fd00::7", |it| {
        let shown = it.dial_back.allowed_networks.iter().map(ToString::to_string);
        shown.collect::<Vec<_>>() == ["10.0.0.0/8", "fd00::7/128"]
    })
    .text("192.0.2.7", &["everywhere", "10.0.0.0/33", "10.0.0.0/8,", "host:80", "10.0.0.0/+8"]),
    Case::new("SINEW_INSECURE", "yes", |it| it.insecure),
    Case::new("SINEW_UNIX", "off", |it| !it.unix),
    Case::new("SINEW_FRAME_CHECKS", "write", |it| {
        it.frame_checks == Some(crate::FrameChecks::Write)
    }),
    Case::new("SINEW_CONNECT_TIMEOUT", "7", |it| {
        [frames(it).0, it.tcp.driver.connect_timeout] == [SECONDS(7); 2]
    }),
    Case::new("SINEW_RESUME_GRACE", "27", |it| {
        it.tcp.driver.mux.resume && it.tcp.driver.mux.resume_grace == SECONDS(27)
    }),
    #[cfg(feature = "dynamo")]
    Case::new("SINEW_ACK_TIMEOUT", "7", |it| it.frames.request_timeout == SECONDS(7)),
    #[cfg(feature = "dynamo")]
    Case::new("SINEW_FRAME_CONNECTIONS", "7", |it| it.frames.pool_size == 7),
    #[cfg(feature = "dynamo")]
    Case::new("SINEW_FRAME_PIPELINE", "7", |it| it.frames.max_pipelined == 7),
    #[cfg(feature = "dynamo")]
    Case::new("SINEW_FRAME_CONNECTS", "7", |it| it.frames.max_connects == 7),
    #[cfg(feature = "dynamo")]
    Case::new("SINEW_FRAME_IDLE_TIMEOUT", "7", |it| it.frames.idle_timeout == SECONDS(7)),
    Case::new("SINEW_TCP_POOL_ENABLED", "0", |it| !it.call_home.pool && !it.dial_back.pool),
    Case::new("SINEW_TCP_POOL_MAX_PER_TARGET", "7", |it| it.dial_back.max_per_target == 7),
    Case::new("DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS", "7", |it| {
        [it.limits.first_item, it.limits.idle] == [Some(SECONDS(7)); 2]
    }),
    Case::new("SINEW_MAX_MESSAGE_BYTES", "65536", |it| {
        let responses = [it.call_home.max_frame_bytes, it.dial_back.max_frame_bytes];
        let all = [responses, frames(it).1, [it.tcp.driver.mux.max_message_bytes; 2]];
        all == [[65_536; 2]; 3]
    }),
    Case::new("SINEW_MAX_IN_FLIGHT", "7", |it| it.max_in_flight == 7),
    Case::new("SINEW_MEMORY_BUDGET", "32MiB", |it| it.memory_budget == Some(32 << 20)),
    Case::new("SINEW_ACCEPT_TIMEOUT", "7", |it| it.limits.accept == Some(SECONDS(7))),
    Case::new("SINEW_FIRST_ITEM_TIMEOUT", "7", |it| it.limits.first_item == Some(SECONDS(7))),
    Case::new("SINEW_IDLE_TIMEOUT", "7", |it| it.limits.idle == Some(SECONDS(7))),
    Case::new("SINEW_STARTUP_WAIT", "7", |it| it.startup_wait == SECONDS(7)),
    Case::new("ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS", "7", |it| it.startup_wait == SECONDS(7)),
    Case::new("NATS_STARTUP_CONNECT_TIMEOUT_SECONDS", "7", |it| it.startup_wait == SECONDS(7)),
    Case::new("SINEW_GRACE_MS", "7", |it| it.grace == Duration::from_millis(7)),
    Case::new("DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT", "7", |it| it.grace == SECONDS(7)),
    Case::new("DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS", "7", |it| it.grace == SECONDS(7)),
    Case::new("XDG_RUNTIME_DIR", "/run/user/7", |it| {
        it.runtime_dir == Path::new("/run/user/7/sinew")
            && it.discovery.to_string() == "file:/run/user/7/sinew/discovery"
    })
    .text("/x", &["run", "./x"]),
    Case::new("TMPDIR", "/var/tmp", |it| {
        it.runtime_dir.starts_with("/var/tmp")
            && it.discovery.to_string().starts_with("file:/var/tmp/sinew-")
    })
    .text("/x", &["tmp", "../tmp"]),
];
