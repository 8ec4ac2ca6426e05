//! The stored form of an instance, which processes of different programs read.
//!
//! The key and the value are those of NVIDIA Dynamo 1.6, the same for its file store and for etcd,
//! plus one more field, `sinew`, which a stock Dynamo peer ignores. So both kinds of worker can
//! share one store, and each kind of caller finds the workers that it can use:
//!
//! | written by | read by Dynamo | read here |
//! |---|---|---|
//! | Dynamo | unchanged | one address of scheme `dynamo-tcp` or `dynamo-nats` |
//! | Sinew, [`serves_dynamo`](Instance::serves_dynamo), with a `tcp` address | an ordinary TCP worker | everything |
//! | Sinew, the same with a `nats` address and no `tcp` one | an ordinary NATS worker | everything |
//! | Sinew, any other | a transport that it does not know: skipped with a warning | everything |
//!
//! ```
//! use sinew_discovery::{Instance, record::{self, Record}};
//! use sinew_plane::InstanceId;
//!
//! let endpoint = "text/words/split".parse()?;
//! let instance = Instance::new(endpoint, InstanceId(0x2a), vec!["tcp://10.0.0.7:9001".parse()?]);
//! assert_eq!(record::key(&instance.key()), "text/words/split/2a");
//!
//! let value = record::encode(&Record::from(instance.clone()))?;
//! assert_eq!(record::decode(&instance.key(), &value)?.instance, instance);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod key;
mod reach;
#[cfg(test)]
mod tests;
mod value;

use serde_json::{Map, Value as Json};
use sinew_plane::{Address, Incarnation};

use self::value::{Sinew, Value};
pub use self::{
    error::RecordError,
    key::{file_name, key, key_of_file_name, parse_key},
};
use crate::{DiscoveryError, Instance, InstanceKey, fingerprint::fingerprint, host_id};

/// Where records are stored: a key prefix in etcd, a path below the root in a file store.
pub const BUCKET: &str = "v1/instances";

/// Largest record that is read or written, in bytes. A typical record has about 500.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// Most payload formats that are kept of one instance, and the longest name of one in bytes.
const MAX_CODECS: usize = 16;
const MAX_CODEC_BYTES: usize = 32;

/// Highest weight; lower ones are scaled against it, so more would only cost precision.
const MAX_WEIGHT: u32 = 1000;

/// An instance with the process that keeps its record, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The instance.
    pub instance: Instance,
    /// The process that keeps the record alive, on the machine that the instance's `host` names.
    /// `None` when unknown.
    pub owner: Option<Owner>,
}

/// A process, for the kernel of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Process id, in the namespace that the instance's `host` names.
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot: a later process with the same id
    /// differs here.
    pub start: u64,
}

impl Record {
    /// True if both records name the same process.
    pub fn is_of_same_process(&self, other: &Self) -> bool {
        match (self.instance.process, other.instance.process) {
            (Some(one), Some(two)) => one == two,
            _ => {
                let is_known = self.owner.is_some() && self.instance.host.is_some();
                let is_same_host = self.instance.host == other.instance.host;
                is_known && is_same_host && self.owner == other.owner
            }
        }
    }
}

/// Makes the record of an instance without an owner.
impl From<Instance> for Record {
    fn from(instance: Instance) -> Self {
        Self { instance, owner: None }
    }
}

/// Encodes a record. Addresses beyond [`MAX_ADDRESSES`](crate::MAX_ADDRESSES) are dropped, and the
/// weight is clamped.
///
/// # Errors
/// [`DiscoveryError::Invalid`] when the instance has no address, or the record would be larger
/// than [`MAX_RECORD_BYTES`].
pub fn encode(record: &Record) -> Result<Vec<u8>, DiscoveryError> {
    let instance = &record.instance;
    let invalid = |reason: String| DiscoveryError::Invalid { reason };
    let Some(first) = instance.addresses.first() else {
        return Err(invalid(format!("{} has no address: nobody could call it", instance.key())));
    };
    let value = Value {
        kind: value::ENDPOINT.to_owned(),
        component: instance.endpoint.component().to_owned(),
        endpoint: instance.endpoint.endpoint().to_owned(),
        namespace: instance.endpoint.namespace().to_owned(),
        instance_id: instance.id.0,
        transport: transport(instance, first),
        request_plane_codec: Some(codec_for_dynamo(&instance.codecs)),
        sinew: Some(Sinew::of(record)),
    };
    let bytes = serde_json::to_vec(&value).map_err(|error| invalid(error.to_string()))?;
    if bytes.len() > MAX_RECORD_BYTES {
        let size = bytes.len();
        return Err(invalid(format!("the record of {} has {size} bytes", instance.key())));
    }
    Ok(bytes)
}

