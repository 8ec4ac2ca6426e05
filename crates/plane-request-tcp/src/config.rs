//! Limits and timing of both sides of the request plane.

use std::{sync::Arc, time::Duration};

use sinew_plane::{Budget, ConfigError};

/// Settings of a [`TcpRequestClient`](crate::TcpRequestClient). The defaults are those of Dynamo,
/// if it has the setting.
#[derive(Debug, Clone)]
pub struct TcpRequestConfig {
    /// Largest request in bytes, with its path and headers. Not more than the workers accept.
    pub max_message_bytes: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for an acknowledgement after the request was passed to a connection. After it
    /// the connection is closed, because acknowledgements carry no number.
    pub request_timeout: Duration,
    /// Most connections per `HOST:PORT`.
    pub pool_size: usize,
    /// Most unacknowledged requests on one connection. If each connection has so many, another one
    /// is made.
    pub max_pipelined: usize,
    /// Most requests per `HOST:PORT` that wait for room on a connection. Further requests are
    /// refused at once.
    pub max_waiting: usize,
    /// Most connections that are being made at once, to all hosts together.
    pub max_connects: usize,
    /// Time without a request after which the connections to a host are closed.
    pub idle_timeout: Duration,
    /// Most hosts to which connections are kept at once.
    pub max_hosts: usize,
}

impl Default for TcpRequestConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: sinew_codec::DEFAULT_MAX_MESSAGE_SIZE,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            pool_size: 100,
            max_pipelined: 64,
            // Ten times what 100 connections carry: a few hundred bytes each, beside the request.
            max_waiting: 65_536,
            max_connects: 64,
            idle_timeout: Duration::from_secs(300),
            max_hosts: 4_096,
        }
    }
}

impl TcpRequestConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedTcpRequestConfig, ConfigError> {
        ConfigError::check_waits(&[
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("idle_timeout", self.idle_timeout),
        ])?;
        ConfigError::check_counts(&[
            ("max_message_bytes", self.max_message_bytes),
            ("pool_size", self.pool_size),
            ("max_pipelined", self.max_pipelined),
            ("max_waiting", self.max_waiting),
            ("max_connects", self.max_connects),
            ("max_hosts", self.max_hosts),
        ])?;
        if self.max_connects > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(ConfigError { field: "max_connects", reason: "is too large" });
        }
        Ok(CheckedTcpRequestConfig(self))
    }
}

/// A [`TcpRequestConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedTcpRequestConfig(TcpRequestConfig);

impl std::ops::Deref for CheckedTcpRequestConfig {
    type Target = TcpRequestConfig;

    fn deref(&self) -> &TcpRequestConfig {
        &self.0
    }
}

/// Settings of a [`TcpRequestServer`](crate::TcpRequestServer).
#[derive(Debug, Clone)]
pub struct TcpRequestServerConfig {
    /// Largest request, in bytes, with its path and headers. With a memory budget at most seven
    /// eighths of the share of one connection, which is a quarter of the budget.
    pub max_request_bytes: usize,
    /// Longest wait for the rest of a request that has begun. A long request must advance by 64 KiB
    /// in this time.
    pub frame_timeout: Duration,
    /// Longest time for which a peer may read no acknowledgements.
    pub write_timeout: Duration,
    /// A connection without a request for twice this time is closed. The side that dialled closes
    /// it earlier, because it knows whether a request is on its way.
    pub idle_timeout: Duration,
    /// The memory budget of the process, to which requests are charged. With `None` only the limits
    /// above bound them.
    pub budget: Option<Arc<Budget>>,
}

impl Default for TcpRequestServerConfig {
    fn default() -> Self {
        Self {
            max_request_bytes: sinew_codec::DEFAULT_MAX_MESSAGE_SIZE,
            frame_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            budget: None,
        }
    }
}

impl TcpRequestServerConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(mut self) -> Result<CheckedTcpRequestServerConfig, ConfigError> {
        if let Some(budget) = &self.budget {
            self.max_request_bytes = self.max_request_bytes.min(budget.share() / 8 * 7);
        }
        ConfigError::check_waits(&[
            ("frame_timeout", self.frame_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout),
        ])?;
        ConfigError::check_counts(&[("max_request_bytes", self.max_request_bytes)])?;
        Ok(CheckedTcpRequestServerConfig(self))
    }
}

/// A [`TcpRequestServerConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedTcpRequestServerConfig(TcpRequestServerConfig);

impl std::ops::Deref for CheckedTcpRequestServerConfig {
    type Target = TcpRequestServerConfig;

    fn deref(&self) -> &TcpRequestServerConfig {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = TcpRequestConfig::default;
        assert!(base().checked().is_ok());
        let zero = Duration::ZERO;
        for (config, field) in [
            (TcpRequestConfig { connect_timeout: zero, ..base() }, "connect_timeout"),
            (TcpRequestConfig { request_timeout: zero, ..base() }, "request_timeout"),
            (TcpRequestConfig { idle_timeout: zero, ..base() }, "idle_timeout"),
            (TcpRequestConfig { max_message_bytes: 0, ..base() }, "max_message_bytes"),
            (TcpRequestConfig { pool_size: 0, ..base() }, "pool_size"),
            (TcpRequestConfig { max_pipelined: 0, ..base() }, "max_pipelined"),
            (TcpRequestConfig { max_waiting: 0, ..base() }, "max_waiting"),
            (TcpRequestConfig { max_connects: usize::MAX, ..base() }, "max_connects"),
            (TcpRequestConfig { max_hosts: 0, ..base() }, "max_hosts"),
        ] {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
    }
    #[test]
    fn each_broken_rule_of_the_server_names_its_field() {
        let base = TcpRequestServerConfig::default;
        let zero = Duration::ZERO;
        for (config, field) in [
            (TcpRequestServerConfig { max_request_bytes: 0, ..base() }, "max_request_bytes"),
            (TcpRequestServerConfig { frame_timeout: zero, ..base() }, "frame_timeout"),
            (TcpRequestServerConfig { write_timeout: zero, ..base() }, "write_timeout"),
            (TcpRequestServerConfig { idle_timeout: zero, ..base() }, "idle_timeout"),
        ] {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
        let budget = Some(Budget::new(8 << 20));
        let checked = TcpRequestServerConfig { budget, ..base() }.checked().unwrap();
        assert_eq!(checked.max_request_bytes, (2 << 20) / 8 * 7);
    }
}
