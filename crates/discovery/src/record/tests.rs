//! Golden records in both directions, and what bad ones come to.

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use sinew_plane::{Continuation, EndpointName, InstanceId, ProcessId};

use super::*;
use crate::{MAX_ADDRESSES, Obstacle};

/// An entry of a stock Dynamo 1.6 worker, byte for byte.
const STOCK: &str = concat!(
    r#"{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"ns1","#,
    r#""instance_id":5986869385923941893,"#,
    r#""transport":{"tcp":"192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate"},"#,
    r#""device_type":"cuda","request_plane_codec":"msgpack"}"#
);

/// An entry of ours, byte for byte.
const OURS: &str = concat!(
    r#"{"type":"Endpoint","component":"backend","endpoint":"generate","namespace":"ns1","#,
    r#""instance_id":5986869385923941893,"#,
    r#""transport":{"tcp":"192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate"},"#,
    r#""request_plane_codec":"msgpack","#,
    r#""sinew":{"v":1,"incarnation":"ffeeddccbbaa9988","#,
    r#""addresses":["unix:///run/sinew/1.sock","tcp://192.0.2.2:34479"],"#,
    r#""codecs":["msgpack","json"],"weight":7,"host":"aa-11","process":"fedcba9876543210","#,
    r#""pid":4711,"start":123456,"idempotent":true}}"#
);

fn stock_key() -> InstanceKey {
    parse_key("ns1/backend/generate/5315a1fc98a85605").unwrap()
}

fn our_record() -> Record {
    let addresses = ["unix:///run/sinew/1.sock", "tcp://192.0.2.2:34479"];
    let instance = Instance {
        endpoint: "ns1/backend/generate".parse().unwrap(),
        id: InstanceId(0x5315_a1fc_98a8_5605),
        incarnation: Incarnation(0xffee_ddcc_bbaa_9988),
        addresses: addresses.map(|text| text.parse().unwrap()).into(),
        unreachable: Vec::new(),
        codecs: vec!["msgpack".to_owned(), "json".to_owned()],
        weight: 7,
        host: Some("aa-11".to_owned()),
        process: Some(ProcessId(0xfedc_ba98_7654_3210)),
        idempotent: true,
        continuation: Continuation::None,
        serves_dynamo: true,
        any_id: false,
        source: None,
    };
    Record { instance, owner: Some(Owner { pid: 4711, start: 123_456 }) }
}

/// Our entry with changes.
fn changed(change: impl FnOnce(&mut Json)) -> Vec<u8> {
    let mut value: Json = serde_json::from_str(OURS).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

fn decode_changed(change: impl FnOnce(&mut Json)) -> Result<Record, RecordError> {
    decode_on(Some("aa-11"), &stock_key(), &changed(change))
}

#[test]
fn a_stock_entry_is_an_instance_here() {
    let record = decode(&stock_key(), STOCK.as_bytes()).unwrap();
    let address = "dynamo-tcp://192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate";
    assert_eq!(record.instance.addresses, [address.parse().unwrap()]);
    assert_eq!(record.instance.codecs, ["msgpack"]);
    assert_eq!(record.instance.weight, 1);
    assert!(record.instance.serves_dynamo);
    assert_eq!(record, decode(&stock_key(), STOCK.as_bytes()).unwrap(), "reading changes nothing");
    let plain = STOCK.replace(r#","request_plane_codec":"msgpack""#, "");
    assert_eq!(decode(&stock_key(), plain.as_bytes()).unwrap().instance.codecs, ["json"]);
}

#[test]
fn a_stock_entry_over_nats_is_an_instance_here() {
    let nats = STOCK.replace(
        r#""tcp":"192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate""#,
        r#""nats_tcp":"ns1_backend.generate-5315a1fc98a85605""#,
    );
    let record = decode(&stock_key(), nats.as_bytes()).unwrap();
    let address = "dynamo-nats://ns1_backend.generate-5315a1fc98a85605";
    assert_eq!(record.instance.addresses, [address.parse().unwrap()]);
}

#[test]
fn our_entry_is_these_bytes_and_comes_back() {
    let bytes = encode(&our_record()).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), OURS);
    assert_eq!(decode_on(Some("aa-11"), &stock_key(), OURS.as_bytes()).unwrap(), our_record());
}

