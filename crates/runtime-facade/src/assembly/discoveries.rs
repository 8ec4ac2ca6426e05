//! Where a process announces itself and finds others: the list of its discoveries.

use std::{future::ready, path::PathBuf, sync::Arc};

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
use crate::{CheckedConfig, DiscoverySource, StartError, runtime_dir};

/// Opens a discovery of a process. A [`Runtime`](crate::Runtime) has a list of factories, opens each
/// once when it starts, and merges what they find into one view; it shuts them down last.
///
/// One of your own joins the list with
/// [`RuntimeBuilder::custom_discovery`](crate::RuntimeBuilder::custom_discovery). A
/// [`DiscoverySource`] is one as well, and so is a discovery that is open, as `Arc<dyn Discovery>`.
///
/// # Examples
/// ```
/// use std::sync::Arc;
///
/// use sinew::layers::{
///     discovery::{Discovery, StaticDiscovery},
///     plane::BoxFuture,
/// };
/// use sinew::{CheckedConfig, DiscoveryFactory, DiscoverySource, Runtime, StartError};
///
/// /// The workers that an inventory names.
/// struct Inventory(Vec<String>);
///
/// impl DiscoveryFactory for Inventory {
///     fn name(&self) -> String {
///         "inventory".to_owned()
///     }
///
///     fn open<'a>(
///         &'a self,
///         _: &'a CheckedConfig,
///         _: &'a (dyn Fn(&str) + Sync),
///     ) -> BoxFuture<'a, Result<Arc<dyn Discovery>, StartError>> {
///         Box::pin(async move {
///             let discovery = StaticDiscovery::addresses(self.0.iter().map(String::as_str))?;
///             Ok(Arc::new(discovery) as Arc<dyn Discovery>)
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let inventory = Inventory(vec!["tcp://10.0.0.7:9000".to_owned()]);
/// // The inventory, and what this process serves itself.
/// let runtime = Runtime::builder()
///     .custom_discovery(inventory)
///     .custom_discovery(DiscoverySource::Memory)
///     .build()
///     .await?;
/// # drop(runtime);
/// # Ok(())
/// # }
/// ```
pub trait DiscoveryFactory: Send + Sync {
    /// Its name in logs and listings, and the [source](sinew_discovery::Instance::source) of what it
    /// finds where there are several. No password is in it.
    fn name(&self) -> String;

    /// Opens it. A factory that waits for a server calls `waiting` with its name first, and waits for
    /// no longer than [`Config::startup_wait`](crate::Config::startup_wait). Dropping the future
    /// abandons the start.
    ///
    /// # Errors
    /// Why it cannot be opened: the runtime does not start then.
    fn open<'a>(
        &'a self,
        config: &'a CheckedConfig,
        waiting: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened>;
}

type Opened = Result<Arc<dyn Discovery>, StartError>;

/// Opens all of a list, in its order.
pub(crate) async fn open(
    factories: &[Arc<dyn DiscoveryFactory>],
    config: &CheckedConfig,
    waiting: &(dyn Fn(&str) + Sync),
) -> Opened {
    if let [alone] = factories {
        return alone.open(config, waiting).await;
    }
    let mut opened = Vec::new();
    for factory in factories {
        opened.push((factory.name(), factory.open(config, waiting).await?));
    }
    Ok(Arc::new(MergedDiscovery::named(opened)?))
}

impl DiscoverySource {
    /// The parts that it names, for the list.
    pub(crate) fn factories(&self) -> Vec<Arc<dyn DiscoveryFactory>> {
        match self {
            Self::File(folder) => vec![Arc::new(Folder(folder.clone()))],
            Self::Etcd(members) => vec![Arc::new(Etcd(members.clone()))],
            Self::Dns(name) => vec![Arc::new(Dns(name.clone()))],
            Self::Static(addresses) => vec![Arc::new(Addresses(addresses.clone()))],
            Self::Memory => vec![Arc::new(OwnProcess)],
            Self::Merged(all) => all.iter().flat_map(Self::factories).collect(),
        }
    }
}

impl DiscoveryFactory for DiscoverySource {
    fn name(&self) -> String {
        self.to_string()
    }

    fn open<'a>(
        &'a self,
        config: &'a CheckedConfig,
        waiting: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        Box::pin(async move { open(&self.factories(), config, waiting).await })
    }
}

/// One that is open already.
impl DiscoveryFactory for Arc<dyn Discovery> {
    fn name(&self) -> String {
        Discovery::name(&**self).to_owned()
    }

    fn open<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        Box::pin(ready(Ok(Self::clone(self))))
    }
}

/// A folder with records.
struct Folder(PathBuf);

impl DiscoveryFactory for Folder {
    fn name(&self) -> String {
        DiscoverySource::File(self.0.clone()).to_string()
    }

    fn open<'a>(
        &'a self,
        config: &'a CheckedConfig,
        _: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        let trust = runtime_dir::rules_for(&self.0, &config.runtime_dir, &config.file.trust);
        let file = FileConfig { trust, ..config.file.clone() };
        let opened = FileDiscovery::with_config(&self.0, file);
        Box::pin(ready(opened.map(shared).map_err(StartError::from)))
    }
}

/// The members of an etcd cluster.
struct Etcd(Vec<String>);

