//! Limits, timing and addresses of the transport.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sinew_mux::{CheckedMuxConfig, ConfigError, MuxConfig};
use sinew_plane::{BindPolicy, Budget};

use crate::{Advertised, call_home::interface};

/// Settings of one side of the transport. Start from [`TcpConfig::default`].
#[derive(Debug, Clone)]
pub struct TcpConfig {
    /// Limits and timing of each connection.
    pub mux: MuxConfig,
    /// Longest wait for a connection, until the first byte can be sent.
    pub connect_timeout: Duration,
    /// Longest wait for the peer's hello, on either side.
    pub handshake_timeout: Duration,
    /// Longest wait for a free stream or request window on a connection that has none.
    pub open_timeout: Duration,
    /// Longest time that a peer may leave its socket unread before it counts as dead.
    pub write_timeout: Duration,
    /// Pause after the first failed dial; doubles with each further one, with full jitter.
    pub backoff_base: Duration,
    /// Longest pause between dials.
    pub backoff_max: Duration,
    /// A connection without a stream for this long is closed by the side that dialled.
    pub idle_timeout: Duration,
    /// Connections that wait to be accepted, so that a burst of callers is not refused; the kernel
    /// may allow fewer.
    pub listen_backlog: u32,
    /// Connections that a server has at once; more are closed as they come.
    pub max_connections: usize,
    /// Addresses that a client keeps connections to at once.
    pub max_targets: usize,
    /// Largest request that a server takes off Dynamo's request plane, in bytes with its path and
    /// headers.
    pub max_request_bytes: usize,
    /// Longest wait for the rest of such a request once it has begun; a long one must come along
    /// by 64 KiB in this time.
    pub frame_timeout: Duration,
    /// The memory budget of the process, to which bodies, frames and kept items are charged;
    /// with `None` they are bounded by the limits of each connection alone.
    pub budget: Option<Arc<Budget>>,
    /// Which addresses a server may bind.
    pub bind_policy: BindPolicy,
    /// What a server advertises in place of the address it is bound to: `HOST:PORT`, or `HOST`
    /// with the port that it got. Read as [`Advertised`](crate::Advertised).
    pub advertise: Option<String>,
    /// Where a server puts a Unix domain socket beside its TCP port, for callers on the same
    /// host; `None` for TCP alone. The folder is made with mode 0700; one that is there must be this
    /// user's, no link, and closed to everyone else. Peers of other users are not spoken to there.
    pub unix_dir: Option<PathBuf>,
}

impl Default for TcpConfig {
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
            listen_backlog: 4_096,
            max_connections: 10_000,
            max_targets: 4_096,
            max_request_bytes: sinew_codec::DEFAULT_MAX_MESSAGE_SIZE,
            frame_timeout: Duration::from_secs(30),
            budget: None,
            bind_policy: BindPolicy::LoopbackOnly,
            advertise: None,
            unix_dir: None,
        }
    }
}

impl TcpConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedTcpConfig, ConfigError> {
        let mux = self.mux.clone().checked()?;
        let waits = [
            ("connect_timeout", self.connect_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("open_timeout", self.open_timeout),
            ("write_timeout", self.write_timeout),
            ("backoff_base", self.backoff_base),
            ("idle_timeout", self.idle_timeout),
            ("frame_timeout", self.frame_timeout),
        ];
        if let Some((field, _)) = waits.iter().find(|(_, wait)| wait.is_zero()) {
            return Err(ConfigError { field, reason: "must be longer than zero" });
        }
        if self.backoff_max < self.backoff_base {
            return Err(ConfigError {
                field: "backoff_max",
                reason: "must be at least backoff_base",
            });
        }
        if self.listen_backlog == 0 {
            return Err(ConfigError { field: "listen_backlog", reason: "must be at least 1" });
        }
        if let Some(advertise) = &self.advertise {
            let advertised = advertise.parse::<Advertised>();
            advertised.map_err(|reason| ConfigError { field: "advertise", reason })?;
        }
        if self.max_connections == 0 {
            return Err(ConfigError { field: "max_connections", reason: "must be at least 1" });
        }
        if self.max_targets == 0 {
            return Err(ConfigError { field: "max_targets", reason: "must be at least 1" });
        }
        if self.max_request_bytes == 0 {
            return Err(ConfigError { field: "max_request_bytes", reason: "must be at least 1" });
        }
        Ok(CheckedTcpConfig { mux, tcp: self })
    }
}

/// A [`TcpConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedTcpConfig {
    pub(crate) mux: CheckedMuxConfig,
    tcp: TcpConfig,
}

impl CheckedTcpConfig {
    /// The same settings, for TCP alone.
    #[must_use]
    pub fn without_unix(mut self) -> Self {
        self.tcp.unix_dir = None;
        self
    }

    /// What others are told for an address that is bound.
    pub(crate) fn told(&self, bound: SocketAddr) -> String {
        match self.advertise.as_deref().map(str::parse::<Advertised>) {
            // Nothing is bound before it has been read.
            Some(Ok(advertised)) => advertised.with_port(bound.port()),
            _ => interface::concrete(bound, interface::addresses()).to_string(),
        }
    }
}

impl std::ops::Deref for CheckedTcpConfig {
    type Target = TcpConfig;

    fn deref(&self) -> &TcpConfig {
        &self.tcp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = TcpConfig::default;
        let cases = [
            (TcpConfig { connect_timeout: Duration::ZERO, ..base() }, "connect_timeout"),
            (TcpConfig { backoff_max: Duration::ZERO, ..base() }, "backoff_max"),
            (TcpConfig { listen_backlog: 0, ..base() }, "listen_backlog"),
            (TcpConfig { advertise: Some("0.0.0.0".to_owned()), ..base() }, "advertise"),
            (TcpConfig { max_connections: 0, ..base() }, "max_connections"),
            (TcpConfig { max_targets: 0, ..base() }, "max_targets"),
            (TcpConfig { max_request_bytes: 0, ..base() }, "max_request_bytes"),
            (TcpConfig { frame_timeout: Duration::ZERO, ..base() }, "frame_timeout"),
            (
                TcpConfig { mux: MuxConfig { max_streams: 0, ..MuxConfig::default() }, ..base() },
                "max_streams",
            ),
        ];
        for (config, field) in cases {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
    }
}
