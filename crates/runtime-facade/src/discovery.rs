//! From the name of a discovery to the discovery.

use std::sync::Arc;

use sinew_discovery::{Discovery, FileDiscovery, MemoryDiscovery, StaticDiscovery};
#[cfg(feature = "etcd")]
use sinew_discovery::{EtcdConfig, EtcdDiscovery};
use sinew_plane::{Address, BoxFuture};

use crate::{Config, ConfigError, DiscoverySource, StartError};

/// Opens a source. A boxed future, because a merged source opens others.
pub(crate) fn open<'a>(
    source: &'a DiscoverySource,
    #[cfg_attr(not(feature = "etcd"), expect(unused_variables, reason = "what etcd needs"))]
    config: &'a Config,
) -> BoxFuture<'a, Result<Arc<dyn Discovery>, StartError>> {
    Box::pin(async move {
        let opened: Arc<dyn Discovery> = match source {
            DiscoverySource::File(path) => Arc::new(FileDiscovery::open(path)?),
            DiscoverySource::Static(addresses) => {
                Arc::new(StaticDiscovery::addresses(addresses.iter().map(Address::as_str))?)
            }
            DiscoverySource::Memory => Arc::new(MemoryDiscovery::new()),
            #[cfg(feature = "etcd")]
            DiscoverySource::Etcd(members) => {
                let etcd = EtcdConfig { endpoints: members.clone(), ..config.etcd.clone() };
                Arc::new(EtcdDiscovery::connect(etcd).await?)
            }
            #[cfg(not(feature = "etcd"))]
            DiscoverySource::Etcd(_) => return Err(missing("etcd").into()),
            DiscoverySource::Dns(_) => return Err(missing("dns").into()),
            DiscoverySource::Merged(_) => return Err(missing("merged").into()),
        };
        Ok(opened)
    })
}

/// What to do about a backend that was left out of this build.
fn missing(feature: &str) -> ConfigError {
    let reason = format!(
        "this build has no {feature}: build with the feature `{feature}`, or the `sinew` command \
         with `cargo xtask build --release`"
    );
    ConfigError::new("discovery", reason)
}
