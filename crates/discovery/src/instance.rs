//! One running server of an endpoint, as discovery knows it.

use std::sync::Arc;

use sinew_plane::{Address, EndpointName, Incarnation, InstanceId, ProcessId};

use crate::Unreachable;

/// Most addresses that are kept of one instance; more are cut.
pub const MAX_ADDRESSES: usize = 8;

/// One running server of an endpoint: who it is, where it is, what it speaks.
///
/// Two values are equal when everything but the [`source`](Self::source) in them is: a changed
/// weight or incarnation is a change, whatever the key it stands under; the same told by another
/// provider is none.
#[derive(Debug, Clone)]
pub struct Instance {
    /// What it serves.
    pub endpoint: EndpointName,
    /// Its id, unique within the endpoint.
    pub id: InstanceId,
    /// Which life of the instance this is.
    pub incarnation: Incarnation,
    /// Where it can be reached, best first; at most [`MAX_ADDRESSES`].
    pub addresses: Vec<Address>,
    /// Where it says that it is and no dial from here can reach it; at most [`MAX_ADDRESSES`].
    /// Found by whoever reads a record, and not written down in one.
    pub unreachable: Vec<Unreachable>,
    /// Payload formats it reads and writes, best first: `msgpack`, `json`, `raw`, ...
    pub codecs: Vec<String>,
    /// Share of the traffic relative to its siblings, 1 to 1,000.
    pub weight: u32,
    /// The machine it runs on, comparable with [`host_id`](crate::host_id); `None` when unknown.
    pub host: Option<String>,
    /// The process it runs in: random per process start. The connection's handshake must show
    /// the same number, else somebody else has taken its port. `None` when unknown.
    pub process: Option<ProcessId>,
    /// Its handler may run twice for one request without harm.
    pub idempotent: bool,
    /// Callers of NVIDIA Dynamo can use it as well, at its `tcp` or else its `nats` address: in a
    /// record they find it. Without it, or without such an address, only callers of Sinew do.
    pub serves_dynamo: bool,
    /// The id is ours, made up to tell seeds apart, and the server does not know it: requests
    /// must carry `InstanceId(0)`, which a server takes as "whoever answers".
    pub any_id: bool,
    /// Which of several providers told of it, as [`MergedDiscovery`](crate::MergedDiscovery)
    /// names them; `None` from a single provider. Not written down in records, and no part of
    /// equality.
    pub source: Option<Arc<str>>,
}

impl Instance {
    /// An instance with a fresh incarnation, weight 1, the `json` codec, and nothing else known.
    pub fn new(endpoint: EndpointName, id: InstanceId, addresses: Vec<Address>) -> Self {
        Self {
            endpoint,
            id,
            incarnation: Incarnation::random(),
            addresses,
            unreachable: Vec::new(),
            codecs: vec!["json".to_owned()],
            weight: 1,
            host: None,
            process: None,
            idempotent: false,
            serves_dynamo: false,
            any_id: false,
            source: None,
        }
    }

    /// False when it says where it is, and none of that can be reached from here. Routers leave
    /// it out; listings show it with the reasons in [`unreachable`](Self::unreachable).
    pub fn is_reachable(&self) -> bool {
        !self.addresses.is_empty() || self.unreachable.is_empty()
    }

    /// What tells this instance from all others: endpoint and id.
    pub fn key(&self) -> InstanceKey {
        InstanceKey { endpoint: self.endpoint.clone(), id: self.id }
    }
}

impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        // Taken apart, so that a new field is not forgotten here.
        let Self {
            endpoint,
            id,
            incarnation,
            addresses,
            unreachable,
            codecs,
            weight,
            host,
            process,
            idempotent,
            serves_dynamo,
            any_id,
            source: _,
        } = self;
        *endpoint == other.endpoint
            && *id == other.id
            && *incarnation == other.incarnation
            && *addresses == other.addresses
            && *unreachable == other.unreachable
            && *codecs == other.codecs
            && *weight == other.weight
            && *host == other.host
            && *process == other.process
            && *idempotent == other.idempotent
            && *serves_dynamo == other.serves_dynamo
            && *any_id == other.any_id
    }
}

impl Eq for Instance {}

/// What tells an instance from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// What it serves.
    pub endpoint: EndpointName,
    /// Its id.
    pub id: InstanceId,
}

impl std::fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.endpoint, self.id)
    }
}
