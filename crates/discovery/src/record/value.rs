//! The JSON shapes of a record.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value as Json};
use sinew_plane::{Address, Continuation, Incarnation, ProcessId};

use super::{MAX_WEIGHT, Owner, Record, RecordError, codecs};
use crate::{Instance, InstanceKey, MAX_ADDRESSES, fingerprint::fingerprint};

/// The `type` of the only values we write and read.
pub(super) const ENDPOINT: &str = "Endpoint";

/// Version of the `sinew` field. Fields may be added without a new one.
const VERSION: u64 = 1;

/// Longest host id that is kept, in bytes.
const MAX_HOST_BYTES: usize = 64;

/// Dynamo's value. The order of the fields is the order in which they are written. Our own field
/// is written as a [`Sinew`], and read as whatever it is.
#[derive(Serialize, Deserialize)]
pub(super) struct Value<S = Json> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) component: String,
    pub(super) endpoint: String,
    pub(super) namespace: String,
    pub(super) instance_id: u64,
    /// One entry: the transport's tag and its address; a stock caller skips a record with a tag that
    /// it does not know. Kept open, because an unknown tag beside
    /// our own field is no reason to refuse a record.
    pub(super) transport: Map<String, Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_plane_codec: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sinew: Option<S>,
}

/// Our own field. Numbers of 64 random bits are hexadecimal text, because many JSON readers keep
/// 53 bits of a number.
#[derive(Serialize, Deserialize)]
pub(super) struct Sinew {
    v: u64,
    incarnation: String,
    addresses: Vec<String>,
    #[serde(default)]
    codecs: Vec<String>,
    #[serde(default = "one")]
    weight: Number,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<u64>,
    #[serde(default)]
    idempotent: bool,
    /// Left out for `none`, and read as it if it is no text: a later version may have another form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    continuation: Option<Json>,
}

fn one() -> Number {
    Number::from(1)
}

impl Sinew {
    pub(super) fn of(record: &Record) -> Self {
        let instance = &record.instance;
        let addresses = instance.addresses.iter().take(MAX_ADDRESSES);
        Self {
            v: VERSION,
            incarnation: instance.incarnation.to_string(),
            addresses: addresses.map(ToString::to_string).collect(),
            codecs: codecs(&instance.codecs, None),
            weight: Number::from(instance.weight.clamp(1, MAX_WEIGHT)),
            host: instance.host.clone(),
            process: instance.process.map(|process| process.to_string()),
            pid: record.owner.map(|owner| owner.pid),
            start: record.owner.map(|owner| owner.start),
            idempotent: instance.idempotent,
            continuation: match instance.continuation {
                Continuation::None => None,
                other => Some(other.as_str().into()),
            },
        }
    }

    /// `None` for a version that is not ours to understand.
    pub(super) fn read(json: &Json) -> Result<Option<Self>, RecordError> {
        if json.get("v").and_then(Json::as_u64) != Some(VERSION) {
            return Ok(None);
        }
        Self::deserialize(json).map(Some).map_err(RecordError::Malformed)
    }

    pub(super) fn into_record(self, key: &InstanceKey, dynamo_codec: Option<&str>) -> Record {
        let addresses = self.addresses.iter().filter_map(|text| text.parse().ok()).collect();
        let mut instance = Instance::new(key.endpoint.clone(), key.id, addresses);
        // Whatever the text is, it names one life, and always the same.
        let incarnation = u64::from_str_radix(&self.incarnation, 16).ok();
        instance.incarnation =
            Incarnation(incarnation.unwrap_or_else(|| fingerprint(&[&self.incarnation])));
        instance.codecs = codecs(&self.codecs, dynamo_codec);
        let weight = self.weight.as_f64().unwrap_or(1.0);
        // JSON has no NaN, so the clamp leaves 1 to 1,000, and the cast only cuts the fraction.
        instance.weight = weight.clamp(1.0, f64::from(MAX_WEIGHT)) as u32;
        let is_host = |host: &String| {
            (1..=MAX_HOST_BYTES).contains(&host.len()) && host.bytes().all(|b| b.is_ascii_graphic())
        };
        instance.host = self.host.filter(is_host);
        instance.process = self.process.as_deref().and_then(ProcessId::from_hex);
        instance.idempotent = self.idempotent;
        let continuation = self.continuation.as_ref().and_then(Json::as_str);
        instance.continuation = continuation.map(Continuation::from_name).unwrap_or_default();
        let owner = self.pid.zip(self.start).map(|(pid, start)| Owner { pid, start });
        Record { instance, owner }
    }
}

/// `{"tcp": "host:port/id/namespace/component/endpoint"}`.
pub(super) fn tcp_transport(key: &InstanceKey, address: &Address) -> Map<String, Json> {
    let text = format!("{}/{}/{}", address.rest(), key.id, key.endpoint);
    Map::from_iter([("tcp".to_owned(), Json::String(text))])
}

/// `{"nats_tcp": "subject"}`.
pub(super) fn nats_transport(address: &Address) -> Map<String, Json> {
    Map::from_iter([("nats_tcp".to_owned(), Json::String(address.rest().to_owned()))])
}

/// `{"sinew": "scheme://..."}`, which no version of Dynamo knows.
pub(super) fn own_transport(address: &Address) -> Map<String, Json> {
    Map::from_iter([("sinew".to_owned(), Json::String(address.to_string()))])
}

/// The address of a worker that only says how Dynamo reaches it.
pub(super) fn stock_address(transport: &Map<String, Json>) -> Option<Address> {
    let of = |tag: &str, scheme| {
        let text = transport.get(tag)?.as_str()?;
        Address::new(scheme, text).ok()
    };
    of("tcp", "dynamo-tcp").or_else(|| of("nats_tcp", "dynamo-nats"))
}
