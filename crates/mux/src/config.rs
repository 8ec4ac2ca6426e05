//! Limits and timing of a connection.

use std::time::Duration;

use sinew_plane::{ConfigError, ProcessId, Window};

use crate::Token;

/// Settings of one side of a connection. Start from [`MuxConfig::default`] and change what you
/// know better; [`checked`](Self::checked) turns it into what the machines take.
#[derive(Debug, Clone)]
pub struct MuxConfig {
    /// Identity of this process, random per start; shown to the peer in the hello.
    pub process: ProcessId,
    /// Streams the peer may have running here at once.
    pub max_streams: u32,
    /// Largest request body or item, in bytes, both ways. At most 1 GiB.
    pub max_message_bytes: usize,
    /// Window of a stream whose caller does not choose one: items and bytes a producer may be
    /// ahead of its consumer, and keeps for a replay.
    pub window: Window,
    /// Largest window that a peer may have this side keep for one of its streams, whatever it
    /// grants.
    pub max_window: Window,
    /// Windows that this side has granted at once over all streams of the connection, in bytes.
    /// Beyond it new streams get [`min_window_bytes`](Self::min_window_bytes) each, so memory
    /// stays under this plus `max_streams` times that. At least `window.bytes`.
    pub connection_window_bytes: u64,
    /// Smallest window in bytes. At most `window.bytes`.
    pub min_window_bytes: u32,
    /// Request bodies that the peer may have under way to this side, in bytes; a body may start
    /// while this is not used up.
    pub request_window_bytes: u32,
    /// Longest time in which a request body that has begun may come along by less than 64 KiB. All
    /// bodies on a connection together have to: with four of them, each by 16 KiB.
    pub body_timeout: Duration,
    /// Silence after which the peer is asked whether it is there.
    pub keepalive_interval: Duration,
    /// Silence after which the peer counts as dead. Larger than `keepalive_interval`.
    pub keepalive_timeout: Duration,
    /// Follow every frame with a check. On when either side asks for it.
    pub integrity: bool,
    /// Look at the checks that the peer's frames carry. Without it they are only taken off: the
    /// peer may still look at this side's.
    pub verify_checks: bool,
    /// Keep streams after the loss of their carrier, and come back for them over another connection
    /// to the same process. Without a [`process`](Self::process) it is off.
    pub resume: bool,
    /// How long a stream is kept for its consumer, and how long a consumer tries to come back.
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
            resume_grace: Duration::from_secs(10),
        }
    }
}

/// Largest `max_message_bytes`: lengths are 32 bits on the wire, and this leaves room for
/// arithmetic on 32-bit machines.
const MAX_MESSAGE_CEILING: usize = 1 << 30;

impl MuxConfig {
    /// Has frames carry a check where `writes` says so, and has those of the peer looked at unless
    /// `verifies` says otherwise. What is set already stays.
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
        if self.resume_grace.is_zero() {
            return fault("resume_grace", "must be longer than zero; `resume` turns it off");
        }
        if self.keepalive_interval.is_zero() || self.keepalive_timeout <= self.keepalive_interval {
            return fault(
                "keepalive_timeout",
                "must be larger than keepalive_interval, both over 0",
            );
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
    /// The same for connections to a peer that gave this token: the hello shows it.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// True when streams are kept after the loss of their carrier.
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
        assert!(base().checked().is_ok());
    }
}
