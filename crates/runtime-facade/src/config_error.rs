//! Which setting cannot be used.

/// Which setting cannot be used, and why. The operator's to mend; nothing was started.
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

    /// What was asked for is not in this build, but would be with a feature.
    pub(crate) fn not_in_this_build(setting: &str, what: &str, feature: &str) -> Self {
        let reason =
            format!("{what} is not in this build: unset it, or build with the feature `{feature}`");
        Self::new(setting, reason)
    }

    /// The setting: a variable of the environment, or a field of [`Config`](crate::Config).
    pub fn setting(&self) -> &str {
        &self.setting
    }

    /// What is wrong with it, and what to do.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
