//! Payload formats: round trips, and any bytes decoded as any type end in a value or an error.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Serialize};
use sinew_codec::{PayloadFormat, decode_control};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Value {
    Nothing,
    Flag(bool),
    Number { value: i64 },
    Text(String),
    Blob(Bytes),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Pair(Option<Box<Value>>, u8),
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nothing),
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(|value| Value::Number { value }),
        ".{0,12}".prop_map(Value::Text),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Blob(bytes.into())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::List),
            proptest::collection::btree_map(".{0,4}", inner.clone(), 0..5).prop_map(Value::Map),
            (proptest::option::of(inner.prop_map(Box::new)), any::<u8>())
                .prop_map(|(left, right)| Value::Pair(left, right)),
        ]
    })
}

proptest! {
    #[test]
    fn values_round_trip(value in value()) {
        for format in [PayloadFormat::Json, PayloadFormat::Msgpack, PayloadFormat::Bincode] {
            let payload = format.encode(&value).unwrap();
            prop_assert_eq!(&format.decode::<Value>(&payload).unwrap(), &value);
            let longer = [&payload[..], b"\0"].concat();
            prop_assert!(format.decode::<Value>(&longer).is_err());
        }
    }

    #[test]
    fn raw_round_trips(bytes in vec(any::<u8>(), 0..200)) {
        let payload = PayloadFormat::Raw.encode(&bytes).unwrap();
        prop_assert_eq!(&payload[..], &bytes[..]);
        prop_assert_eq!(PayloadFormat::Raw.decode::<Vec<u8>>(&payload).unwrap(), bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for format in PayloadFormat::ALL {
            if let Ok(value) = format.decode::<Value>(&bytes) {
                format.encode(&value).unwrap();
            }
            let _ = format.decode::<Vec<()>>(&bytes);
            let _ = format.decode::<BTreeMap<String, Bytes>>(&bytes);
            let _ = format.decode::<String>(&bytes);
        }
        let _ = decode_control::<Value>(&bytes, 64 * 1024);
    }

    // Near misses reach deeper than arbitrary bytes.
    #[test]
    fn damaged_payloads_never_panic(value in value(), at in any::<usize>(), byte in any::<u8>()) {
        for format in [PayloadFormat::Json, PayloadFormat::Msgpack, PayloadFormat::Bincode] {
            let mut payload = format.encode(&value).unwrap().to_vec();
            let at = at % payload.len();
            payload[at] = byte;
            let _ = format.decode::<Value>(&payload);
        }
    }
}
