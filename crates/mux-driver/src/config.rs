//! Limits and timing of connections, for every carrier.

use std::{sync::Arc, time::Duration};

use sinew_mux::{CheckedMuxConfig, MuxConfig, Token};
use sinew_net::SocketConnector;
use sinew_plane::{Budget, ConfigError, ConnectionEvents};

/// Settings of the connections of one side. Start from [`DriverConfig::default`].
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// Limits and timing of the protocol.
    pub mux: MuxConfig,
    /// Longest wait for a carrier to connect.
    pub connect_timeout: Duration,
    /// Longest wait for the peer's hello, on either side.
    pub handshake_timeout: Duration,
    /// Longest wait for a free stream or request window on a connection that has none.
    pub open_timeout: Duration,
    /// Longest time for which a peer may read nothing before it counts as dead.
    pub write_timeout: Duration,
    /// Pause after the first failed dial; doubles with each further one, with full jitter.
    pub backoff_base: Duration,
    /// Longest pause between dials.
    pub backoff_max: Duration,
    /// The side that dialled closes a connection that has had no stream for this time.
    pub idle_timeout: Duration,
    /// Most addresses to which a client keeps connections at once.
    pub max_targets: usize,
    /// The memory budget of the process, to which bodies, frames and kept items are charged. With
    /// `None` only the limits of each connection bound them. Whatever the limits above say, a
    /// message is at most seven eighths of the share of one connection, which is a quarter of the
    /// budget.
    pub budget: Option<Arc<Budget>>,
    /// Who hears of the connections that this side makes for its calls, and of their streams that
    /// go on over others. Nobody by default, which costs nothing.
    pub events: ConnectionEvents,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            mux: MuxConfig::default(),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            open_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            max_targets: 4_096,
            budget: None,
            events: ConnectionEvents::default(),
        }
    }
}

impl DriverConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(mut self) -> Result<CheckedDriverConfig, ConfigError> {
        self.keep_to_budget();
        let mux = self.mux.clone().checked()?;
        ConfigError::check_waits(&[
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("open_timeout", self.open_timeout),
            ("write_timeout", self.write_timeout),
            ("backoff_base", self.backoff_base),
            ("idle_timeout", self.idle_timeout),
        ])?;
        if self.backoff_max < self.backoff_base {
            return Err(ConfigError {
                field: "backoff_max",
                reason: "must be at least backoff_base",
            });
        }
        ConfigError::check_counts(&[("max_targets", self.max_targets)])?;
        Ok(CheckedDriverConfig { mux, driver: self })
    }

    /// No message is announced as allowed for which a connection's share of the memory budget
    /// has never room.
    fn keep_to_budget(&mut self) {
        let Some(budget) = &self.budget else { return };
        let largest = budget.share() / 8 * 7;
        self.mux.max_message_bytes = self.mux.max_message_bytes.min(largest);
        let window = u32::try_from(budget.share() / 2).unwrap_or(u32::MAX);
        self.mux.request_window_bytes = self.mux.request_window_bytes.min(window);
    }
}

/// A [`DriverConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedDriverConfig {
    pub(crate) mux: CheckedMuxConfig,
    driver: DriverConfig,
}

impl CheckedDriverConfig {
    /// The settings of the protocol, checked.
    pub fn mux(&self) -> &CheckedMuxConfig {
        &self.mux
    }

    /// Makes a connector for sockets with these settings.
    pub fn socket_connector(&self) -> SocketConnector {
        SocketConnector {
            resolve_timeout: self.connect_timeout,
            dead_after: self.mux.keepalive_timeout,
        }
    }

    /// Sets the token for connections to the peer that gave it.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { mux: self.mux.with_token(token), ..self }
    }
}

impl std::ops::Deref for CheckedDriverConfig {
    type Target = DriverConfig;

    fn deref(&self) -> &DriverConfig {
        &self.driver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = DriverConfig::default;
        let cases = [
            (DriverConfig { connect_timeout: Duration::ZERO, ..base() }, "connect_timeout"),
            (DriverConfig { backoff_max: Duration::ZERO, ..base() }, "backoff_max"),
            (DriverConfig { max_targets: 0, ..base() }, "max_targets"),
            (
                DriverConfig {
                    mux: MuxConfig { max_streams: 0, ..MuxConfig::default() },
                    ..base()
                },
                "max_streams",
            ),
        ];
        for (config, field) in cases {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
    }
}
