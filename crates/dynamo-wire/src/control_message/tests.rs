//! The bytes of requests, against what Dynamo 1.6 was seen to send.

use proptest::prelude::*;

use super::*;

const INFO: &str = r#"{"transport":"tcp_server","info":"{\"address\":\"127.0.0.1:9\"}"}"#;

/// A unary request over TCP as it was captured.
const CAPTURED: &str = r#"{"id":"0f8fad5b-d9cb-469f-a165-70867728950e","request_type":"single_in","response_type":"many_out","payload_codec":"msgpack","connection_info":{"transport":"tcp_server","info":"{\"address\":\"127.0.0.1:9\"}"}}"#;

fn message() -> RequestControlMessage {
    RequestControlMessage {
        id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
        request_type: RequestType::SingleIn,
        response_type: ResponseType::ManyOut,
        payload_codec: PayloadCodec::Msgpack,
        connection_info: RawValue::from_string(INFO.to_owned()).unwrap(),
        metadata: BTreeMap::new(),
        frontend_send_ts_ns: None,
        request_stream_connection_info: None,
        sinew: None,
    }
}

#[test]
fn what_a_worker_has_to_show_is_in_no_log() {
    let metadata = BTreeMap::from([("authorization".to_owned(), "hunter2".to_owned())]);
    let info = Some(message().connection_info);
    let message =
        RequestControlMessage { metadata, request_stream_connection_info: info, ..message() };
    let shown = format!("{message:?}");
    assert!(!shown.contains("tcp_server") && !shown.contains("hunter2"), "{shown}");
}

fn framed(header: &[u8], body: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(header.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&0_u64.to_be_bytes());
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(body);
    bytes.into()
}

fn read(header: &str) -> Result<RequestControlMessage, Error> {
    RequestControlMessage::decode(framed(header.as_bytes(), b"x")).map(|(message, _)| message)
}

#[test]
fn a_request_has_the_bytes_of_dynamo() {
    let body = Bytes::from_static(b"\xa5hello");
    let payload = message().encode(Some(body), 1 << 20).unwrap();
    assert_eq!(payload, framed(CAPTURED.as_bytes(), b"\xa5hello"));
}

#[test]
fn a_captured_request_is_read_and_its_body_is_not_copied() {
    let payload = framed(CAPTURED.as_bytes(), b"\xa5hello");
    let (message, body) = RequestControlMessage::decode(payload.clone()).unwrap();
    let body = body.unwrap();
    assert_eq!(&body[..], b"\xa5hello");
    assert_eq!(body.as_ptr(), payload[payload.len() - 6..].as_ptr());
    assert_eq!(message.connection_info.get(), INFO);
    assert_eq!(serde_json::to_string(&message).unwrap(), CAPTURED);
}