impl DiscoveryFactory for Etcd {
    fn name(&self) -> String {
        DiscoverySource::Etcd(self.0.clone()).to_string()
    }

    #[cfg(feature = "etcd")]
    fn open<'a>(
        &'a self,
        config: &'a CheckedConfig,
        waiting: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        Box::pin(async move {
            let mut etcd = EtcdConfig { endpoints: self.0.clone(), ..config.etcd.clone() };
            etcd.startup_timeout = config.startup_wait;
            waiting(&self.name());
            Ok(shared(EtcdDiscovery::connect(etcd).await?))
        })
    }

    #[cfg(not(feature = "etcd"))]
    fn open<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        Box::pin(ready(Err(missing("etcd").into())))
    }
}

/// A name in DNS.
struct Dns(String);

impl DiscoveryFactory for Dns {
    fn name(&self) -> String {
        DiscoverySource::Dns(self.0.clone()).to_string()
    }

    fn open<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        #[cfg(feature = "dns")]
        let opened = DnsDiscovery::new(&self.0).map(shared).map_err(StartError::from);
        #[cfg(not(feature = "dns"))]
        let opened = Err(missing("dns").into());
        Box::pin(ready(opened))
    }
}

/// Servers at known addresses.
struct Addresses(Vec<Address>);

impl DiscoveryFactory for Addresses {
    fn name(&self) -> String {
        DiscoverySource::Static(self.0.clone()).to_string()
    }

    fn open<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        let opened = StaticDiscovery::addresses(self.0.iter().map(Address::as_str));
        Box::pin(ready(opened.map(shared).map_err(StartError::from)))
    }
}

/// This process alone.
struct OwnProcess;

impl DiscoveryFactory for OwnProcess {
    fn name(&self) -> String {
        DiscoverySource::Memory.to_string()
    }

    fn open<'a>(
        &'a self,
        _: &'a CheckedConfig,
        _: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Opened> {
        Box::pin(ready(Ok(shared(MemoryDiscovery::new()))))
    }
}

fn shared(discovery: impl Discovery + 'static) -> Arc<dyn Discovery> {
    Arc::new(discovery)
}

/// What to do about a backend that was left out of this build.
#[cfg(not(all(feature = "dns", feature = "etcd")))]
fn missing(feature: &str) -> ConfigError {
    let reason = format!(
        "this build has no {feature}: build with the feature `{feature}`, or the `sinew` command \
         with `cargo xtask build --release`"
    );
    ConfigError::new("discovery", reason)
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use sinew_discovery::Registration;
    use sinew_plane::InstanceId;

    use super::*;
    use crate::{Config, Runtime};

    /// The names of those that were opened, and what they find.
    type Found = Arc<Mutex<Vec<(&'static str, Registration)>>>;

    /// Notes when it is opened, and finds one instance.
    struct Noted(&'static str, Found);

    impl DiscoveryFactory for Noted {
        fn name(&self) -> String {
            self.0.to_owned()
        }

        fn open<'a>(
            &'a self,
            _: &'a CheckedConfig,
            waiting: &'a (dyn Fn(&str) + Sync),
        ) -> BoxFuture<'a, Opened> {
            Box::pin(async move {
                waiting(self.0);
                let discovery = MemoryDiscovery::new();
                let name = format!("a/b/{}", self.0).parse().unwrap();
                let instance = sinew_discovery::Instance::new(name, InstanceId(1), Vec::new());
                let registration = discovery.register(instance).await?;
                self.1.lock().push((self.0, registration));
                Ok(shared(discovery))
            })
        }
    }

    #[tokio::test]
    async fn a_list_is_opened_in_its_order_and_shown_as_one_view() {
        let opened = Found::default();
        let of = |name| Noted(name, Arc::clone(&opened));
        let builder = Runtime::builder().custom_discovery(of("one")).custom_discovery(of("two"));
        let runtime = builder.custom_discovery(DiscoverySource::Memory).build().await.unwrap();
        let names: Vec<_> = opened.lock().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["one", "two"]);
        let snapshot = runtime.browse(None).await.unwrap().snapshot();
        let mut found: Vec<_> =
            snapshot.iter().map(|one| (one.endpoint.endpoint(), one.source.clone())).collect();
        found.sort_unstable();
        let source = |name: &str| Some(Arc::<str>::from(name));
        assert_eq!(found, [("one", source("one")), ("two", source("two"))]);
    }

    #[tokio::test]
    async fn a_source_is_a_part_for_each_place_that_it_names() {
        let text = "memory;static:tcp://127.0.0.1:9";
        let source: DiscoverySource = text.parse().unwrap();
        let names: Vec<_> = source.factories().iter().map(|one| one.name()).collect();
        assert_eq!(names, ["memory", "static:tcp://127.0.0.1:9"]);
        assert_eq!(DiscoveryFactory::name(&source), text);
        let config = Config::default().checked().unwrap();
        let merged = DiscoveryFactory::open(&source, &config, &|_| {}).await.unwrap();
        assert_eq!(Discovery::name(&*merged), "merged");
        let alone = DiscoverySource::Memory.open(&config, &|_| {}).await.unwrap();
        assert_eq!(Discovery::name(&*alone), "memory");
        let again = DiscoveryFactory::open(&alone, &config, &|_| {}).await.unwrap();
        assert!(Arc::ptr_eq(&alone, &again));
    }
}
