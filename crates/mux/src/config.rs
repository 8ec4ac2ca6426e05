//! Limits and timing of a connection.

use std::time::Duration;

use sinew_plane::{ConfigError, ProcessId, Window};

use crate::Token;

/// Settings of one side of a connection. Start from [`MuxConfig::default`] and change the fields
/// that differ; [`checked`](Self::checked) turns it into the form that the state machines take.
#[derive(Debug, Clone)]
pub struct MuxConfig {
    /// Identity of this process, random for each start. The hello shows it to the peer.
    pub process: ProcessId,
    /// Most streams that the peer may have open here at once.
    pub max_streams: u32,
    /// Largest request body or item, in bytes, in both directions. At most 1 GiB.
    pub max_message_bytes: usize,
    /// Window of a stream whose caller does not choose one: how many items and bytes a producer may
    /// be ahead of its consumer, which is also what it keeps for a replay.
    pub window: Window,
    /// Largest window that this side uses for one stream of the peer, even if the peer grants more.
    /// Also what this side takes beyond its own window of a stream that it takes over from another
    /// process, so processes that take streams over from each other need the same.
    pub max_window: Window,
    /// Most bytes of windows that this side grants to all streams of the connection together.
    /// Beyond it each new stream gets [`min_window_bytes`](Self::min_window_bytes), so memory stays
    /// under this value plus `max_streams` times `min_window_bytes`. At least `window.bytes`.
    pub connection_window_bytes: u64,
    /// Smallest window in bytes. At most `window.bytes`.
    pub min_window_bytes: u32,
    /// Most bytes of request bodies that the peer may send before this side grants more. A body may
    /// start while this window is not used up.
    pub request_window_bytes: u32,
    /// Longest time for 64 KiB of a request body to arrive. The bodies that arrive at once on a
    /// connection share this rate: with four of them, each needs 16 KiB in this time.
    pub body_timeout: Duration,
    /// Silence after which this side sends the peer a ping.
    pub keepalive_interval: Duration,
    /// Silence after which the peer counts as dead. Larger than `keepalive_interval`.
    pub keepalive_timeout: Duration,
    /// Adds a checksum to every frame. It is on if either side asks for it.
    pub integrity: bool,
    /// Verifies the checksums of the peer's frames. Without it they are removed and not verified.
    pub verify_checks: bool,
    /// Keeps streams after the loss of their carrier, and attaches them to another connection to
    /// the same process. Off if [`process`](Self::process) is not set.
    pub resume: bool,
    /// How long a producer keeps a stream whose connection is lost, and how long a consumer tries
    /// to attach again. Each end goes by its own setting, which an endpoint and a call can override.
    /// At least `keepalive_timeout`: a producer may see the loss at once and its consumer only by
    /// the silence, and must not have given up by then.
    pub resume_grace: Duration,
}

impl Default for MuxConfig {
    fn default() -> Self {
        Self {
            process: ProcessId::UNKNOWN,
            max_streams: 16_384,
            max_message_bytes: 32 << 20,
            window: Window { items: 1024, bytes: 256 << 10 },
            max_window: Window { items: 16_384, bytes: 1 << 20 },
            connection_window_bytes: 64 << 20,
            min_window_bytes: 2 << 10,
            request_window_bytes: 16 << 20,
            body_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(5),
            keepalive_timeout: Duration::from_secs(15),
            integrity: false,
            verify_checks: true,
            resume: true,
            resume_grace: Duration::from_secs(20),
        }
    }
}

/// Largest `max_message_bytes`: lengths are 32 bits on the wire, and this leaves room for
/// arithmetic on 32-bit machines.
const MAX_MESSAGE_CEILING: usize = 1 << 30;

/// Why a resume grace is refused.
const GRACE_RULE: &str = "must be at least keepalive_timeout: a producer that sees a loss would give \
                          its streams up before its consumers find their connection silent; `resume` \
                          turns both off";

