//! Discovery: which instances serve an endpoint.
//!
//! A [`Discovery`] backend registers instances and publishes them: it gives each reader a [`View`],
//! which has the newest [`Snapshot`] of all instances. If the backend loses its source, views keep
//! their last content. This crate has no transport, does not check the health of instances, and
//! chooses none; the router does that.
//!
//! ```
//! use sinew_discovery::{Discovery, Instance, MemoryDiscovery};
//! use sinew_plane::InstanceId;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let discovery = MemoryDiscovery::new();
//! let endpoint = "text/words/split".parse()?;
//! let mut view = discovery.watch().await?;
//!
//! let here = vec!["tcp://127.0.0.1:9001".parse()?];
//! let instance = Instance::new("text/words/split".parse()?, InstanceId::random(), here);
//! let registration = discovery.register(instance).await?;
//! assert!(view.has_instance_of(&endpoint).await);
//!
//! registration.withdraw().await?;
//! assert_eq!(view.snapshot().of(&endpoint).count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! | backend | visible to | feature |
//! |---|---|---|
//! | [`MemoryDiscovery`] | one process | always there |
//! | [`StaticDiscovery`] | processes with the same list of addresses; read-only | always there |
//! | `FileDiscovery` | processes that can read the directory, Dynamo's peers included | `file`, on by default |
//! | `EtcdDiscovery` | processes that use the cluster, Dynamo's peers included | `etcd`; TLS with `etcd-tls` |
//! | `DnsDiscovery` | processes that query the same name; read-only | `dns` |
//! | [`MergedDiscovery`] | several of these, merged into one view | always there |
//!
//! The [`record`] module has the stored form of an instance.

mod discovery;
#[cfg(feature = "dns")]
mod dns;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "file")]
mod file;
mod fingerprint;
mod host;
mod instance;
mod interest;
mod memory;
mod merged;
mod policy;
mod policy_board;
#[cfg(any(feature = "etcd", feature = "file"))]
mod policy_record;
#[cfg(any(feature = "etcd", feature = "file"))]
mod process;
pub mod record;
mod snapshot;
mod static_list;
mod unreachable;

#[cfg(feature = "dns")]
pub use crate::dns::{DnsConfig, DnsDiscovery};
#[cfg(feature = "etcd-tls")]
pub use crate::etcd::EtcdTls;
#[cfg(feature = "etcd")]
pub use crate::etcd::{EtcdConfig, EtcdDiscovery};
#[cfg(feature = "file")]
pub use crate::file::{FileConfig, FileDiscovery};
pub use crate::{
    discovery::{Discovery, Registration, View, Withdraw},
    error::DiscoveryError,
    host::host_id,
    instance::{Instance, InstanceKey, MAX_ADDRESSES},
    interest::Interest,
    memory::MemoryDiscovery,
    merged::MergedDiscovery,
    policy::{PlanePolicy, PolicyView, RollBack},
    snapshot::{Change, Snapshot},
    static_list::StaticDiscovery,
    unreachable::{Obstacle, Unreachable},
};
#[cfg(feature = "file")]
pub use sinew_folder::{Owners, OwnersError, Rules as FolderRules};

/// Most instances that one backend keeps; further ones are ignored. At a few hundred bytes each,
/// this is some megabytes. For more, one flat list is the wrong structure.
pub const MAX_INSTANCES: usize = 10_000;

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
