//! Settings of the DNS backend.

use std::time::Duration;

use crate::DiscoveryError;

/// Settings of a [`DnsDiscovery`](super::DnsDiscovery).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Shortest time for which an answer is used, whatever its TTL: 100 ms to `max_ttl`; default 1
    /// s.
    pub min_ttl: Duration,
    /// Longest time for which an answer is used, whatever its TTL: up to 1 day; default 5 min.
    pub max_ttl: Duration,
    /// How long answers have to be empty before all servers are removed: up to 1 day; default 60 s.
    pub empty_after: Duration,
    /// The file that names the DNS servers, if the target names none; default `/etc/resolv.conf`. A
    /// change takes effect within 5 s.
    #[cfg(target_os = "linux")]
    pub settings_file: std::path::PathBuf,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            empty_after: Duration::from_secs(60),
            #[cfg(target_os = "linux")]
            settings_file: "/etc/resolv.conf".into(),
        }
    }
}

impl DnsConfig {
    /// Checks the values against their bounds.
    pub(super) fn check(&self) -> Result<(), DiscoveryError> {
        let least = Duration::from_millis(100);
        for (name, value, least, most) in [
            ("min_ttl", self.min_ttl, least, self.max_ttl),
            ("max_ttl", self.max_ttl, least, DAY),
            ("empty_after", self.empty_after, Duration::ZERO, DAY),
        ] {
            if value < least || value > most {
                let reason =
                    format!("{name} of dns discovery is {value:?}: use {least:?} to {most:?}");
                return Err(DiscoveryError::Invalid { reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        let good = DnsConfig::default();
        assert!(good.check().is_ok());
        for (bad, name) in [
            (DnsConfig { min_ttl: Duration::ZERO, ..good.clone() }, "min_ttl"),
            (DnsConfig { min_ttl: good.max_ttl * 2, ..good.clone() }, "min_ttl"),
            (DnsConfig { max_ttl: DAY * 2, ..good.clone() }, "max_ttl"),
            (DnsConfig { empty_after: DAY * 2, ..good }, "empty_after"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
