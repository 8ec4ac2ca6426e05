//! The error for a setting that cannot be used.

/// A setting that cannot be used, and why. Nothing was started. The person who wrote the setting
/// has to change it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct ConfigError {
    setting: String,
    reason: String,
}

impl ConfigError {
    pub(crate) fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { setting: setting.into(), reason: reason.into() }
    }

    /// The error for something that this build lacks and that a feature would add.
    pub(crate) fn not_in_this_build(setting: &str, what: &str, feature: &str) -> Self {
        let reason =
            format!("{what} is not in this build: unset it, or build with the feature `{feature}`");
        Self::new(setting, reason)
    }

    /// The setting: a variable of the environment, or a field of [`Config`](crate::Config).
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// What is wrong with the setting, and what to do.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
