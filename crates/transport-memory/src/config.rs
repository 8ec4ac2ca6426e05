//! Limits of a hub and its streams.

use std::sync::Arc;

use sinew_plane::{Budget, ConfigError, Window};

/// Settings of a [`MemoryHub`](crate::MemoryHub). Start from [`MemoryConfig::default`] and change
/// the fields that differ.
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    /// Largest request body or item, in bytes. At least 1.
    pub max_message_bytes: usize,
    /// Most open streams of one server. Further requests are refused as
    /// [`Overloaded`](sinew_plane::Code::Overloaded). At least 1.
    pub max_streams: usize,
    /// Window of a stream whose caller does not choose one.
    pub window: Window,
    /// The memory budget of the process. Waiting items of a stream beyond 16 KiB are charged to it
    /// as far as it has room, so that new requests of peers are refused earlier. No stream within
    /// the process waits or ends because the budget is spent. `None` by default.
    pub budget: Option<Arc<Budget>>,
}

impl Default for MemoryConfig {
    /// 32 MiB messages, 10,000 streams, 1,024 items and 256 KiB of window: what the network
    /// transports have too, so that a program behaves alike when it is split over processes.
    fn default() -> Self {
        Self {
            max_message_bytes: 32 << 20,
            max_streams: 10_000,
            window: Window { items: 1024, bytes: 256 << 10 },
            budget: None,
        }
    }
}

impl MemoryConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedMemoryConfig, ConfigError> {
        let fault = |field, reason| Err(ConfigError { field, reason });
        if self.max_message_bytes == 0 {
            return fault("max_message_bytes", "must be at least 1");
        }
        if self.max_streams == 0 {
            return fault("max_streams", "must be at least 1");
        }
        if self.window.items == 0 || self.window.bytes == 0 {
            return fault("window", "must allow at least 1 item and 1 byte");
        }
        Ok(CheckedMemoryConfig(self))
    }
}

/// A [`MemoryConfig`] that keeps its rules.
// The default draft keeps the rules, which a test below checks.
#[derive(Debug, Clone, Default)]
pub struct CheckedMemoryConfig(MemoryConfig);

impl std::ops::Deref for CheckedMemoryConfig {
    type Target = MemoryConfig;

    fn deref(&self) -> &MemoryConfig {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_rule_names_its_field() {
        let base = MemoryConfig::default;
        let no_items = Window { items: 0, bytes: 1 };
        let no_bytes = Window { items: 1, bytes: 0 };
        for (config, field) in [
            (MemoryConfig { max_message_bytes: 0, ..base() }, "max_message_bytes"),
            (MemoryConfig { max_streams: 0, ..base() }, "max_streams"),
            (MemoryConfig { window: no_items, ..base() }, "window"),
            (MemoryConfig { window: no_bytes, ..base() }, "window"),
        ] {
            assert_eq!(config.checked().unwrap_err().field, field);
        }
        assert!(base().checked().is_ok());
    }
}
