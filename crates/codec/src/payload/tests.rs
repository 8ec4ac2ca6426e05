//! Round trips and bad input of every payload format.

use std::{collections::BTreeMap, fmt::Debug};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::*;

const STRUCTURED: [PayloadFormat; 3] =
    [PayloadFormat::Json, PayloadFormat::Msgpack, PayloadFormat::Bincode];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(i64, String),
    Struct { on: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrapped(Option<u16>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    id: u64,
    name: String,
    ratio: f64,
    letter: char,
    wrapped: Wrapped,
    shapes: Vec<Shape>,
    labels: BTreeMap<String, i32>,
    fixed: [u8; 3],
    blob: Bytes,
    nothing: (),
}

/// One field of no size next to one of a byte: more fields than bytes, and still legal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Thin {
    outer: Inner,
    nothing: (),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    value: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

fn sample() -> Sample {
    Sample {
        id: u64::MAX,
        name: "näme".into(),
        ratio: -0.5,
        letter: '→',
        wrapped: Wrapped(Some(7)),
        shapes: vec![
            Shape::Unit,
            Shape::Newtype(1),
            Shape::Tuple(-2, "t".into()),
            Shape::Struct { on: true },
        ],
        labels: [("a".to_owned(), 1), ("b".to_owned(), -1)].into(),
        fixed: [1, 2, 3],
        blob: Bytes::from_static(b"\0\xff"),
        nothing: (),
    }
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    format: PayloadFormat,
    value: &T,
) {
    let payload = format.encode(value).unwrap();
    assert_eq!(&format.decode::<T>(&payload).unwrap(), value, "{format}");
    // Trailing bytes are refused in every format.
    for extra in [0u8, b' ', b'1', 0xc0, 0xc1, 0xff] {
        let longer = [&payload[..], &[extra]].concat();
        match format.decode::<T>(&longer) {
            // White space after JSON text is part of the text.
            Ok(_) => assert!(format == PayloadFormat::Json && extra == b' '),
            // A digit after a digit makes a longer number, which is another value or out of range.
            Err(PayloadError::TrailingBytes { .. }) => {}
            Err(other) => panic!("{format} with {extra:#x}: {other}"),
        }
    }
    for len in 0..payload.len() {
        assert!(format.decode::<T>(&payload[..len]).is_err(), "{format} cut at {len}");
    }
}

#[test]
fn structured_values_survive_every_format() {
    for format in STRUCTURED {
        round_trip(format, &sample());
        round_trip(format, &Thin { outer: Inner { value: 1 }, nothing: () });
        round_trip(format, &vec![vec![1u8], vec![], vec![2, 3]]);
        round_trip(format, &"text".to_owned());
    }
}

#[test]
fn wire_bytes_are_the_agreed_ones() {
    let value = Inner { value: 5 };
    assert_eq!(PayloadFormat::Json.encode(&value).unwrap(), "{\"value\":5}");
    // A named map, as Dynamo writes it.
    assert_eq!(PayloadFormat::Msgpack.encode(&value).unwrap(), &b"\x81\xa5value\x05"[..]);
    assert_eq!(PayloadFormat::Msgpack.encode("hello").unwrap(), &b"\xa5hello"[..]);
    // Fixed-width little-endian length.
    assert_eq!(PayloadFormat::Bincode.encode("hi").unwrap(), &b"\x02\0\0\0\0\0\0\0hi"[..]);
    assert_eq!(PayloadFormat::Raw.encode("hi").unwrap(), "hi");
}

#[test]
fn raw_carries_bytes_and_text_and_nothing_else() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Named(Bytes);

    let raw = PayloadFormat::Raw;
    let bytes = Bytes::from_static(b"\0\x01\xff");
    assert_eq!(raw.encode(&bytes).unwrap(), bytes);
    assert_eq!(raw.decode::<Bytes>(&bytes).unwrap(), bytes);
    assert_eq!(raw.encode(&bytes.to_vec()).unwrap(), bytes);
    assert_eq!(raw.decode::<Vec<u8>>(&bytes).unwrap(), bytes.to_vec());
    assert_eq!(raw.encode(&[0u8, 1, 255]).unwrap(), bytes);
    assert_eq!(raw.decode::<[u8; 3]>(&bytes).unwrap(), [0, 1, 255]);
    assert_eq!(raw.encode(&Named(bytes.clone())).unwrap(), bytes);
    assert_eq!(raw.decode::<Named>(&bytes).unwrap(), Named(bytes.clone()));
    assert_eq!(raw.decode::<String>("ä".as_bytes()).unwrap(), "ä");
    assert_eq!(raw.decode::<Vec<u8>>(b"").unwrap(), b"");

    let not_bytes = |result| matches!(result, Err(PayloadError::NotBytes { .. }));
    assert!(not_bytes(raw.encode(&7u8)));
    assert!(not_bytes(raw.encode(&Some("x"))));
    assert!(not_bytes(raw.encode(&vec![1u16])));
    assert!(not_bytes(raw.encode(&vec!["a", "b"])));
    assert!(not_bytes(raw.encode(&vec![vec![1u8]])));
    assert!(not_bytes(raw.encode(&sample())));
    assert!(not_bytes(raw.encode(&BTreeMap::<u8, u8>::new())));
    assert!(not_bytes(raw.decode::<u8>(b"1").map(|_| Bytes::new())));
    assert!(not_bytes(raw.decode::<Vec<u16>>(b"1").map(|_| Bytes::new())));
    assert!(not_bytes(raw.decode::<Sample>(b"{}").map(|_| Bytes::new())));
    assert!(matches!(raw.decode::<String>(b"\xff"), Err(PayloadError::Decode { .. })));
    let two = raw.decode::<[u8; 2]>(&bytes);
    assert!(matches!(two, Err(PayloadError::TrailingBytes { .. })));
    assert!(raw.decode::<[u8; 4]>(&bytes).is_err());
}