#[test]
fn a_message_of_an_older_peer_means_json() {
    let old = CAPTURED.replace(r#""payload_codec":"msgpack","#, "");
    assert_eq!(read(&old).unwrap().payload_codec, PayloadCodec::Json);
    let unknown = CAPTURED.replace("msgpack", "cbor");
    assert!(read(&unknown).is_err(), "a codec that is not known is not guessed");
}

#[test]
fn unknown_keys_are_skipped_and_repeated_ones_refused() {
    let later = CAPTURED.replacen('{', r#"{"from_the_future":[{"a":1}],"#, 1);
    assert_eq!(serde_json::to_string(&read(&later).unwrap()).unwrap(), CAPTURED);
    let twice = CAPTURED.replacen('{', r#"{"id":"another","#, 1);
    assert_eq!(read(&twice).unwrap_err().code(), Code::InvalidPayload);
}

#[test]
fn a_bidirectional_request_is_all_header() {
    let info = || RawValue::from_string(INFO.to_owned()).unwrap();
    let mut message = message();
    message.request_type = RequestType::ManyIn;
    message.request_stream_connection_info = Some(info());
    let (back, body) =
        RequestControlMessage::decode(message.encode(None, 1 << 20).unwrap()).unwrap();
    assert!(body.is_none());
    assert_eq!(back.request_type, RequestType::ManyIn);
    assert_eq!(back.request_stream_connection_info.unwrap().get(), INFO);
}

#[test]
fn metadata_and_what_sinew_adds_come_back() {
    let mut headers = Headers::new();
    headers.insert("content-type", "application/x-bincode").unwrap();
    headers.insert("b", "gr\u{fc}n \"quoted\"").unwrap();
    headers.insert("a", "").unwrap();
    let mut message = message();
    message.metadata.insert("tenant".into(), "blue".into());
    message.sinew = Some(SinewControl {
        v: SINEW_CONTROL_VERSION,
        deadline_ms: Some(1500),
        attempt: 2,
        instance: Some("1f".into()),
        headers: headers.clone(),
    });
    let text = serde_json::to_string(&message).unwrap();
    assert!(
        text.ends_with(
            r#""sinew":{"v":1,"deadline_ms":1500,"attempt":2,"instance":"1f","headers":[["content-type","application/x-bincode"],["b","grün \"quoted\""],["a",""]]}}"#
        ),
        "{text}"
    );
    let back = read(&text).unwrap();
    assert_eq!(back.metadata, message.metadata);
    assert_eq!(back.sinew, message.sinew);
    let bare = text.replace(r#","headers":[["content-type""#, r#","headers":[["UPPER""#);
    assert!(read(&bare).is_err(), "what is no header is refused");
}

#[test]
fn the_limit_of_the_message_holds_at_both_ends() {
    let mut message = message();
    let room = CONTROL_MESSAGE_MAX_BYTES - CAPTURED.len() - r#","metadata":{"k":""}"#.len();
    message.metadata.insert("k".into(), "x".repeat(room));
    let payload = message.encode(Some("b".into()), 1 << 20).unwrap();
    assert!(RequestControlMessage::decode(payload).is_ok());
    message.metadata.insert("k".into(), "x".repeat(room + 1));
    let error = message.encode(Some("b".into()), 1 << 20).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
    assert!(!error.is_safe_to_resend());
    let text = serde_json::to_string(&message).unwrap();
    assert_eq!(read(&text).unwrap_err().code(), Code::InvalidPayload);
}

#[test]
fn the_limit_of_the_whole_holds() {
    let body = Bytes::from(vec![0; 1000]);
    let fits = 24 + CAPTURED.len() + 1000;
    assert!(message().encode(Some(body.clone()), fits).is_ok());
    let error = message().encode(Some(body), fits - 1).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
}

#[test]
fn what_is_no_request_is_refused_without_a_run() {
    let mut mangled = framed(CAPTURED.as_bytes(), b"x").to_vec();
    mangled[7] += 1;
    let mut wrong_sum = framed(CAPTURED.as_bytes(), b"x").to_vec();
    wrong_sum[23] = 1;
    for payload in [
        Bytes::new(),
        Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n      "),
        framed(b"", b"body alone"),
        framed(b"", b""),
        framed(b"not json", b"x"),
        framed(b"{}", b"x"),
        framed(b"[]", b"x"),
        framed(CAPTURED.as_bytes(), b"x").slice(..40),
        mangled.into(),
        wrong_sum.into(),
        [framed(CAPTURED.as_bytes(), b"x"), framed(b"{}", b"")].concat().into(),
    ] {
        let error = RequestControlMessage::decode(payload.clone()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidPayload, "{payload:?}");
        assert_eq!(error.executed(), Executed::No);
    }
}

proptest! {
    #[test]
    fn any_payload_decodes_or_is_refused(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = RequestControlMessage::decode(payload.into());
    }

    #[test]
    fn any_header_decodes_or_is_refused(
        at in 0..CAPTURED.len(),
        put in "[\\x00-\\x7f]{0,4}",
    ) {
        let mut text = CAPTURED.to_owned();
        text.replace_range(at..(at + put.len()).min(CAPTURED.len()), &put);
        let _ = read(&text);
    }

    #[test]
    fn metadata_of_any_kind_comes_back(
        metadata in prop::collection::btree_map("\\PC{0,20}", "\\PC{0,40}", 0..10),
    ) {
        let message = RequestControlMessage { metadata, ..message() };
        let payload = message.encode(Some("b".into()), 1 << 20).unwrap();
        let (back, _) = RequestControlMessage::decode(payload).unwrap();
        prop_assert_eq!(back.metadata, message.metadata);
    }
}
