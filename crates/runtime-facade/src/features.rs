//! The optional features of this build.

/// The optional features that settings may need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Features {
    pub(crate) dynamo: bool,
    pub(crate) nats: bool,
    pub(crate) nats_tls: bool,
    pub(crate) nats_nkeys: bool,
}

impl Features {
    /// The features of this build.
    pub(crate) const THIS: Self = Self {
        dynamo: cfg!(feature = "dynamo"),
        nats: cfg!(feature = "nats"),
        nats_tls: cfg!(feature = "nats-tls"),
        nats_nkeys: cfg!(feature = "nats-nkeys"),
    };
}

/// True when this build has the feature of that name.
pub(crate) fn has(feature: &str) -> bool {
    match feature {
        "dynamo" => Features::THIS.dynamo,
        "dns" => cfg!(feature = "dns"),
        "etcd" => cfg!(feature = "etcd"),
        "nats" => Features::THIS.nats,
        "nats-tls" => Features::THIS.nats_tls,
        "nats-nkeys" => Features::THIS.nats_nkeys,
        _ => false,
    }
}
