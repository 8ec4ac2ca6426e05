//! Payload formats and control headers: no panic, no hang, and what decodes survives a round trip.
//!
//! Input: one byte that picks the format and the type, then the payload.
#![no_main]

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sinew_codec::{PayloadFormat, decode_control};

/// One of everything that serde can ask of a format, and recursive.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    Nothing,
    Flag(bool),
    Number { value: i64, wide: Option<u64> },
    Text(String),
    Letter(char),
    Blob(Bytes),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Pair(Option<Box<Value>>, (u8, i16)),
    Unit(()),
}

/// The shape of Dynamo's request control message.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Control {
    id: String,
    request_type: String,
    connection_info: Connection,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Connection {
    transport: String,
    info: String,
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    format: PayloadFormat,
    payload: &[u8],
) {
    let Ok(value) = format.decode::<T>(payload) else { return };
    let encoded = format.encode(&value).expect("what decodes encodes");
    assert_eq!(format.decode::<T>(&encoded).expect("what was encoded decodes"), value);
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, payload)) = data.split_first() else { return };
    let format = PayloadFormat::ALL[usize::from(choice & 3)];
    match choice >> 2 & 7 {
        0 => round_trip::<Value>(format, payload),
        1 => round_trip::<Control>(format, payload),
        2 => round_trip::<String>(format, payload),
        3 => round_trip::<Vec<u8>>(format, payload),
        4 => round_trip::<Bytes>(format, payload),
        5 => round_trip::<Vec<()>>(format, payload),
        6 => round_trip::<BTreeMap<u32, Vec<Option<u16>>>>(format, payload),
        _ => {
            if let Ok(control) = decode_control::<Control>(payload, 64 * 1024) {
                // What the strict decoder accepts, the ordinary one reads the same way.
                let ordinary = PayloadFormat::Json.decode::<Control>(payload);
                assert_eq!(ordinary.expect("strict accepts less"), control);
            }
        }
    }
});
