//! The rules of the request plane's frames, one by one.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::ForeignProtocol;

/// A frame made by hand.
fn frame(path: &[u8], headers: &[u8], payload: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u16(path.len() as u16);
    bytes.put_slice(path);
    bytes.put_u16(headers.len() as u16);
    bytes.put_slice(headers);
    bytes.put_u32(payload.len() as u32);
    bytes.put_slice(payload);
    bytes
}

fn message(path: &str, headers: &str, payload: &[u8]) -> TcpRequestMessage {
    let (headers, payload) = (Bytes::from(headers.to_owned()), Bytes::copy_from_slice(payload));
    TcpRequestMessage::new(path, headers, payload).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Option<TcpRequestMessage>, TcpRequestError> {
    TcpRequestCodec::default().decode_frame(&mut BytesMut::from(bytes))
}

#[test]
fn golden_frames() {
    let golden: &[u8] = b"\x00\x06\x31f/a/b\x00\x09{\"a\":\"1\"}\x00\x00\x00\x03xyz";
    let golden_message = message("1f/a/b", "{\"a\":\"1\"}", b"xyz");
    let mut wire = BytesMut::new();
    TcpRequestCodec::default().encode_frame(&golden_message, &mut wire).unwrap();
    assert_eq!(&wire[..], golden);
    assert_eq!(decode(golden).unwrap().unwrap(), golden_message);
    let codec = TcpRequestCodec::default();
    let parts = codec.encode_parts(golden_message).unwrap();
    assert_eq!([&parts.head[..], &parts.body[..]].concat(), golden);
    let request = codec.encode_request("1f/a/b", b"{\"a\":\"1\"}", "xyz".into()).unwrap();
    assert_eq!(request, parts);

    for (data, golden) in [
        (&b""[..], &b"\x00\x00\x00\x00"[..]),
        (b"Server overloaded: x", b"\x00\x00\x00\x14Server overloaded: x"),
    ] {
        let message = TcpResponseMessage { data: Bytes::from_static(data) };
        let mut wire = BytesMut::new();
        TcpResponseCodec::default().encode_frame(&message, &mut wire).unwrap();
        assert_eq!(&wire[..], golden);
        assert_eq!(TcpResponseCodec::default().decode_frame(&mut wire).unwrap(), Some(message));
        assert!(wire.is_empty());
    }
}

#[test]
fn a_request_is_checked_the_same_with_and_without_a_message() {
    let codec = TcpRequestCodec::new(100);
    let long = [b' '; 1 << 16];
    for (path, headers) in [
        ("", &b"{}"[..]),
        ("a\nb", b"{}"),
        (&"x".repeat(1025), b"{}"),
        ("a", &long),
        ("a", &long[..100]),
    ] {
        let message = TcpRequestMessage::new(path, Bytes::copy_from_slice(headers), "");
        let with = message.and_then(|message| codec.encode_parts(message)).unwrap_err();
        let without = codec.encode_request(path, headers, Bytes::new()).unwrap_err();
        assert_eq!(without.to_string(), with.to_string());
    }
}

#[test]
fn empty_parts_large_payloads_and_unicode_paths_survive() {
    let large = vec![7; 5 << 20];
    for (path, headers, payload) in [
        ("p", "", &b""[..]),
        ("1f/ns/comp/ep", "{}", b""),
        ("1f/größe/模型/ep", "{\"k\":\"v\"}", b"payload"),
        ("1f/a/b/c", "{}", &large),
    ] {
        let message = message(path, headers, payload);
        let mut wire = BytesMut::new();
        let mut codec = TcpRequestCodec::default();
        codec.encode_frame(&message, &mut wire).unwrap();
        assert_eq!(wire, frame(path.as_bytes(), headers.as_bytes(), payload));
        assert_eq!(codec.decode_message(wire.clone().freeze()).unwrap(), message);
        let decoded = codec.decode_frame(&mut wire).unwrap().unwrap();
        assert_eq!(decoded, message);
        assert_eq!((decoded.path(), &decoded.headers()[..]), (path, headers.as_bytes()));
        assert_eq!(decoded.into_payload(), payload);
        assert!(wire.is_empty());
    }
}

// B-B01
#[test]
fn paths_have_1_to_1024_bytes() {
    let path = |len: usize| "p".repeat(len);
    for len in [1, 2, 1023, 1024] {
        assert!(TcpRequestMessage::new(path(len), "", "").is_ok());
        assert!(decode(&frame(path(len).as_bytes(), b"", b"")).unwrap().is_some(), "{len}");
    }
    for len in [0, 1025, 65535] {
        let error = TcpRequestMessage::new(path(len), "", "").unwrap_err();
        assert!(matches!(error, TcpRequestError::PathLength { len: said } if said == len));
        let error = decode(&frame(path(len).as_bytes(), b"", b"")).unwrap_err();
        assert!(matches!(error, TcpRequestError::PathLength { len: said } if said == len));
        assert!(error.to_string().contains("1024"), "{error}");
    }
}

// B-B02
#[test]
fn paths_are_text_without_control_characters() {
    for path in [&b"\xff\xfe"[..], b"a\xc0\xafb", b"a\0b", b"a\nb", b"\x1b[2J", b"a\xc2\x85b"] {
        assert!(matches!(decode(&frame(path, b"", b"")), Err(TcpRequestError::PathText)));
    }
    let error = TcpRequestMessage::new("a\r\nb", "", "").unwrap_err();
    assert!(matches!(error, TcpRequestError::PathText));
}

// B-B05
#[test]
fn every_truncation_is_incomplete_then_truncated_at_the_end() {
    let whole = frame(b"1f/a/b/c", b"{\"a\":\"b\"}", b"payload");
    let payload_known = whole.len() - b"payload".len();
    for len in 0..whole.len() {
        let mut codec = TcpRequestCodec::default();
        let mut wire = BytesMut::from(&whole[..len]);
        assert!(codec.decode_frame(&mut wire).unwrap().is_none(), "{len}");
        let expected = (len >= payload_known).then_some(whole.len() as u64);
        match codec.decode_frame_at_end(&mut wire) {
            Ok(None) => assert_eq!(len, 0),
            Err(TcpRequestError::Truncated { received, expected: said }) => {
                assert_eq!((received, said), (len, expected));
            }
            other => panic!("{len}: {other:?}"),
        }
        let at_once = codec.decode_message(Bytes::copy_from_slice(&whole[..len]));
        assert!(matches!(at_once, Err(TcpRequestError::Truncated { .. })), "{len}");
    }
    let mut longer = whole;
    longer.put_slice(b"xy");
    let result = TcpRequestCodec::default().decode_message(longer.freeze());
    assert!(matches!(result, Err(TcpRequestError::TrailingBytes { count: 2 })));
}

// B-B10
#[test]
fn the_total_is_limited_exactly_on_both_sides_and_not_only_the_payload() {
    // 2 + 3 + 2 + 10 + 4 = 21 bytes before the payload.
    let mut codec = TcpRequestCodec::new(100);
    for (payload, accepted) in [(78, true), (79, true), (80, false)] {
        let message = message("abc", "{\"k\":\"vv\"}", &vec![1; payload]);
        let mut wire = BytesMut::from("kept");
        assert_eq!(codec.encode_frame(&message, &mut wire).is_ok(), accepted);
        assert_eq!(wire.len() > 4, accepted, "a refused message writes nothing");
        assert_eq!(codec.encode_parts(message.clone()).is_ok(), accepted);
        let mut wire = frame(b"abc", b"{\"k\":\"vv\"}", &vec![1; payload]);
        assert_eq!(codec.decode_frame(&mut wire).is_ok(), accepted);
    }
}

#[test]
fn a_length_is_refused_by_itself_and_nothing_is_allocated_for_it() {
    for (limit, payload_len) in [(1 << 20, u32::MAX), (32 << 20, 32 << 20), (100, 100)] {
        let mut wire = frame(b"1f/a", b"{}", b"");
        let at = wire.len() - 4;
        wire[at..].copy_from_slice(&payload_len.to_be_bytes());
        let before = (wire.capacity(), wire.clone());
        let error = TcpRequestCodec::new(limit).decode_frame(&mut wire).unwrap_err();
        let said = u64::from(payload_len) + at as u64 + 4;
        assert!(
            matches!(error, TcpRequestError::MessageTooLarge { frame_len, limit: l } if frame_len == said && l == limit)
        );
        assert_eq!((wire.capacity(), wire), before);
    }
    // Headers alone over the limit are not waited for.
    let mut wire = BytesMut::from(&b"\x00\x01p\xff\xff"[..]);
    let error = TcpRequestCodec::new(1024).decode_frame(&mut wire).unwrap_err();
    assert!(matches!(error, TcpRequestError::MessageTooLarge { frame_len: 65_544, .. }));
    // A declared length that is allowed is believed no further than one step.
    let mut wire = BytesMut::from(&b"\x00\x01p\x00\x00\x01\xff\xff\x00"[..]);
    assert!(TcpRequestCodec::default().decode_frame(&mut wire).unwrap().is_none());
    assert!(wire.capacity() <= 128 << 10, "{}", wire.capacity());
}

#[test]
fn headers_are_limited_by_their_length_field() {
    let headers = |len: usize| Bytes::from(vec![b' '; len]);
    assert!(TcpRequestMessage::new("p", headers(65_535), "").is_ok());
    let error = TcpRequestMessage::new("p", headers(65_536), "").unwrap_err();
    assert!(matches!(error, TcpRequestError::HeadersTooLarge { len: 65_536 }));
    let whole = frame(b"p", &headers(65_535), b"x");
    assert_eq!(decode(&whole).unwrap().unwrap().headers().len(), 65_535);
}

#[test]
fn headers_that_are_no_json_are_passed_on_as_they_are() {
    let decoded = decode(&frame(b"p", b"not json", b"x")).unwrap().unwrap();
    assert_eq!(decoded.headers(), "not json");
}

#[test]
fn parts_lie_in_the_read_buffer_and_encoding_shares_the_payload() {
    let mut wire = frame(b"1f/a/b/c", b"{}", b"a payload that is not copied");
    let range = wire.as_ptr_range();
    let message = TcpRequestCodec::default().decode_frame(&mut wire).unwrap().unwrap();
    assert!(range.contains(&message.payload().as_ptr()));
    assert!(range.contains(&message.headers().as_ptr()));
    assert!(range.contains(&message.path().as_ptr()));

    let payload = message.payload().clone();
    let parts = TcpRequestCodec::default().encode_parts(message.clone()).unwrap();
    assert_eq!(parts.body.as_ptr(), payload.as_ptr());
    let mut whole = BytesMut::new();
    TcpRequestCodec::default().encode_frame(&message, &mut whole).unwrap();
    assert_eq!([&parts.head[..], &parts.body[..]].concat(), whole);
}

#[test]
fn the_buffer_of_a_huge_frame_is_given_back() {
    let mut codec = TcpRequestCodec::default();
    let mut wire = frame(b"p", b"{}", &vec![5; 16 << 20]);
    wire.put_slice(&frame(b"p", b"{}", b"tiny")[..7]);
    let huge = codec.decode_frame(&mut wire).unwrap().unwrap();
    assert_eq!(huge.payload().len(), 16 << 20);
    assert!(wire.capacity() < 1024, "{}", wire.capacity());
    assert_eq!(&wire[..], b"\x00\x01p\x00\x02{}");
    // Just under the mark the buffer stays, so that steady traffic allocates nothing.
    let mut wire = frame(b"p", b"{}", &vec![5; 200 << 10]);
    wire.put_slice(b"\x00");
    let capacity = wire.capacity();
    codec.decode_frame(&mut wire).unwrap().unwrap();
    wire.reserve(capacity / 2);
    assert!(wire.capacity() >= capacity / 2);
}

// B-A20
#[test]
fn other_protocols_are_recognised() {
    for (bytes, protocol) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], ForeignProtocol::Http1),
        (b"PRI * HTTP/2.0\r\n", ForeignProtocol::Http2),
        (b"\x16\x03\x01\x02\x00\x01", ForeignProtocol::Tls),
        (b"SSH-2.0-OpenSSH_9\r\n", ForeignProtocol::Ssh),
        (b"{\"a\":1}", ForeignProtocol::Json),
    ] {
        for len in 4..bytes.len() {
            let error = decode(&bytes[..len]).unwrap_err();
            assert!(
                matches!(error, TcpRequestError::InvalidMessage { looks_like } if looks_like == protocol)
            );
        }
    }
}