/// The required fields and types of a stock client; it ignores what it does not know.
#[derive(serde::Deserialize)]
#[serde(tag = "type")]
enum Stock {
    Endpoint {
        component: String,
        endpoint: String,
        namespace: String,
        instance_id: u64,
        transport: StockTransport,
        device_type: Option<String>,
        request_plane_codec: Option<StockCodec>,
    },
}

#[derive(serde::Deserialize, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
enum StockTransport {
    #[serde(rename = "nats_tcp")]
    Nats(String),
    Tcp(String),
}

#[derive(serde::Deserialize, PartialEq, Debug)]
#[serde(rename_all = "lowercase")]
enum StockCodec {
    Json,
    Msgpack,
}

/// The transport that a stock client reads; `None` when it skips the entry.
fn stock_transport(record: &Record) -> Option<StockTransport> {
    let Stock::Endpoint { transport, .. } =
        serde_json::from_slice(&encode(record).unwrap()).ok()?;
    Some(transport)
}

#[test]
fn our_entry_is_what_a_stock_client_reads() {
    let Stock::Endpoint {
        component,
        endpoint,
        namespace,
        instance_id,
        transport,
        device_type,
        request_plane_codec,
    } = serde_json::from_slice(&encode(&our_record()).unwrap()).unwrap();
    assert_eq!([namespace, component, endpoint], ["ns1", "backend", "generate"]);
    assert_eq!(instance_id, 0x5315_a1fc_98a8_5605);
    let address = "192.0.2.2:34479/5315a1fc98a85605/ns1/backend/generate";
    assert_eq!(transport, StockTransport::Tcp(address.to_owned()));
    assert_eq!((device_type, request_plane_codec), (None, Some(StockCodec::Msgpack)));
}

#[test]
fn a_worker_that_does_not_serve_dynamo_is_one_that_stock_clients_skip() {
    let mut record = our_record();
    record.instance.serves_dynamo = false;
    assert_eq!(stock_transport(&record), None);
    let bytes = encode(&record).unwrap();
    assert_eq!(decode_on(Some("aa-11"), &stock_key(), &bytes).unwrap(), record);
    // Over NATS as well.
    record.instance.addresses = vec!["nats://ns1_backend.generate-1".parse().unwrap()];
    assert_eq!(stock_transport(&record), None);
    // A reader that does not know our field has nowhere to go either.
    let unknown = changed(|value| {
        value["transport"] = json!({ "sinew": "tcp://192.0.2.2:34479" });
        value["sinew"]["v"] = json!(2);
    });
    assert!(matches!(decode(&stock_key(), &unknown), Err(RecordError::NoAddress)));
}

#[test]
fn a_worker_without_tcp_or_a_codec_of_dynamo_is_one_that_stock_clients_skip() {
    let mut record = our_record();
    record.instance.codecs = vec!["bincode".to_owned()];
    assert_eq!(stock_transport(&record), None);
    let bytes = encode(&record).unwrap();
    let value: Json = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["request_plane_codec"], "bincode");
    assert_eq!(decode_on(Some("aa-11"), &stock_key(), &bytes).unwrap(), record);

    let mut record = our_record();
    record.instance.addresses.truncate(1);
    assert_eq!(stock_transport(&record), None);
    let decoded = decode_on(Some("aa-11"), &stock_key(), &encode(&record).unwrap()).unwrap();
    assert!(!decoded.instance.serves_dynamo, "whatever it says of itself");
    record.instance.serves_dynamo = false;
    assert_eq!(decoded, record);
}

#[test]
fn a_worker_that_is_reached_over_nats_alone_says_so_to_stock_clients() {
    let mut record = our_record();
    let subject = "ns1_backend.generate-5315a1fc98a85605";
    let nats = format!("nats://{subject}").parse().unwrap();
    record.instance.addresses.push(nats);
    let both = stock_transport(&record);
    assert!(matches!(both, Some(StockTransport::Tcp(_))), "both: direct first");
    record.instance.addresses.retain(|address| address.scheme() == "nats");
    assert_eq!(stock_transport(&record), Some(StockTransport::Nats(subject.to_owned())));
    assert_eq!(decode(&stock_key(), &encode(&record).unwrap()).unwrap(), record);
}