/// How a Dynamo caller reaches it, or else a transport that makes it skip the entry: what it asked
/// at an address that does not serve it would fail.
fn transport(instance: &Instance, first: &Address) -> Map<String, Json> {
    let of = |scheme| {
        let is_it = |address: &&Address| address.scheme() == scheme;
        instance.addresses.iter().find(is_it).filter(|_| instance.serves_dynamo)
    };
    match (of("tcp"), of("nats")) {
        (Some(tcp), _) => value::tcp_transport(&instance.key(), tcp),
        (None, Some(nats)) => value::nats_transport(nats),
        (None, None) => value::own_transport(first),
    }
}

/// The one codec that a Dynamo caller is told: the first that it speaks, or else our first, which
/// makes it skip the entry instead of sending what we cannot read.
fn codec_for_dynamo(codecs: &[String]) -> String {
    let spoken = codecs.iter().find(|codec| matches!(codec.as_str(), "json" | "msgpack"));
    spoken.or(codecs.first()).map_or_else(|| "json".to_owned(), Clone::clone)
}

/// Decodes the record with this `key`. Unknown fields are ignored. With an unknown version of the
/// `sinew` field the record counts as one of a stock Dynamo worker. Addresses that this process
/// cannot dial (port 0, `0.0.0.0`, multicast, loopback of another machine) are listed in
/// [`Instance::unreachable`]; those beyond [`MAX_ADDRESSES`](crate::MAX_ADDRESSES) are left out.
///
/// # Errors
/// [`RecordError`] says what is wrong with it. Never panics, whatever the bytes.
pub fn decode(key: &InstanceKey, bytes: &[u8]) -> Result<Record, RecordError> {
    decode_on(host_id().as_deref(), key, bytes)
}

fn decode_on(
    our_host: Option<&str>,
    key: &InstanceKey,
    bytes: &[u8],
) -> Result<Record, RecordError> {
    if bytes.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLarge);
    }
    let value: Value = serde_json::from_slice(bytes).map_err(RecordError::Malformed)?;
    if value.kind != value::ENDPOINT {
        return Err(RecordError::OtherKind);
    }
    let parts = [&value.namespace, &value.component, &value.endpoint];
    let named = [key.endpoint.namespace(), key.endpoint.component(), key.endpoint.endpoint()];
    if parts.map(String::as_str) != named || value.instance_id != key.id.0 {
        return Err(RecordError::WrongKey);
    }
    let mut record = match value.sinew.as_ref().map(Sinew::read).transpose()?.flatten() {
        Some(sinew) => sinew.into_record(key, value.request_plane_codec.as_deref()),
        None => stock(key, &value)?,
    };
    record.instance.serves_dynamo = value::stock_address(&value.transport).is_some();
    let reader = reach::Reader { our_host, their_host: record.instance.host.as_deref() };
    let (addresses, unreachable) = reader.sort(record.instance.addresses);
    if addresses.is_empty() && unreachable.is_empty() {
        return Err(RecordError::NoAddress);
    }
    record.instance.addresses = addresses;
    record.instance.unreachable = unreachable;
    Ok(record)
}

/// The record of a worker that knows nothing of us.
fn stock(key: &InstanceKey, value: &Value) -> Result<Record, RecordError> {
    let address = value::stock_address(&value.transport).ok_or(RecordError::NoAddress)?;
    let mut instance = Instance::new(key.endpoint.clone(), key.id, vec![address]);
    // Derived, so that reading twice gives the same; another place is another life.
    let place = instance.addresses.first().map_or("", Address::as_str);
    instance.incarnation = Incarnation(fingerprint(&[place]));
    instance.codecs = codecs(&[], value.request_plane_codec.as_deref());
    Ok(Record { instance, owner: None })
}

/// The payload formats worth keeping; `json` when nothing is said, as Dynamo has it.
fn codecs(ours: &[String], dynamo: Option<&str>) -> Vec<String> {
    let is_name = |name: &&str| {
        let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (1..=MAX_CODEC_BYTES).contains(&name.len()) && name.bytes().all(is_name_byte)
    };
    let mut kept: Vec<&str> = ours.iter().map(String::as_str).filter(is_name).collect();
    kept.truncate(MAX_CODECS);
    if kept.is_empty() {
        kept.push(dynamo.filter(is_name).unwrap_or("json"));
    }
    kept.into_iter().map(str::to_owned).collect()
}
