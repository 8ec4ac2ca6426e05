//! Checks for fields that overlap. Where two fields of a configuration could decide the same thing,
//! one decides it, and a change of the other is an error instead of being ignored.

use sinew_plane::BindPolicy;
use sinew_plane_call_home::{TcpStreamClientConfig, TcpStreamServerConfig};
use sinew_transport_tcp::{ListenConfig, TcpConfig};

use crate::{Config, ConfigError, RequestPlane};

/// Returns an error for a changed field of a nested configuration that a field of [`Config`]
/// decides.
///
/// # Errors
/// The error names the field, and the one to set instead.
pub(crate) fn check(config: &Config) -> Result<(), ConfigError> {
    let Config { tcp, call_home, dial_back, .. } = config;
    let (caller, worker) = (TcpStreamServerConfig::default(), TcpStreamClientConfig::default());
    // Of the listener the name alone is its own.
    let listen = ListenConfig { advertise: None, ..call_home.listen.clone() };
    let fields = [
        ("tcp.listen.bind_policy", tcp.listen.bind_policy != BindPolicy::LoopbackOnly, "insecure"),
        ("tcp.listen.advertise", tcp.listen.advertise.is_some(), "advertise"),
        ("tcp.unix_dir", tcp.unix_dir.is_some(), "unix and runtime_dir"),
        ("call_home.driver", differs(&call_home.driver, &caller.driver), "tcp.driver"),
        ("call_home.listen", differs(&listen, &caller.listen), "tcp.listen"),
        ("call_home.frame_checks", call_home.frame_checks.is_some(), "frame_checks"),
        ("dial_back.driver", differs(&dial_back.driver, &worker.driver), "tcp.driver"),
        ("dial_back.frame_checks", dial_back.frame_checks.is_some(), "frame_checks"),
        #[cfg(feature = "dynamo")]
        ("frame_server.budget", config.frame_server.budget.is_some(), "memory_budget"),
    ];
    decided(&fields)?;
    check_etcd(config)?;
    check_once(config)
}

/// Returns an error for two fields that say the same thing, each in its own way.
fn check_once(config: &Config) -> Result<(), ConfigError> {
    let both = |one: &str, other: &str| {
        Err(ConfigError::new(one, format!("and {other} contradict each other: leave one out")))
    };
    let (mux, default) = (&config.tcp.driver.mux, TcpConfig::default().driver.mux);
    let has_checks =
        mux.integrity != default.integrity || mux.verify_checks != default.verify_checks;
    if config.frame_checks.is_some() && has_checks {
        return both("tcp.driver.mux.integrity or verify_checks", "frame_checks");
    }
    // A configuration that was checked before has the budget that was made of the number.
    let budget = config.tcp.driver.budget.as_ref();
    if budget.zip(config.memory_budget).is_some_and(|(budget, bytes)| budget.limit() != bytes) {
        return both("tcp.driver.budget", "memory_budget");
    }
    if config.request_plane == RequestPlane::Tcp && !config.nats.is_empty() {
        return both("nats", "request_plane, which is `tcp`,");
    }
    Ok(())
}

#[cfg(feature = "etcd")]
fn check_etcd(config: &Config) -> Result<(), ConfigError> {
    let default = sinew_discovery::EtcdConfig::default();
    let fields = [
        ("etcd.endpoints", config.etcd.endpoints != default.endpoints, "discovery"),
        (
            "etcd.startup_timeout",
            config.etcd.startup_timeout != default.startup_timeout,
            "startup_wait",
        ),
    ];
    decided(&fields)
}

#[cfg(not(feature = "etcd"))]
fn check_etcd(_: &Config) -> Result<(), ConfigError> {
    Ok(())
}

/// Returns an error for the first of the fields that is set.
fn decided(fields: &[(&str, bool, &str)]) -> Result<(), ConfigError> {
    match fields.iter().find(|(_, is_set, _)| *is_set) {
        Some((field, _, decides)) => {
            Err(ConfigError::new(*field, format!("is decided by {decides}: set that instead")))
        }
        None => Ok(()),
    }
}

/// True if the two differ. Compares their debug text, which is enough for a comparison at the
/// start.
fn differs<T: std::fmt::Debug>(one: &T, other: &T) -> bool {
    format!("{one:?}") != format!("{other:?}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sinew_codec::ChecksumMode;
    use sinew_plane::ProcessId;

    use super::*;
    use crate::FrameChecks;

    #[test]
    fn a_field_that_another_decides_is_refused_with_that_one() {
        type Change = fn(&mut Config);
        let cases: &[(Change, &str, &str)] = &[
            (
                |it| it.tcp.listen.bind_policy = BindPolicy::Insecure,
                "tcp.listen.bind_policy",
                "insecure",
            ),
            (|it| it.tcp.listen.advertise = Some("h".into()), "tcp.listen.advertise", "advertise"),
            (|it| it.tcp.unix_dir = Some("/x".into()), "tcp.unix_dir", "runtime_dir"),
            (
                |it| it.call_home.driver.idle_timeout = Duration::from_secs(1),
                "call_home.driver",
                "tcp.driver",
            ),
            (|it| it.call_home.listen.backlog = 1, "call_home.listen", "tcp.listen"),
            (
                |it| it.call_home.frame_checks = Some(ChecksumMode::Off),
                "call_home.frame_checks",
                "frame_checks",
            ),
            (|it| it.dial_back.driver.mux.process = ProcessId(7), "dial_back.driver", "tcp.driver"),
            (
                |it| it.dial_back.frame_checks = Some(ChecksumMode::Off),
                "dial_back.frame_checks",
                "frame_checks",
            ),
        ];
        let more: &[(Change, &str, &str)] = &[
            #[cfg(feature = "etcd")]
            (|it| it.etcd.endpoints = vec!["h:1".into()], "etcd.endpoints", "discovery"),
            #[cfg(feature = "etcd")]
            (
                |it| it.etcd.startup_timeout = Duration::from_secs(1),
                "etcd.startup_timeout",
                "startup_wait",
            ),
            (
                |it| {
                    it.tcp.driver.mux.integrity = true;
                    it.frame_checks = Some(FrameChecks::Off);
                },
                "tcp.driver.mux.integrity or verify_checks",
                "frame_checks",
            ),
            (
                |it| {
                    it.tcp.driver.budget = Some(sinew_plane::Budget::new(64 << 20));
                    it.memory_budget = Some(32 << 20);
                },
                "tcp.driver.budget",
                "memory_budget",
            ),
            (
                |it| {
                    it.nats = vec!["nats://h:1".into()];
                    it.request_plane = RequestPlane::Tcp;
                },
                "nats",
                "request_plane",
            ),
        ];
        for (change, field, decides) in cases.iter().chain(more) {
            let mut config = Config::default();
            change(&mut config);
            let error = config.checked().unwrap_err();
            assert_eq!(error.setting(), *field);
            assert!(error.reason().contains(decides), "{error}");
        }
        // Its name is its own, and what is checked may be checked once more.
        let mut config = Config::default();
        config.call_home.listen.advertise = Some("caller.example".to_owned());
        let checked = config.checked().unwrap();
        assert!((*checked).clone().checked().is_ok());
    }
}