#[test]
fn a_continuation_is_one_more_word_and_an_unknown_one_is_none() {
    for (continuation, word) in
        [(Continuation::Replayable, "replayable"), (Continuation::Checkpoint, "checkpoint")]
    {
        let mut record = our_record();
        record.instance.continuation = continuation;
        let bytes = encode(&record).unwrap();
        let written = OURS.replace(
            r#""idempotent":true"#,
            &format!(r#""idempotent":true,"continuation":"{word}""#),
        );
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), written);
        assert_eq!(decode_on(Some("aa-11"), &stock_key(), &bytes).unwrap(), record);
    }
    for other in [json!("none"), json!("teleport"), json!(""), json!(7), json!({"kind": "x"})] {
        let record = decode_changed(|value| value["sinew"]["continuation"] = other.clone());
        assert_eq!(record.unwrap(), our_record(), "{other}");
    }
}

#[test]
fn what_nobody_could_call_is_not_written() {
    let mut record = our_record();
    record.instance.addresses.clear();
    let error = encode(&record).unwrap_err().to_string();
    assert!(error.contains("no address"), "{error}");
}

#[test]
fn a_key_that_names_another_instance_is_refused() {
    for other in ["ns1/backend/generate/1", "ns1/backend/other/5315a1fc98a85605"] {
        let result = decode(&parse_key(other).unwrap(), OURS.as_bytes());
        assert!(matches!(result, Err(RecordError::WrongKey)), "{other}");
    }
}

#[test]
fn addresses_that_lead_nowhere_stand_apart_with_the_reason() {
    use Obstacle::{ForeignLoopback, ForeignSocket, Multicast, NoHostAndPort, Unspecified};
    for (address, same_host, same_machine, far) in [
        ("tcp://0.0.0.0:80", Some(Unspecified), Some(Unspecified), Some(Unspecified)),
        ("tcp://[::]:80", Some(Unspecified), Some(Unspecified), Some(Unspecified)),
        ("tcp://224.0.0.1:80", Some(Multicast), Some(Multicast), Some(Multicast)),
        ("tcp://[ff02::1]:80", Some(Multicast), Some(Multicast), Some(Multicast)),
        ("tcp://255.255.255.255:80", Some(Multicast), Some(Multicast), Some(Multicast)),
        ("tcp://10.0.0.1:0", Some(NoHostAndPort), Some(NoHostAndPort), Some(NoHostAndPort)),
        ("tcp://10.0.0.1:65536", Some(NoHostAndPort), Some(NoHostAndPort), Some(NoHostAndPort)),
        ("tcp://10.0.0.1", Some(NoHostAndPort), Some(NoHostAndPort), Some(NoHostAndPort)),
        ("tcp://two words:80", Some(NoHostAndPort), Some(NoHostAndPort), Some(NoHostAndPort)),
        ("tcp://:80", Some(NoHostAndPort), Some(NoHostAndPort), Some(NoHostAndPort)),
        (
            "dynamo-tcp://0.0.0.0:80/1/a/b/c",
            Some(Unspecified),
            Some(Unspecified),
            Some(Unspecified),
        ),
        // The same machine in another container can be reached over loopback as well.
        ("tcp://127.0.0.1:80", None, None, Some(ForeignLoopback)),
        ("tcp://[::1]:80", None, None, Some(ForeignLoopback)),
        ("tcp://[::ffff:127.0.0.1]:80", None, None, Some(ForeignLoopback)),
        ("unix:///run/s", None, Some(ForeignSocket), Some(ForeignSocket)),
        ("tcp://10.0.0.1:80", None, None, None),
        ("tcp://worker-3.pool:80", None, None, None),
        ("quic://whatever", None, None, None),
    ] {
        let bytes = changed(|value| value["sinew"]["addresses"] = json!([address]));
        for (host, obstacle) in [("aa-11", same_host), ("aa-99", same_machine), ("bb-11", far)] {
            let one = decode_on(Some(host), &stock_key(), &bytes).unwrap().instance;
            let found: Vec<_> = one.unreachable.iter().map(|one| one.obstacle).collect();
            assert_eq!(found, Vec::from_iter(obstacle), "{address} on {host}");
            let all = one.addresses.iter().chain(one.unreachable.iter().map(|one| &one.address));
            assert_eq!(all.map(Address::as_str).collect::<Vec<_>>(), [address]);
            assert_eq!(one.is_reachable(), obstacle.is_none(), "{address} on {host}");
        }
        // Of a host that nobody knows, loopback may be ours.
        let unknown = decode_on(None, &stock_key(), &bytes).unwrap().instance;
        assert_eq!(unknown.is_reachable(), same_host.is_none(), "{address}");
    }
    let none = changed(|value| value["sinew"]["addresses"] = json!(["not an address"]));
    assert!(matches!(decode(&stock_key(), &none), Err(RecordError::NoAddress)));
    let many: Vec<_> = (1..=1000).map(|port| format!("tcp://10.0.0.1:{port}")).collect();
    let record = decode_changed(|value| value["sinew"]["addresses"] = json!(many)).unwrap();
    assert_eq!(record.instance.addresses.len(), MAX_ADDRESSES);
}

