//! Limits, timing and addresses of the transport.

use std::path::PathBuf;

use sinew_mux_driver::{CheckedDriverConfig, DriverConfig};
use sinew_net::{CheckedListenConfig, ListenConfig};
use sinew_plane::ConfigError;

/// Settings of one side of the transport. Start from [`TcpConfig::default`].
#[derive(Debug, Clone, Default)]
pub struct TcpConfig {
    /// Limits and timing of connections, on both sides.
    pub driver: DriverConfig,
    /// Limits and addresses of a server's listeners.
    pub listen: ListenConfig,
    /// The folder for a Unix domain socket beside the TCP port, for callers on the same host;
    /// `None` means TCP only. The folder is created with mode 0700; an existing one must belong to
    /// this user, not be a link, and be closed to all others. Peers of other users are refused.
    pub unix_dir: Option<PathBuf>,
}

impl TcpConfig {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// [`ConfigError`] names the field and the rule it breaks.
    pub fn checked(self) -> Result<CheckedTcpConfig, ConfigError> {
        let Self { driver, listen, unix_dir } = self;
        Ok(CheckedTcpConfig { driver: driver.checked()?, listen: listen.checked()?, unix_dir })
    }
}

/// A [`TcpConfig`] whose settings fit together.
#[derive(Debug, Clone)]
pub struct CheckedTcpConfig {
    /// See [`TcpConfig::driver`].
    pub driver: CheckedDriverConfig,
    /// See [`TcpConfig::listen`].
    pub listen: CheckedListenConfig,
    /// See [`TcpConfig::unix_dir`].
    pub unix_dir: Option<PathBuf>,
}