#[test]
fn the_encode_limit_holds_and_a_failed_encode_leaves_the_buffer_alone() {
    for format in PayloadFormat::ALL {
        let text = "x".repeat(40);
        let len = format.encode(&text).unwrap().len();
        let mut out = BytesMut::from("kept");
        let error = format.encode_into(&text, &mut out, len - 1).unwrap_err();
        assert_eq!(error, PayloadError::TooLarge { format: format.name(), limit: len - 1 });
        assert_eq!(out, "kept");
        format.encode_into(&text, &mut out, len).unwrap();
        assert_eq!(out.len(), 4 + len);
    }
}

// B-H04, B-A15
#[test]
fn hostile_json_is_an_error() {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    assert!(PayloadFormat::Json.decode::<serde_json::Value>(deep.as_bytes()).is_err());
    let long_number = "9".repeat(10_000_000);
    assert!(PayloadFormat::Json.decode::<u64>(long_number.as_bytes()).is_err());
    for text in ["NaN", "Infinity", "1e400", "-1e400", "01", "1.", "\u{feff}1", ""] {
        assert!(PayloadFormat::Json.decode::<f64>(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(PayloadFormat::Json.decode::<f64>(b"-0").unwrap(), 0.0);
    for text in ["18446744073709551616", "-1", "1.0"] {
        assert!(PayloadFormat::Json.decode::<u64>(text.as_bytes()).is_err(), "{text}");
    }
    for text in ["\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\x01\""] {
        assert!(PayloadFormat::Json.decode::<String>(text.as_bytes()).is_err(), "{text}");
    }
    assert!(PayloadFormat::Json.decode::<String>(b"\"\xff\"").is_err());
    let error = PayloadFormat::Json.decode::<Inner>(b"{\"value\":1,\"value\":2}").unwrap_err();
    assert!(error.to_string().contains("duplicate field `value`"), "{error}");
    assert!(PayloadFormat::Json.encode(&BTreeMap::from([((1, 2), 3)])).is_err());
}

// B-H05
#[test]
fn length_bombs_are_errors() {
    let huge = [0xffu8; 8];
    let bincode = PayloadFormat::Bincode;
    assert!(bincode.decode::<String>(&huge).is_err());
    assert!(bincode.decode::<Bytes>(&huge).is_err());
    assert!(bincode.decode::<Vec<u64>>(&huge).is_err());
    assert!(bincode.decode::<BTreeMap<u64, String>>(&huge).is_err());
    // Zero-sized elements: eight bytes that ask for 2^64 iterations.
    let error = bincode.decode::<Vec<()>>(&huge).unwrap_err();
    assert!(error.to_string().contains("more elements than bytes"), "{error}");

    let msgpack = PayloadFormat::Msgpack;
    assert!(msgpack.decode::<String>(b"\xdb\xff\xff\xff\xff").is_err());
    assert!(msgpack.decode::<Bytes>(b"\xc6\xff\xff\xff\xff").is_err());
    assert!(msgpack.decode::<Vec<u64>>(b"\xdd\xff\xff\xff\xff").is_err());
    assert!(msgpack.decode::<BTreeMap<u64, u64>>(b"\xdf\xff\xff\xff\xff").is_err());
    assert!(msgpack.decode::<Bytes>(b"\xdd\xff\xff\xff\xff\x01").is_err());
}

#[test]
fn visitors_see_no_more_elements_than_the_payload_could_hold() {
    /// The length that a collection would allocate.
    #[derive(Debug)]
    struct Hint(usize);

    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Hint;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a sequence")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, all: A) -> Result<Hint, A::Error> {
                    Ok(Hint(all.size_hint().unwrap_or(0)))
                }
            }
            deserializer.deserialize_seq(Visitor)
        }
    }

    // bincode does not mind a visitor that leaves elements unread.
    let hint = |declared: u64| PayloadFormat::Bincode.decode::<Hint>(&declared.to_le_bytes());
    assert_eq!(hint(3).unwrap().0, 3);
    assert_eq!(hint(8).unwrap().0, 8);
    // More declared than the payload has bytes.
    assert_eq!(hint(9).unwrap().0, 8);
    assert_eq!(hint(u64::MAX).unwrap().0, 8);
}

