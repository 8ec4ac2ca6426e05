//! Limits, timing and addresses of the transport.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sinew_codec::{ChecksumMode, TwoPartCodec};
use sinew_mux::{CheckedMuxConfig, ConfigError, MuxConfig, Token};
use sinew_net::{Admission, Advertised, SocketConnector, addresses, concrete};
use sinew_plane::{BindPolicy, Budget};

use crate::connection::CONNECTION_COST_BYTES;

/// Settings of one side of the transport. Start from [`TcpConfig::default`].
#[derive(Debug, Clone)]
pub struct TcpConfig {
    /// Limits and timing of each connection.
    pub mux: MuxConfig,
    /// What is done with the checks of frames, in the mux and in Dynamo's two-part frames. `None`
    /// writes none and looks at those that come; the mux has them where either side writes.
    pub frame_checks: Option<ChecksumMode>,
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
    /// Connections that a server has at once, and less where the process may not open so many
    /// files (`RLIMIT_NOFILE`, of which a quarter is left for other things). With another one, the
    /// connection is closed that has been idle for longest; without an idle one, the new one is.
    pub max_connections: usize,
    /// Connections from one address at once, all Unix sockets counting as one; `None` is half of
    /// all.
    pub max_connections_per_peer: Option<usize>,
    /// Files that this process is known to open for other things, as for programs that it runs:
    /// connections leave so many for them, and half at the most.
    pub reserved_descriptors: usize,
    /// Addresses that a client keeps connections to at once.
    pub max_targets: usize,
    /// Largest request that a server takes off Dynamo's request plane, in bytes with its path and
    /// headers.
    pub max_request_bytes: usize,
    /// Longest wait for the rest of such a request once it has begun; a long one must come along
    /// by 64 KiB in this time.
    pub frame_timeout: Duration,
    /// The memory budget of the process, to which bodies, frames and kept items are charged;
    /// with `None` they are bounded by the limits of each connection alone. Messages are no
    /// larger than seven eighths of a connection's share of it, a quarter, whatever the limits
    /// above say.
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
            frame_checks: None,
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            open_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            listen_backlog: 4_096,
            max_connections: 10_000,
            max_connections_per_peer: None,
            reserved_descriptors: 0,
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
    pub fn checked(mut self) -> Result<CheckedTcpConfig, ConfigError> {
        self.keep_to_budget();
        self.mux.integrity |= self.writes_checks();
        self.mux.verify_checks &= !matches!(self.frame_checks, Some(ChecksumMode::Write));
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
        if self.max_connections_per_peer == Some(0) {
            let field = "max_connections_per_peer";
            return Err(ConfigError { field, reason: "must be at least 1" });
        }
        if self.max_targets == 0 {
            return Err(ConfigError { field: "max_targets", reason: "must be at least 1" });
        }
        if self.max_request_bytes == 0 {
            return Err(ConfigError { field: "max_request_bytes", reason: "must be at least 1" });
        }
        Ok(CheckedTcpConfig { mux, tcp: self })
    }

    /// True when the frames of this side carry a check.
    pub(crate) fn writes_checks(&self) -> bool {
        matches!(self.frame_checks, Some(ChecksumMode::Write | ChecksumMode::Verify))
    }

    /// A codec for two-part frames of up to `max_frame_bytes`, which checks what these settings say.
    pub(crate) fn two_part_codec(&self, max_frame_bytes: usize) -> TwoPartCodec {
        let mode = self.frame_checks.unwrap_or(ChecksumMode::Verify);
        TwoPartCodec::new(max_frame_bytes).with_checksum(mode)
    }

    /// No message is announced as allowed for which a connection's share of the memory budget
    /// has never room.
    fn keep_to_budget(&mut self) {
        let Some(budget) = &self.budget else { return };
        let largest = budget.share() / 8 * 7;
        self.mux.max_message_bytes = self.mux.max_message_bytes.min(largest);
        self.max_request_bytes = self.max_request_bytes.min(largest);
        let window = u32::try_from(budget.share() / 2).unwrap_or(u32::MAX);
        self.mux.request_window_bytes = self.mux.request_window_bytes.min(window);
    }
}

/// A [`TcpConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedTcpConfig {
    pub(crate) mux: CheckedMuxConfig,
    tcp: TcpConfig,
}

impl CheckedTcpConfig {
    /// Who may connect to a listener, given what the process may open now, and that connections on
    /// which nothing runs may fill a quarter of the memory budget.
    pub(crate) fn admission(&self) -> Admission {
        let descriptors = sinew_net::descriptors();
        let others = self.reserved_descriptors;
        let limit = sinew_net::connection_limit(self.max_connections, others, descriptors);
        let memory = self.budget.as_ref().map(|budget| budget.limit() / 4 / CONNECTION_COST_BYTES);
        let limit = memory.map_or(limit, |memory| limit.min(memory));
        Admission::new(limit, self.max_connections_per_peer)
    }

    /// Connects as these settings say.
    pub(crate) fn connector(&self) -> SocketConnector {
        SocketConnector {
            resolve_timeout: self.connect_timeout,
            dead_after: self.mux.keepalive_timeout,
        }
    }

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
            _ => concrete(bound, addresses()).to_string(),
        }
    }
}

impl CheckedTcpConfig {
    /// The same for connections to a peer that gave this token.
    pub(crate) fn with_token(self, token: Token) -> Self {
        Self { mux: self.mux.with_token(token), ..self }
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
            (TcpConfig { max_connections_per_peer: Some(0), ..base() }, "max_connections_per_peer"),
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
