//! The settings of a router that follows plane policies.

use std::time::Duration;

use sinew_plane::ConfigError;

/// How a router follows the plane policy of its endpoint. What the policy says itself, such as its
/// margins, is in its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyConfig {
    /// The time between two shares of running streams, and between two looks at their health. From
    /// 10 ms to an hour; 1 s by default.
    pub interval: Duration,
    /// The least number of items that are to have come, and to have been due, before the times
    /// between them are compared. At least 1; 100 by default.
    pub min_items: u32,
    /// The least number of streams that have ended before the shares of their errors are compared.
    /// At least 1; 20 by default.
    pub min_ended: u32,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), min_items: 100, min_ended: 20 }
    }
}

impl PolicyConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first field that is out of bounds.
    pub fn checked(self) -> Result<CheckedPolicyConfig, ConfigError> {
        if !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&self.interval) {
            let reason = "must be from 10 ms to an hour";
            return Err(ConfigError { field: "interval", reason });
        }
        ConfigError::check_counts(&[
            ("min_items", self.min_items as usize),
            ("min_ended", self.min_ended as usize),
        ])?;
        Ok(CheckedPolicyConfig(self))
    }
}

/// A [`PolicyConfig`] within its bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedPolicyConfig(PolicyConfig);

impl std::ops::Deref for CheckedPolicyConfig {
    type Target = PolicyConfig;

    fn deref(&self) -> &PolicyConfig {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let field = |config: PolicyConfig| config.checked().map_err(|error| error.field).err();
        let base = PolicyConfig::default;
        assert_eq!(field(base()), None);
        for millis in [0, 9, 3_600_001] {
            let interval = Duration::from_millis(millis);
            assert_eq!(field(PolicyConfig { interval, ..base() }), Some("interval"));
        }
        assert_eq!(field(PolicyConfig { min_items: 0, ..base() }), Some("min_items"));
        assert_eq!(field(PolicyConfig { min_ended: 0, ..base() }), Some("min_ended"));
    }
}