// B-H04 and its like in the binary formats: a stack overflow would end the process.
#[test]
fn deep_nesting_is_an_error_in_every_format() {
    let too_deep = |error: PayloadError| assert!(error.to_string().contains("too deep"), "{error}");
    let ones = vec![1u8; 32 * 1024 * 1024];
    too_deep(PayloadFormat::Bincode.decode::<Chain>(&ones).unwrap_err());
    too_deep(
        PayloadFormat::Bincode.decode::<Tree>(&[1, 0, 0, 0, 0, 0, 0, 0].repeat(9999)).unwrap_err(),
    );
    too_deep(PayloadFormat::Msgpack.decode::<Tree>(&vec![0x91; 100_000]).unwrap_err());
    too_deep(PayloadFormat::Msgpack.decode::<serde_json::Value>(&vec![0x91; 100_000]).unwrap_err());
    assert!(PayloadFormat::Msgpack.decode::<Chain>(&b"\x81\xa4next".repeat(100_000)).is_err());

    let nested =
        (0..40).fold(Chain { next: None }, |chain, _| Chain { next: Some(Box::new(chain)) });
    for format in STRUCTURED {
        round_trip(format, &nested);
    }
}

#[test]
fn errors_do_not_quote_the_payload() {
    const SECRET: &str = "hunter2-canary";
    for format in STRUCTURED {
        let payload = format.encode(SECRET).unwrap();
        for error in [
            format.decode::<u8>(&payload).err(),
            format.decode::<Inner>(&payload).err(),
            format.decode::<Shape>(&payload).err(),
            format.decode::<bool>(&payload).err(),
        ] {
            let error = error.unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{format}: {error}");
        }
    }
    let error = PayloadFormat::Json.decode::<Inner>(b"{}").unwrap_err();
    assert!(error.to_string().contains("missing field `value`"), "{error}");
}

