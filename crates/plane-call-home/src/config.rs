//! Limits, timing and addresses of both sides of the call-home plane.

use std::time::Duration;

use sinew_codec::{ChecksumMode, TwoPartCodec};
use sinew_mux_driver::{CheckedDriverConfig, DriverConfig};
use sinew_net::{CheckedListenConfig, ListenConfig, ListenHost};
use sinew_plane::ConfigError;

use crate::worker::Network;

/// Settings of a [`TcpStreamServer`](crate::TcpStreamServer). Start from
/// [`TcpStreamServerConfig::default`].
#[derive(Debug, Clone)]
pub struct TcpStreamServerConfig {
    /// Limits of shared connections; `write_timeout` and `budget` apply to all connections. A stream
    /// that has lost its shared connection waits for another one of its worker for
    /// `mux.resume_grace`, and goes on there. Where it cannot (`mux.resume` is off at either end, or
    /// the worker does not know the stream) and has not begun, it is asked for again, and
    /// `open_timeout` is the longest wait for the connection.
    pub driver: DriverConfig,
    /// Limits of the listener.
    pub listen: ListenConfig,
    /// Whether frames carry checksums and are verified, in the mux and in Dynamo's two-part frames.
    /// `None` writes none and verifies those that arrive; mux frames have checksums if either side
    /// asks for them.
    pub frame_checks: Option<ChecksumMode>,
    /// The host to listen on.
    pub host: ListenHost,
    /// The port to listen on; 0 picks a free one.
    pub port: u16,
    /// Longest wait for the first message of a connection.
    pub handshake_timeout: Duration,
    /// Longest wait for a worker to connect. The same limit applies again to its message that the
    /// handler has started.
    pub prologue_timeout: Duration,
    /// Longest wait for an item while the consumer reads. `None` means no limit.
    pub item_timeout: Option<Duration>,
    /// Longest wait for a worker to end a stream that was killed, or stopped before it began.
    pub cancel_timeout: Duration,
    /// Largest frame, in bytes, including its prefix of 24 bytes.
    pub max_frame_bytes: usize,
    /// Most streams that are expected or open at once.
    pub max_streams: usize,
    /// How long requests to a removed instance are refused.
    pub tombstone_ttl: Duration,
    /// Offers workers shared connections for many streams. Workers that do not support them use one
    /// connection per stream.
    pub pool: bool,
}

impl Default for TcpStreamServerConfig {
    fn default() -> Self {
        Self {
            driver: DriverConfig::default(),
            listen: ListenConfig::default(),
            frame_checks: None,
            host: ListenHost::Automatic,
            port: 0,
            handshake_timeout: Duration::from_secs(10),
            prologue_timeout: Duration::from_secs(60),
            item_timeout: None,
            cancel_timeout: Duration::from_secs(2),
            max_frame_bytes: sinew_codec::DEFAULT_MAX_MESSAGE_SIZE,
            max_streams: 65_536,
            tombstone_ttl: Duration::from_secs(5),
            pool: true,
        }
    }
}

impl TcpStreamServerConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedTcpStreamServerConfig, ConfigError> {
        ConfigError::check_waits(&[
            ("handshake_timeout", self.handshake_timeout),
            ("prologue_timeout", self.prologue_timeout),
            ("item_timeout", self.item_timeout.unwrap_or(Duration::MAX)),
            ("cancel_timeout", self.cancel_timeout),
        ])?;
        ConfigError::check_counts(&[("max_streams", self.max_streams)])?;
        check_frame_limit(self.max_frame_bytes)?;
        let driver = checked_driver(&self.driver, self.frame_checks)?;
        let listen = self.listen.clone().checked()?;
        Ok(CheckedTcpStreamServerConfig { driver, listen, config: self })
    }
}

/// A [`TcpStreamServerConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedTcpStreamServerConfig {
    pub(crate) driver: CheckedDriverConfig,
    pub(crate) listen: CheckedListenConfig,
    config: TcpStreamServerConfig,
}

impl CheckedTcpStreamServerConfig {
    /// True if streams over shared connections outlive these: [`pool`](TcpStreamServerConfig::pool)
    /// and `driver.mux.resume` are on, and the process has an identity. A worker that has either off
    /// has its streams end with their connections.
    pub fn resumes(&self) -> bool {
        self.pool && self.driver.mux().resumes()
    }

    /// A codec for the frames of this side, which checks what the settings say.
    pub(crate) fn two_part_codec(&self) -> TwoPartCodec {
        two_part_codec(self.max_frame_bytes, self.frame_checks)
    }

    /// True when the frames of this side carry a check.
    pub(crate) fn writes_checks(&self) -> bool {
        writes_checks(self.frame_checks)
    }
}

impl std::ops::Deref for CheckedTcpStreamServerConfig {
    type Target = TcpStreamServerConfig;

    fn deref(&self) -> &TcpStreamServerConfig {
        &self.config
    }
}

