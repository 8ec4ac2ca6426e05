//! Opens the discovery backend that a [`DiscoverySource`] names.

use std::sync::Arc;

#[cfg(feature = "dns")]
use sinew_discovery::DnsDiscovery;
use sinew_discovery::{
    Discovery, FileConfig, FileDiscovery, MemoryDiscovery, MergedDiscovery, StaticDiscovery,
};
#[cfg(feature = "etcd")]
use sinew_discovery::{EtcdConfig, EtcdDiscovery};
use sinew_plane::{Address, BoxFuture};

#[cfg(not(all(feature = "dns", feature = "etcd")))]
use crate::ConfigError;
use crate::{Config, DiscoverySource, StartError, runtime_dir};

/// Opens a source. Calls `waiting` with the name of a server before it waits for that. The future
/// is boxed, because a merged source opens others.
pub(crate) fn open<'a>(
    source: &'a DiscoverySource,
    config: &'a Config,
    waiting: &'a (dyn Fn(&str) + Sync),
) -> BoxFuture<'a, Result<Arc<dyn Discovery>, StartError>> {
    Box::pin(async move {
        let opened: Arc<dyn Discovery> = match source {
            DiscoverySource::File(path) => {
                let trust = runtime_dir::rules_for(path, &config.runtime_dir, &config.file.trust);
                let file = FileConfig { trust, ..config.file.clone() };
                Arc::new(FileDiscovery::with_config(path, file)?)
            }
            DiscoverySource::Static(addresses) => {
                Arc::new(StaticDiscovery::addresses(addresses.iter().map(Address::as_str))?)
            }
            DiscoverySource::Memory => Arc::new(MemoryDiscovery::new()),
            #[cfg(feature = "etcd")]
            DiscoverySource::Etcd(members) => {
                let mut etcd = EtcdConfig { endpoints: members.clone(), ..config.etcd.clone() };
                etcd.startup_timeout = config.startup_wait;
                waiting(&source.to_string());
                Arc::new(EtcdDiscovery::connect(etcd).await?)
            }
            #[cfg(not(feature = "etcd"))]
            DiscoverySource::Etcd(_) => return Err(missing("etcd").into()),
            #[cfg(feature = "dns")]
            DiscoverySource::Dns(name) => Arc::new(DnsDiscovery::new(name)?),
            #[cfg(not(feature = "dns"))]
            DiscoverySource::Dns(_) => return Err(missing("dns").into()),
            DiscoverySource::Merged(all) => {
                let mut opened = Vec::new();
                for one in all {
                    opened.push((one.to_string(), open(one, config, waiting).await?));
                }
                Arc::new(MergedDiscovery::named(opened)?)
            }
        };
        Ok(opened)
    })
}

/// The error for a backend that this build lacks.
#[cfg(not(all(feature = "dns", feature = "etcd")))]
fn missing(feature: &str) -> ConfigError {
    let reason = format!(
        "this build has no {feature}: build with the feature `{feature}`, or the `sinew` command \
         with `cargo xtask build --release`"
    );
    ConfigError::new("discovery", reason)
}