// B-B12
#[test]
fn an_acknowledgement_is_limited_before_it_is_allocated() {
    for len in [8 * 1024 + 1, 1 << 31, u32::MAX] {
        let mut wire = BytesMut::from(&len.to_be_bytes()[..]);
        let error = TcpResponseCodec::default().decode_frame(&mut wire).unwrap_err();
        assert!(
            matches!(error, TcpRequestError::AnswerTooLarge { len: said, limit: 8192 } if said == len as usize)
        );
        assert!(wire.capacity() < 64);
    }
    let codec = TcpResponseCodec::new(4);
    let answer =
        |text: &'static str| TcpResponseMessage { data: Bytes::from_static(text.as_bytes()) };
    assert!(codec.encode_frame(&answer("full"), &mut BytesMut::new()).is_ok());
    let mut wire = BytesMut::new();
    assert!(codec.encode_frame(&answer("fuller"), &mut wire).is_err());
    assert!(wire.is_empty());
}

#[test]
fn acknowledgements_that_are_cut_short_are_waited_for() {
    let whole = b"\x00\x00\x00\x05hello";
    for len in 0..whole.len() {
        let mut codec = TcpResponseCodec::default();
        let mut wire = BytesMut::from(&whole[..len]);
        assert!(codec.decode_frame(&mut wire).unwrap().is_none());
        match codec.decode_frame_at_end(&mut wire) {
            Ok(None) => assert_eq!(len, 0),
            Err(TcpRequestError::Truncated { received, expected }) => {
                assert_eq!((received, expected), (len, (len >= 4).then_some(9)));
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}
