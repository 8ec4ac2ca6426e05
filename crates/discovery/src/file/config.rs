//! Settings of the file backend.

use std::time::Duration;

use sinew_folder::Rules;

use crate::DiscoveryError;

/// Touching more often than this only wears the disk.
const MIN_HEARTBEAT: Duration = Duration::from_secs(1);

/// Settings of a [`FileDiscovery`](super::FileDiscovery). The default times suit a local disk and
/// are those of a stock Dynamo peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileConfig {
    /// How long a record may stay unchanged before its owner counts as ended. Owners touch their
    /// records every third of this time, or every second if that is longer. Each process uses its
    /// own setting, so set the same value everywhere. 2 s to 1 h; default 10 s.
    pub ttl: Duration,
    /// Time between two scans of the directory while there is a view, and so about how long a
    /// change takes to appear. Long scans make the pauses longer, so that scanning uses at most a
    /// tenth of one core. 1 ms to a quarter of `ttl`; default 100 ms.
    pub scan_interval: Duration,
    /// The users whose folders and records are trusted, by default this user and root; and how many
    /// folders at the end of the root's path must be closed to other users, by default none. See
    /// [`FileDiscovery`](super::FileDiscovery).
    pub trust: Rules,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            scan_interval: Duration::from_millis(100),
            trust: Rules::default(),
        }
    }
}

impl FileConfig {
    /// Checks the values against their bounds.
    pub(super) fn check(&self) -> Result<(), DiscoveryError> {
        let invalid = |reason: String| Err(DiscoveryError::Invalid { reason });
        // Two heartbeats must fit into one TTL, so that one late touch kills nobody.
        if !(MIN_HEARTBEAT * 2..=Duration::from_secs(3600)).contains(&self.ttl) {
            return invalid(format!("ttl of file discovery is {:?}: use 2 s to 1 h", self.ttl));
        }
        let longest = self.longest_pause();
        if !(Duration::from_millis(1)..=longest).contains(&self.scan_interval) {
            let given = self.scan_interval;
            return invalid(format!(
                "scan_interval of file discovery is {given:?}: use 1 ms to {longest:?}, \
                 a quarter of ttl"
            ));
        }
        Ok(())
    }

    /// Time between two touches of an own record.
    pub(super) fn heartbeat(&self) -> Duration {
        (self.ttl / 3).max(MIN_HEARTBEAT)
    }

    /// Longest time between two looks: four chances to see a change within one TTL.
    fn longest_pause(&self) -> Duration {
        self.ttl / 4
    }

    /// How long to rest after a look that took `spent`.
    pub(super) fn pause_after(&self, spent: Duration) -> Duration {
        self.rest_after(spent).max(self.scan_interval.saturating_sub(spent))
    }

    /// The least of it, when there is something to see: looking takes a tenth of one core.
    pub(super) fn rest_after(&self, spent: Duration) -> Duration {
        spent.saturating_mul(9).min(self.longest_pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        assert!(FileConfig::default().check().is_ok());
        let second = Duration::from_secs(1);
        for (ttl, scan_interval, name) in [
            (second, second / 10, "ttl"),
            (second * 3601, second, "ttl"),
            (second * 4, second * 2, "scan_interval"),
            (second * 4, Duration::ZERO, "scan_interval"),
        ] {
            let error = FileConfig { ttl, scan_interval, ..FileConfig::default() }
                .check()
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn slow_looks_take_a_tenth_of_a_core() {
        let config = FileConfig::default();
        let ms = Duration::from_millis;
        assert_eq!(config.pause_after(ms(1)), ms(99));
        assert_eq!(config.pause_after(ms(100)), ms(900));
        assert_eq!(config.pause_after(ms(60_000)), config.ttl / 4);
        assert!(config.heartbeat() * 2 < config.ttl);
    }
}
