//! The DNS settings of the system: which servers to ask.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver, net::NetError};

use super::DnsConfig;

/// What tells one edition of the settings from the next: inode, size, and the times of the last
/// change of content and of any kind.
type Edition = (u64, u64, (i64, i64), (i64, i64));

/// The file with the system's settings, and the edition of it that is in use.
pub(super) struct System {
    file: PathBuf,
    used: Option<Edition>,
}

impl System {
    pub(super) fn new(config: &DnsConfig) -> Self {
        #[cfg(target_os = "linux")]
        let file = config.settings_file.clone();
        #[cfg(not(target_os = "linux"))]
        let file = {
            let _ = config;
            PathBuf::from("/etc/resolv.conf")
        };
        Self { file, used: None }
    }

    /// The file with the settings.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// True when the settings are other than those that were read last. One system call.
    pub(super) fn has_changed(&self) -> bool {
        self.edition() != self.used
    }

    fn edition(&self) -> Option<Edition> {
        let file = std::fs::metadata(&self.file).ok()?;
        let modified = (file.mtime(), file.mtime_nsec());
        Some((file.ino(), file.size(), modified, (file.ctime(), file.ctime_nsec())))
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// They cannot be read, or name no server.
    pub(super) fn read(&mut self) -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError> {
        // Looked at before it is read, so that a change in between is seen the next time. What
        // cannot be read is not read again until it changes.
        self.used = self.edition();
        self.read_file()
    }

    #[cfg(target_os = "linux")]
    fn read_file(&self) -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError> {
        let text = std::fs::read(&self.file)?;
        let (config, options) = hickory_resolver::system_conf::parse_resolv_conf(text)?;
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(config, provider);
        *builder.options_mut() = options;
        Ok(builder)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_file(&self) -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError> {
        TokioResolver::builder_tokio()
    }
}