// B-A13 to B-A16
#[test]
fn control_headers_are_decoded_strictly() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Header {
        id: String,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
    }
    let decode = |text: &str| decode_control::<Header>(text.as_bytes(), 64 * 1024);
    let reason = |text: &str| decode(text).unwrap_err().to_string();

    let header =
        decode("{\"id\":\"a\",\"metadata\":{\"k\":\"v\"},\"new\":[{\"x\":null}]}").unwrap();
    assert_eq!(header.metadata["k"], "v");
    // Unknown keys are ignored, repeated ones are not, wherever they stand.
    for text in [
        "{\"id\":\"a\",\"id\":\"b\"}",
        "{\"id\":\"a\",\"metadata\":{\"k\":\"v\",\"k\":\"w\"}}",
        "{\"id\":\"a\",\"new\":[{\"x\":1,\"\\u0078\":2}]}",
        "{\"id\":\"a\",\"new\":1,\"new\":1}",
    ] {
        assert!(reason(text).contains("repeated key"), "{text}");
    }
    // However many keys there are, and wherever the two of them stand.
    let keys: Vec<String> = (0..40).map(|n| format!("\"k{n}\":0")).collect();
    assert!(decode(&format!("{{\"id\":\"a\",{}}}", keys.join(","))).is_ok());
    for again in [0, 10, 11, 12, 39] {
        let text = format!("{{\"id\":\"a\",{},{}}}", keys.join(","), keys[again]);
        assert!(reason(&text).contains("repeated key"), "{text}");
    }
    let nested = |levels: usize| {
        format!("{{\"id\":\"a\",\"new\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
    };
    assert!(decode(&nested(MAX_CONTROL_DEPTH)).is_ok());
    assert!(reason(&nested(MAX_CONTROL_DEPTH + 1)).contains("too deep"));
    assert!(reason(&nested(10_000)).contains("too deep"));

    for text in [
        "{\"id\":\"a\"}x",
        "{\"id\":\"a\"}{}",
        "\u{feff}{\"id\":\"a\"}",
        "{\"id\":\"\\ud800\"}",
        "{\"id\":\"a\",\"new\":\"\\ud800\"}",
        "{\"id\":\"a\",\"new\":1e400}",
        "{\"id\":\"a\",\"new\":NaN}",
        "",
        "[]",
        "null",
        "{}",
    ] {
        assert!(decode(text).is_err(), "{text}");
    }
    let many: String = (0..100_000).map(|n| format!(",\"k{n}\":0")).collect();
    let error = decode(&format!("{{\"id\":\"a\"{many}}}")).unwrap_err();
    assert_eq!(error, PayloadError::TooLarge { format: "json", limit: 64 * 1024 });
}

#[test]
fn a_deferred_value_is_serialised_at_the_boundary_only() {
    /// Refuses to be serialised: proof that the local path does not try.
    #[derive(Debug, PartialEq, Deserialize)]
    struct LocalOnly(u8);

    assert_eq!(Deferred::Value(LocalOnly(1)).into_value().unwrap(), LocalOnly(1));

    let value = Deferred::Value(Inner { value: 9 });
    let payload = value.into_payload(PayloadFormat::Msgpack).unwrap();
    let arrived =
        Deferred::<Inner>::Encoded { format: PayloadFormat::Msgpack, payload: payload.clone() };
    let same = arrived.clone().into_payload(PayloadFormat::Msgpack).unwrap();
    assert_eq!(same.as_ptr(), payload.as_ptr(), "passed on as it is");
    assert_eq!(arrived.clone().into_payload(PayloadFormat::Json).unwrap(), "{\"value\":9}");
    assert_eq!(arrived.into_value().unwrap(), Inner { value: 9 });
}