impl MuxConfig {
    /// Turns checksums on if `writes` is true, and their verification off if `verifies` is false.
    /// Fields that are set already stay.
    pub fn check_frames(&mut self, writes: bool, verifies: bool) {
        self.integrity |= writes;
        self.verify_checks &= verifies;
    }

    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedMuxConfig, ConfigError> {
        let fault = |field, reason| Err(ConfigError { field, reason });
        if self.max_streams == 0 {
            return fault("max_streams", "must be at least 1");
        }
        if self.max_message_bytes == 0 || self.max_message_bytes > MAX_MESSAGE_CEILING {
            return fault("max_message_bytes", "must be between 1 byte and 1 GiB");
        }
        if self.window.items == 0 || self.window.bytes == 0 {
            return fault("window", "must allow at least 1 item and 1 byte");
        }
        if self.max_window.items == 0 || self.max_window.bytes == 0 {
            return fault("max_window", "must allow at least 1 item and 1 byte");
        }
        if self.min_window_bytes == 0 || self.min_window_bytes > self.window.bytes {
            return fault("min_window_bytes", "must be between 1 and window.bytes");
        }
        if self.connection_window_bytes < u64::from(self.window.bytes) {
            return fault("connection_window_bytes", "must be at least window.bytes");
        }
        if self.request_window_bytes == 0 {
            return fault("request_window_bytes", "must be at least 1");
        }
        if self.body_timeout.is_zero() {
            return fault("body_timeout", "must be longer than zero");
        }
        if self.keepalive_interval.is_zero() || self.keepalive_timeout <= self.keepalive_interval {
            return fault(
                "keepalive_timeout",
                "must be larger than keepalive_interval, both over 0",
            );
        }
        if self.resume && self.resume_grace < self.keepalive_timeout {
            return fault("resume_grace", GRACE_RULE);
        }
        Ok(CheckedMuxConfig { config: self, token: None })
    }
}

/// A [`MuxConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedMuxConfig {
    config: MuxConfig,
    token: Option<Token>,
}

impl CheckedMuxConfig {
    /// Sets the token that the hello shows, for connections to the peer that gave it.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// True if streams are kept after the loss of their carrier.
    pub fn resumes(&self) -> bool {
        self.resume && self.process.is_known()
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.token
    }
}

impl std::ops::Deref for CheckedMuxConfig {
    type Target = MuxConfig;

    fn deref(&self) -> &MuxConfig {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = MuxConfig::default;
        let cases = [
            (MuxConfig { max_streams: 0, ..base() }, "max_streams"),
            (MuxConfig { max_message_bytes: 0, ..base() }, "max_message_bytes"),
            (MuxConfig { max_message_bytes: (1 << 30) + 1, ..base() }, "max_message_bytes"),
            (MuxConfig { window: Window { items: 0, bytes: 1 }, ..base() }, "window"),
            (MuxConfig { max_window: Window { items: 1, bytes: 0 }, ..base() }, "max_window"),
            (MuxConfig { min_window_bytes: 0, ..base() }, "min_window_bytes"),
            (MuxConfig { connection_window_bytes: 1, ..base() }, "connection_window_bytes"),
            (MuxConfig { request_window_bytes: 0, ..base() }, "request_window_bytes"),
            (MuxConfig { body_timeout: Duration::ZERO, ..base() }, "body_timeout"),
            (
                MuxConfig { keepalive_timeout: Duration::from_secs(5), ..base() },
                "keepalive_timeout",
            ),
        ];
        for (config, field) in cases {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
        let short = MuxConfig { resume_grace: Duration::from_secs(14), ..base() };
        let refusal = short.clone().checked().unwrap_err();
        assert_eq!(refusal.field, "resume_grace");
        assert!(refusal.reason.contains("keepalive_timeout"), "{refusal}");
        assert!(MuxConfig { resume: false, ..short }.checked().is_ok());
        assert!(base().checked().is_ok());
    }
}