/// Settings of a [`TcpStreamClient`](crate::TcpStreamClient). Start from
/// [`TcpStreamClientConfig::default`].
#[derive(Debug, Clone)]
pub struct TcpStreamClientConfig {
    /// Limits of shared connections. `connect_timeout` covers all attempts to reach a caller
    /// together, and a shared connection is closed after `idle_timeout` without a stream. When one is
    /// lost with streams, the worker keeps them for `mux.resume_grace`, and dials the caller again.
    pub driver: DriverConfig,
    /// As [`TcpStreamServerConfig::frame_checks`].
    pub frame_checks: Option<ChecksumMode>,
    /// How often a dial is tried again after a failure that may be temporary.
    pub dial_retries: u32,
    /// Pause before the first of these attempts; the pause grows by this time before each further
    /// one.
    pub dial_backoff: Duration,
    /// Further networks in which callers may be dialled. Always allowed are the address that a
    /// request came from, addresses of the same link, this host's own addresses for a caller on
    /// this host, and the networks of this host's interfaces for a request over a broker. A
    /// link-local address needs a link-local network here.
    pub allowed_networks: Vec<Network>,
    /// Largest frame, in bytes, including its prefix of 24 bytes.
    pub max_frame_bytes: usize,
    /// Longest wait for the caller to close a connection after the last frame.
    pub close_timeout: Duration,
    /// Uses shared connections for many streams, if the caller offers them.
    pub pool: bool,
    /// Most shared connections to one caller.
    pub max_per_target: usize,
    /// How many streams each shared connection has before another one is made.
    pub streams_per_connection: usize,
    /// Longest wait until the caller opens its stream on a shared connection, and longest wait of
    /// such an opened stream for its request.
    pub open_timeout: Duration,
}

impl Default for TcpStreamClientConfig {
    fn default() -> Self {
        Self {
            driver: DriverConfig::default(),
            frame_checks: None,
            dial_retries: 5,
            dial_backoff: Duration::from_millis(200),
            allowed_networks: Vec::new(),
            max_frame_bytes: sinew_codec::DEFAULT_MAX_MESSAGE_SIZE,
            close_timeout: Duration::from_secs(10),
            pool: true,
            max_per_target: 50,
            streams_per_connection: 256,
            open_timeout: Duration::from_secs(10),
        }
    }
}

impl TcpStreamClientConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedTcpStreamClientConfig, ConfigError> {
        ConfigError::check_waits(&[
            ("dial_backoff", self.dial_backoff),
            ("close_timeout", self.close_timeout),
            ("open_timeout", self.open_timeout),
        ])?;
        ConfigError::check_counts(&[
            ("max_per_target", self.max_per_target),
            ("streams_per_connection", self.streams_per_connection),
        ])?;
        check_frame_limit(self.max_frame_bytes)?;
        let driver = checked_driver(&self.driver, self.frame_checks)?;
        Ok(CheckedTcpStreamClientConfig { driver, config: self })
    }
}

/// A [`TcpStreamClientConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedTcpStreamClientConfig {
    pub(crate) driver: CheckedDriverConfig,
    config: TcpStreamClientConfig,
}

impl CheckedTcpStreamClientConfig {
    /// A codec for the frames of this side, which checks what the settings say.
    pub(crate) fn two_part_codec(&self) -> TwoPartCodec {
        two_part_codec(self.max_frame_bytes, self.frame_checks)
    }

    /// True when the frames of this side carry a check.
    pub(crate) fn writes_checks(&self) -> bool {
        writes_checks(self.frame_checks)
    }
}

impl std::ops::Deref for CheckedTcpStreamClientConfig {
    type Target = TcpStreamClientConfig;

    fn deref(&self) -> &TcpStreamClientConfig {
        &self.config
    }
}

fn writes_checks(mode: Option<ChecksumMode>) -> bool {
    matches!(mode, Some(ChecksumMode::Write | ChecksumMode::Verify))
}

fn two_part_codec(max_frame_bytes: usize, mode: Option<ChecksumMode>) -> TwoPartCodec {
    TwoPartCodec::new(max_frame_bytes).with_checksum(mode.unwrap_or(ChecksumMode::Verify))
}

/// The settings of shared connections, whose frames are checked as the others.
fn checked_driver(
    driver: &DriverConfig,
    mode: Option<ChecksumMode>,
) -> Result<CheckedDriverConfig, ConfigError> {
    let mut driver = driver.clone();
    driver.mux.check_frames(writes_checks(mode), mode != Some(ChecksumMode::Write));
    driver.checked()
}

fn check_frame_limit(bytes: usize) -> Result<(), ConfigError> {
    // A frame of control must fit, and a length must fit into 32 bits on a small machine.
    if (1024..=1 << 30).contains(&bytes) {
        return Ok(());
    }
    let reason = "must be between 1 KiB and 1 GiB";
    Err(ConfigError { field: "max_frame_bytes", reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let server = TcpStreamServerConfig::default;
        let zero = Duration::ZERO;
        for (config, field) in [
            (TcpStreamServerConfig { handshake_timeout: zero, ..server() }, "handshake_timeout"),
            (TcpStreamServerConfig { prologue_timeout: zero, ..server() }, "prologue_timeout"),
            (TcpStreamServerConfig { item_timeout: Some(zero), ..server() }, "item_timeout"),
            (TcpStreamServerConfig { max_streams: 0, ..server() }, "max_streams"),
            (TcpStreamServerConfig { max_frame_bytes: 10, ..server() }, "max_frame_bytes"),
        ] {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
        let client = TcpStreamClientConfig::default;
        for (config, field) in [
            (TcpStreamClientConfig { dial_backoff: zero, ..client() }, "dial_backoff"),
            (TcpStreamClientConfig { max_per_target: 0, ..client() }, "max_per_target"),
            (TcpStreamClientConfig { max_frame_bytes: usize::MAX, ..client() }, "max_frame_bytes"),
        ] {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
    }
}
