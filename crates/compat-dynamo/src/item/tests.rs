//! The bytes of items, against what Dynamo 1.6 was seen to send.

use proptest::prelude::*;
use serde_json::{Value, json};
use sinew_codec::PayloadFormat;

use super::*;

const JSON: ItemCodec = ItemCodec::new(PayloadCodec::Json);
const MSGPACK: ItemCodec = ItemCodec::new(PayloadCodec::Msgpack);

fn content(items: ItemCodec, frame: impl Into<Bytes>) -> Content {
    let frame = items.unwrap(&frame.into()).unwrap();
    assert!(!frame.is_final);
    frame.content
}

#[track_caller]
fn item(items: ItemCodec, frame: impl Into<Bytes>) -> Bytes {
    match content(items, frame) {
        Content::Item(item) => item,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn failure(items: ItemCodec, frame: impl Into<Bytes>) -> Error {
    match content(items, frame) {
        Content::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

/// A value in the codec, inside the outer wrapping alone.
fn outer(items: ItemCodec, value: &Value) -> Bytes {
    let item = items.codec().format().encode(value).unwrap();
    items.annotated(true).wrap(&item)
}

#[test]
fn an_item_has_the_bytes_of_dynamo() {
    assert_eq!(JSON.wrap(b"\"hello-0\""), r#"{"data":{"data":"hello-0"},"complete_final":false}"#);
    assert_eq!(
        &MSGPACK.wrap(b"\xa7hello-0")[..],
        b"\x82\xa4data\x81\xa4data\xa7hello-0\xaecomplete_final\xc2"
    );
}

/// Frames that begin and end as a plain item does are read as if they did not.
#[test]
fn what_stands_between_the_usual_bytes_is_one_value() {
    let frame = |value: &str| {
        Bytes::from(format!(r#"{{"data":{{"data":{value}}},"complete_final":false}}"#))
    };
    for value in ["null", "7", r#""a\"}""#, r#"{"data":1}"#, "[1, 2]"] {
        assert_eq!(item(JSON, frame(value)), value);
    }
    for value in ["", "1 2", "\"a", "\"a\nb\"", r#"1},"complete_final":false"#] {
        assert!(JSON.unwrap(&frame(value)).is_err(), "{value}");
    }
    let told = r#"1,"error":{"error_type":"Unknown","message":"boom","cause":null}"#;
    assert!(failure(JSON, frame(told)).message().contains("boom"));
    let nothing = Bytes::from(r#"{"data":null,"complete_final":false}"#);
    assert!(JSON.annotated(true).unwrap(&nothing).is_err());
}

#[test]
fn the_end_has_the_bytes_of_dynamo() {
    assert_eq!(JSON.end(), r#"{"complete_final":true}"#);
    assert_eq!(&MSGPACK.end()[..], b"\x81\xaecomplete_final\xc3");
    for items in [JSON, MSGPACK] {
        let frame = items.unwrap(&items.end()).unwrap();
        assert!(frame.is_final && matches!(frame.content, Content::Nothing));
    }
}

#[test]
fn annotated_items_are_wrapped_once_and_come_back_untouched() {
    let annotated = br#"{"data":1,"id":"7","event":"error"}"#;
    let frame = JSON.annotated(true).wrap(annotated);
    assert_eq!(frame, r#"{"data":{"data":1,"id":"7","event":"error"},"complete_final":false}"#);
    assert_eq!(&item(JSON.annotated(true), frame)[..], annotated);
    let annotated = b"\x81\xa4data\x01";
    let frame = MSGPACK.annotated(true).wrap(annotated);
    assert_eq!(&frame[..], b"\x82\xa4data\x81\xa4data\x01\xaecomplete_final\xc2");
    assert_eq!(&item(MSGPACK.annotated(true), frame)[..], annotated);
}

#[test]
fn unwrapped_items_are_slices_of_their_frame() {
    for (items, value) in [(JSON, &b"{ \"a\": [1, 2] }"[..]), (MSGPACK, b"\x81\xa1a\x92\x01\x02")] {
        let frame = items.wrap(value);
        let range = frame.as_ptr_range();
        let item = item(items, frame.clone());
        assert_eq!(&item[..], value);
        assert!(range.contains(&item.as_ptr()));
    }
}

#[test]
fn order_spaces_and_unknown_keys_do_not_matter() {
    let frame = r#" { "later" : {"x":[]}, "complete_final" : false, "data" : { "id" : "1", "new": 1, "data" : "x" } } "#;
    assert_eq!(item(JSON, frame), "\"x\"");
    let frame = b"\x83\xa5later\x91\xc0\xaecomplete_final\xc2\xa4data\x82\xa2id\xa11\xa4data\x05";
    assert_eq!(&item(MSGPACK, &frame[..])[..], b"\x05");
}

#[test]
fn a_frame_may_bring_the_last_item_and_the_end() {
    for items in [JSON, MSGPACK] {
        let value = json!({"data": {"data": "x"}, "complete_final": true});
        let frame = items.codec().format().encode(&value).unwrap();
        let frame = items.unwrap(&frame).unwrap();
        assert!(frame.is_final && matches!(frame.content, Content::Item(_)));
    }
}

#[test]
fn annotations_without_data_are_nothing_for_the_caller() {
    for items in [JSON, MSGPACK] {
        for value in [
            json!({}),
            json!({"id": "7"}),
            json!({"event": "worker", "comment": ["5"]}),
            json!({"data": null, "event": "worker"}),
            json!({"id": null, "event": null, "comment": null, "error": null}),
        ] {
            let content = content(items, outer(items, &value));
            assert!(matches!(content, Content::Nothing), "{value}: {content:?}");
        }
    }
}

#[test]
fn an_item_may_be_null() {
    for items in [JSON, MSGPACK] {
        for value in [json!({"data": null}), json!({"data": null, "id": "7", "event": null})] {
            let content = content(items, outer(items, &value));
            let Content::Item(item) = content else { panic!("{value}: {content:?}") };
            assert_eq!(items.codec().format().decode::<Value>(&item).unwrap(), Value::Null);
        }
    }
}

#[test]
fn values_of_another_type_pass_as_they_are() {
    for items in [JSON, MSGPACK] {
        for value in [
            json!("text"),
            json!(7),
            json!([1, 2]),
            json!({"token": "x"}),
            json!({"token": "x", "id": "7"}),
            json!({"event": 5}),
            json!({"event": "started", "comment": "no list"}),
        ] {
            let wanted = items.codec().format().encode(&value).unwrap();
            assert_eq!(item(items, outer(items, &value)), wanted, "{value}");
        }
    }
}

#[test]
fn errors_as_dynamo_sends_them_end_the_stream() {
    let told = json!({"event": "error", "error": {
        "error_type": "Unknown", "class": "Internal", "reason": "runtime.unclassified",
        "message": "engine refused fail", "diagnostic": "engine refused fail",
        "caused_by": {"class": "Unavailable", "reason": "backend.unavailable", "message": "x"},
    }});
    for items in [JSON, MSGPACK] {
        let error = failure(items, outer(items, &told));
        assert_eq!((error.code(), error.executed()), (Code::HandlerFailed, Executed::Yes));
        assert_eq!(error.message(), "engine refused fail");

        // The event alone is enough, and so is the error, whatever stands beside it.
        let event = json!({"event": "error", "comment": ["out of", "memory"]});
        assert_eq!(failure(items, outer(items, &event)).message(), "out of, memory");
        let silent = json!({"event": "error"});
        assert!(failure(items, outer(items, &silent)).message().contains("did not say"));
        let both = json!({"data": 5, "error": {"message": "late"}});
        assert_eq!(failure(items, outer(items, &both)).message(), "late");
        let later = json!({"error": {"class": "FromTheFuture", "message": "m"}});
        assert_eq!(failure(items, outer(items, &later)).code(), Code::HandlerFailed);
        let unreadable = json!({"error": [1]});
        assert_eq!(failure(items, outer(items, &unreadable)).code(), Code::HandlerFailed);
        let backend =
            json!({"error": {"error_type": {"Backend": "EngineShutdown"}, "message": "b"}});
        assert_eq!(failure(items, outer(items, &backend)).message(), "b");
    }
}

#[test]
fn our_errors_come_back_exactly() {
    for items in [JSON, MSGPACK] {
        for code in Code::ALL {
            let error = Error::new(*code, "gr\u{fc}n").with_executed(Executed::Yes);
            let frame = items.wrap_error(&DynamoError::from_error(&error)).unwrap();
            let told = failure(items, frame.clone());
            assert_eq!((told.code(), told.message()), (*code, "gr\u{fc}n"));
            assert_eq!(told.executed(), Executed::Yes);
            // Who wants the annotations gets them.
            let annotated = item(items.annotated(true), frame);
            let annotated: Annotated<Value> = items.codec().format().decode(&annotated).unwrap();
            assert!(annotated.is_error() && annotated.event.as_deref() == Some("error"));
        }
    }
}

#[test]
fn an_error_item_has_the_keys_of_dynamo() {
    let error = DynamoError::from_error(&Error::handler("boom"));
    let frame = JSON.wrap_error(&error).unwrap();
    let frame: Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(frame["complete_final"], false);
    assert_eq!(frame["data"]["event"], "error");
    let told = &frame["data"]["error"];
    for (key, value) in [
        ("error_type", "Unknown"),
        ("class", "Internal"),
        ("reason", "runtime.unclassified"),
        ("message", "boom"),
    ] {
        assert_eq!(told[key], value);
    }
}

#[test]
fn what_is_no_frame_is_a_violation() {
    let json: &[&[u8]] = &[
        b"",
        b"null",
        b"7",
        b"\"text\"",
        b"{}",
        b"[]",
        b"{\"data\":1}",
        b"{\"complete_final\":false}",
        b"{\"data\":null,\"complete_final\":false}",
        b"{\"complete_final\":1}",
        b"{\"data\":1,\"data\":2,\"complete_final\":false}",
        b"{\"data\":{,\"complete_final\":false}",
        b"{\"data\":\"\xff\",\"complete_final\":false}",
        b"{\"complete_final\":true}{\"complete_final\":true}",
        b"\x81\xaecomplete_final\xc3",
    ];
    let msgpack: &[&[u8]] = &[
        b"",
        b"\xc0",
        b"\x80",
        b"\x90",
        b"\x81\xa4data\x01",
        b"\x81\xaecomplete_final\xc2",
        b"\x82\xa4data\xc0\xaecomplete_final\xc2",
        b"\x81\xaecomplete_final\x01",
        b"\x81\x01\xc3",
        b"\x83\xa4data\x01\xa4data\x02\xaecomplete_final\xc2",
        b"\x82\xaecomplete_final\xc2\xaecomplete_final\xc3",
        b"\x81\xaecomplete_final\xc3\x00",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa4\xff\xff\xff\xff\xc3",
        b"{\"complete_final\":true}",
    ];
    for (items, frames) in [(JSON, json), (MSGPACK, msgpack)] {
        for frame in frames {
            let error = items.unwrap(&Bytes::copy_from_slice(frame)).unwrap_err();
            assert_eq!(error.code(), Code::Violation, "{}", frame.escape_ascii());
            assert!(!error.is_safe_to_resend());
            assert!(error.message().len() < 200, "it does not quote the frame");
        }
    }
}

#[test]
fn nesting_is_passed_over_without_a_stack() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    assert_eq!(item(JSON, JSON.wrap(deep.as_bytes())), deep.as_bytes());
    let mut deep = vec![0x91; 200_000];
    deep.push(0x01);
    assert_eq!(&item(MSGPACK, MSGPACK.wrap(&deep))[..], deep);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{0,12}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn wrapped_items_come_back(value in any_value()) {
        for items in [JSON, MSGPACK] {
            let plain = items.codec().format().encode(&value).unwrap();
            let frame = items.wrap(&plain);
            prop_assert_eq!(&item(items, frame.clone()), &plain);
            // And Dynamo reads what it would have written.
            let read: Value = items.codec().format().decode(&frame).unwrap();
            prop_assert_eq!(read, json!({"data": {"data": value}, "complete_final": false}));
        }
    }

    #[test]
    fn any_bytes_unwrap_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for items in [JSON, MSGPACK] {
            for items in [items, items.annotated(true)] {
                let _ = items.unwrap(&Bytes::from(bytes.clone()));
            }
        }
    }

    #[test]
    fn mangled_frames_unwrap_or_are_refused(
        at in 0_usize..200,
        put: u8,
        value in any_value(),
    ) {
        for items in [JSON, MSGPACK] {
            let plain = items.codec().format().encode(&value).unwrap();
            let error = DynamoError::from_error(&Error::handler("boom"));
            for frame in [items.wrap(&plain), items.wrap_error(&error).unwrap()] {
                let mut frame = frame.to_vec();
                let at = at % frame.len();
                frame[at] = put;
                let _ = items.unwrap(&frame.into());
            }
        }
    }

    #[test]
    fn annotated_values_of_serde_are_read(value in any_value(), id in prop::option::of("\\PC{0,9}")) {
        for format in [PayloadFormat::Json, PayloadFormat::Msgpack] {
            let items = ItemCodec::new(PayloadCodec::of(format).unwrap());
            let annotated = Annotated { id: id.clone(), ..Annotated::from_data(value.clone()) };
            let frame = items.annotated(true).wrap(&format.encode(&annotated).unwrap());
            prop_assert_eq!(item(items, frame), format.encode(&value).unwrap());
        }
    }
}