#[test]
fn weights_are_clamped_and_texts_are_not_weights() {
    for (weight, expected) in [
        ("0", 1),
        ("-5", 1),
        ("2.9", 2),
        ("1e308", 1000),
        ("1000", 1000),
        ("18446744073709551615", 1000),
    ] {
        let text = OURS.replace(r#""weight":7"#, &format!(r#""weight":{weight}"#));
        let record = decode(&stock_key(), text.as_bytes()).unwrap();
        assert_eq!(record.instance.weight, expected, "{weight}");
    }
    for weight in ["NaN", "1e999", "\"7\"", "null"] {
        let text = OURS.replace(r#""weight":7"#, &format!(r#""weight":{weight}"#));
        let result = decode(&stock_key(), text.as_bytes());
        assert!(matches!(result, Err(RecordError::Malformed(_))), "{weight}");
    }
}

#[test]
fn newer_writers_are_read_as_far_as_they_are_known() {
    let record = decode_changed(|value| {
        value["zone"] = json!("x");
        value["sinew"]["zone"] = json!({"deep": [1, 2]});
    });
    assert_eq!(record.unwrap(), our_record());
    let record = decode_changed(|value| value["sinew"]["v"] = json!(2)).unwrap();
    assert_eq!(record.instance.addresses[0].scheme(), "dynamo-tcp");
    let record = decode_changed(|value| value["transport"] = json!({"carrier_pigeon": 7}));
    let mut ours = our_record();
    ours.instance.serves_dynamo = false;
    assert_eq!(record.unwrap(), ours, "no way in for Dynamo, and the same otherwise");
}

#[test]
fn what_is_not_a_record_says_why() {
    let as_text = |result: Result<Record, RecordError>| result.unwrap_err().to_string();
    let at = |bytes: &[u8]| as_text(decode(&stock_key(), bytes));
    assert!(at(b"").contains("not the JSON"));
    assert!(at(&STOCK.as_bytes()[..STOCK.len() / 2]).contains("not the JSON"));
    assert!(at(&vec![b' '; MAX_RECORD_BYTES + 1]).contains("larger"));
    assert!(as_text(decode_changed(|value| value["type"] = json!("Model"))).contains("type"));
    assert!(as_text(decode_changed(|value| value["sinew"]["pid"] = json!(-1))).contains("JSON"));
    assert!(
        as_text(decode_changed(|value| value["sinew"]["addresses"] = json!([])))
            .contains("address")
    );
}

#[test]
fn unprintable_hosts_and_wild_codec_names_are_dropped() {
    let record = decode_changed(|value| {
        value["sinew"]["host"] = json!("a\nb");
        value["sinew"]["codecs"] = json!(["", "x".repeat(33), "a b", "cbor"]);
    })
    .unwrap();
    assert_eq!((record.instance.host, record.instance.codecs), (None, vec!["cbor".to_owned()]));
}

#[test]
fn processes_are_told_apart_by_number_and_else_by_kernel_identity() {
    let one = our_record();
    let mut two = our_record();
    two.instance.process = Some(ProcessId(1));
    assert!(!one.is_of_same_process(&two), "two runtimes in one process");
    two.instance.process = None;
    assert!(one.is_of_same_process(&two));
    two.instance.host = Some("bb-22".to_owned());
    assert!(!one.is_of_same_process(&two), "the same process id on another host");
    two.owner = None;
    assert!(!two.is_of_same_process(&two.clone()), "unknown is not the same");
}

#[test]
fn file_names_are_dynamos() {
    let name = file_name("ns1/backend/generate/6e383eedbd9ea705");
    assert_eq!(name, "ns1%2Fbackend%2Fgenerate%2F6e383eedbd9ea705");
    assert_eq!(file_name("a-b/c_d/e.f/1"), "a%2Db%2Fc%5Fd%2Fe%2Ef%2F1");
    // What Python's quote(key, safe="") makes of it.
    assert_eq!(key_of_file_name("a-b%2fc_d%2Fe.f%2f1").unwrap(), "a-b/c_d/e.f/1");
    for broken in ["a%2", "a%", "a%zz", "%ff"] {
        assert_eq!(key_of_file_name(broken), None, "{broken}");
    }
}

#[test]
fn only_one_text_is_the_key_of_an_instance() {
    for bad in ["", "a/b/c", "a/b/c/", "a/b/c/0A", "a/b/c/+5", "a/b/c/05", "a/b/c/1/x", "a//c/1"] {
        assert_eq!(parse_key(bad), None, "{bad}");
    }
    assert_eq!(parse_key("a/b/c/0").unwrap().id, InstanceId(0));
}

fn names() -> impl Strategy<Value = EndpointName> {
    ("[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,20}", "[a-z]{1,9}", "[a-z0-9]{1,9}")
        .prop_map(|(one, two, three)| EndpointName::new(&one, &two, &three).unwrap())
}

proptest! {
    #[test]
    fn any_text_survives_as_a_file_name(key in ".{0,60}") {
        let name = file_name(&key);
        prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'%'));
        prop_assert_eq!(key_of_file_name(&name), Some(key));
    }

    #[test]
    fn any_instance_comes_back(
        endpoint in names(),
        id: u64,
        incarnation: u64,
        process: Option<u64>,
        weight in 1..=1000_u32,
        ports in prop::collection::vec(1..=u16::MAX, 1..=MAX_ADDRESSES),
        owner: Option<(u32, u32)>,
        idempotent: bool,
    ) {
        let tcp = |port: &u16| format!("tcp://10.1.2.3:{port}").parse().unwrap();
        let mut instance = Instance::new(endpoint, InstanceId(id), ports.iter().map(tcp).collect());
        instance.incarnation = Incarnation(incarnation);
        instance.process = process.map(ProcessId);
        instance.weight = weight;
        instance.idempotent = idempotent;
        let owner = owner.map(|(pid, start)| Owner { pid, start: start.into() });
        let record = Record { instance, owner };
        let text_key = key(&record.instance.key());
        prop_assert_eq!(parse_key(&text_key), Some(record.instance.key()));
        prop_assert_eq!(decode(&record.instance.key(), &encode(&record).unwrap()).unwrap(), record);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&stock_key(), &bytes);
        let _ = key_of_file_name(&String::from_utf8_lossy(&bytes));
        let _ = parse_key(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn damaged_records_never_panic(at in 0..OURS.len(), cut in 0..40_usize, put in "[ -~]{0,12}") {
        let end = (at + cut).min(OURS.len());
        let damaged = format!("{}{put}{}", &OURS[..at], &OURS[end..]);
        if let Ok(record) = decode(&stock_key(), damaged.as_bytes()) {
            let (near, far) = (&record.instance.addresses, &record.instance.unreachable);
            prop_assert!(near.len().max(far.len()) <= MAX_ADDRESSES);
            prop_assert!(near.len() + far.len() >= 1);
            prop_assert!((1..=1000).contains(&record.instance.weight));
        }
    }
}
