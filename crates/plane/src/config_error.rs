//! The error for settings that are not valid.

use std::fmt;

/// A setting that is not valid, and why. Nothing was started. The program has to change the
/// setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// The rule it breaks.
    pub reason: &'static str,
}

impl ConfigError {
    /// Checks that each of these waits is longer than zero.
    ///
    /// # Errors
    /// The first wait that is not.
    pub fn check_waits(waits: &[(&'static str, std::time::Duration)]) -> Result<(), Self> {
        match waits.iter().find(|(_, wait)| wait.is_zero()) {
            Some((field, _)) => Err(Self { field, reason: "must be longer than zero" }),
            None => Ok(()),
        }
    }

    /// Checks that each of these counts is at least 1.
    ///
    /// # Errors
    /// The first count that is not.
    pub fn check_counts(counts: &[(&'static str, usize)]) -> Result<(), Self> {
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((field, _)) => Err(Self { field, reason: "must be at least 1" }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.reason)
    }
}

impl std::error::Error for ConfigError {}
