//! One running server of an endpoint, as discovery describes it.

use std::sync::Arc;

use sinew_plane::{Address, Continuation, EndpointName, Incarnation, InstanceId, ProcessId};

use crate::Unreachable;

/// Most addresses of one instance; further ones are dropped.
pub const MAX_ADDRESSES: usize = 8;

/// One running server of an endpoint: its identity, its addresses, and its payload formats.
///
/// Two values are equal if all fields except [`source`](Self::source) are: another weight or
/// incarnation is a change, and the same instance from another provider is not.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The endpoint that it serves.
    pub endpoint: EndpointName,
    /// Its id, unique within the endpoint.
    pub id: InstanceId,
    /// The incarnation of the instance.
    pub incarnation: Incarnation,
    /// Its addresses, best first; at most [`MAX_ADDRESSES`].
    pub addresses: Vec<Address>,
    /// The addresses in its record that this process cannot dial; at most [`MAX_ADDRESSES`]. The
    /// reader of a record finds them; they are not part of a record.
    pub unreachable: Vec<Unreachable>,
    /// Payload formats that it reads and writes, best first: `msgpack`, `json`, `raw`, ...
    pub codecs: Vec<String>,
    /// Share of the traffic relative to the other instances of the endpoint, 1 to 1,000.
    pub weight: u32,
    /// The machine that it runs on, comparable with [`host_id`](crate::host_id); `None` if unknown.
    pub host: Option<String>,
    /// The process that it runs in, a random number for each process start. The hello of a
    /// connection must show the same number; otherwise another process has taken its port. `None`
    /// if unknown.
    pub process: Option<ProcessId>,
    /// Its handler may run twice for one request without harm.
    pub idempotent: bool,
    /// What a router may do with a stream of which this worker has died or which it hands over.
    pub continuation: Continuation,
    /// NVIDIA Dynamo callers can use it as well, at its `tcp` or else its `nats` address, because
    /// its record is one that they read. If false, or without such an address, only Sinew callers
    /// find it.
    pub serves_dynamo: bool,
    /// The id was made by the discovery backend, and the worker does not have it. Requests then
    /// have to carry `InstanceId(0)`, which any instance of the endpoint accepts.
    pub any_id: bool,
    /// The provider that found it, as [`MergedDiscovery`](crate::MergedDiscovery) names them;
    /// `None` from a single provider. Not part of records, and not compared for equality.
    pub source: Option<Arc<str>>,
}

impl Instance {
    /// Makes an instance with a random incarnation, weight 1, the `json` codec, and no other
    /// properties.
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
            continuation: Continuation::None,
            serves_dynamo: false,
            any_id: false,
            source: None,
        }
    }

    /// False if it has addresses and this process can dial none of them. Routers leave such an
    /// instance out; listings show it with the reasons in [`unreachable`](Self::unreachable).
    pub fn is_reachable(&self) -> bool {
        !self.addresses.is_empty() || self.unreachable.is_empty()
    }

    /// The key of the instance: endpoint and id.
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
            continuation,
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
            && *continuation == other.continuation
            && *serves_dynamo == other.serves_dynamo
            && *any_id == other.any_id
    }
}

impl Eq for Instance {}

/// The key of an instance: no two instances have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// The endpoint that it serves.
    pub endpoint: EndpointName,
    /// Its id.
    pub id: InstanceId,
}

impl std::fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.endpoint, self.id)
    }
}
