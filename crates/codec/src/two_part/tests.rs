//! The bad-input table of the two-part codec and its ordinary cases.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::{ChecksumMode, ForeignProtocol, TWO_PART_PREFIX_BYTES, checksum_of};

fn prefix(header_len: u64, body_len: u64, checksum: u64) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u64(header_len);
    bytes.put_u64(body_len);
    bytes.put_u64(checksum);
    bytes
}

fn encoded(codec: &TwoPartCodec, header: &'static str, body: &'static str) -> BytesMut {
    let mut wire = BytesMut::new();
    codec.encode_frame(&TwoPartMessage::from_parts(header, body), &mut wire).unwrap();
    wire
}

fn decode(
    codec: &TwoPartCodec,
    mut wire: BytesMut,
) -> Result<Option<TwoPartMessage>, TwoPartError> {
    codec.clone().decode_frame(&mut wire)
}

#[test]
fn golden_frames() {
    let off = TwoPartCodec::default().with_checksum(ChecksumMode::Off);
    let mut expected = vec![0u8; TWO_PART_PREFIX_BYTES];
    (expected[7], expected[15]) = (2, 3);
    expected.extend_from_slice(b"hhbbb");
    assert_eq!(&encoded(&off, "hh", "bbb")[..], &expected[..]);
    // The checksum of an empty frame is the xxHash reference value for empty input.
    let mut heartbeat = prefix(0, 0, 0x2d06_8005_38d3_94c2);
    assert_eq!(encoded(&TwoPartCodec::default(), "", ""), heartbeat);
    assert_eq!(
        TwoPartCodec::default().decode_frame(&mut heartbeat).unwrap().unwrap(),
        TwoPartMessage::empty()
    );
}

#[test]
fn four_kinds_survive_the_wire_and_lead_back() {
    let mut codec = TwoPartCodec::default();
    for message in [
        TwoPartMessageType::HeaderOnly(Bytes::from("stop")),
        TwoPartMessageType::DataOnly(Bytes::from("item")),
        TwoPartMessageType::HeaderAndData(Bytes::from("h"), Bytes::from("b")),
        TwoPartMessageType::Empty,
    ] {
        let mut wire = BytesMut::new();
        codec.encode_frame(&message.clone().into(), &mut wire).unwrap();
        let decoded = codec.decode_frame(&mut wire).unwrap().unwrap();
        assert_eq!(decoded.into_message_type(), message);
        assert!(wire.is_empty());
    }
}

// B-A01, B-A02, B-A03, B-A04
#[test]
fn impossible_lengths_are_refused_without_allocation() {
    for (header_len, body_len) in [
        (u64::MAX, 0),
        (0, u64::MAX),
        (1, u64::MAX),
        (u64::MAX, u64::MAX),
        (0, u64::MAX - 24),
        (0, u64::MAX - 23),
        (u64::from(u32::MAX), u64::from(u32::MAX)),
        (0, u64::from(u32::MAX) + 1),
        (1 << 63, 1 << 63),
    ] {
        let mut wire = prefix(header_len, body_len, 0);
        let (bytes, capacity) = (wire.clone(), wire.capacity());
        let error = TwoPartCodec::default().decode_frame(&mut wire).unwrap_err();
        assert!(
            matches!(
                error,
                TwoPartError::HeaderTooLarge { .. } | TwoPartError::MessageTooLarge { .. }
            ),
            "{header_len} {body_len}: {error}"
        );
        assert!(error.to_string().starts_with("Two Part Codec Error: Invalid message"));
        assert_eq!((wire.capacity(), wire), (capacity, bytes));
    }
}

#[test]
fn no_limit_at_all_still_refuses_lengths_that_overflow() {
    let codec = TwoPartCodec::new(usize::MAX).with_max_header_size(usize::MAX);
    for (header_len, body_len) in [(u64::MAX, 0), (1, u64::MAX - 24), (u64::MAX - 24, 0)] {
        let result = decode(&codec, prefix(header_len, body_len, 0));
        assert!(matches!(result, Err(TwoPartError::MessageTooLarge { .. })), "{result:?}");
    }
}

// B-A05
#[test]
fn limits_hold_exactly_on_both_sides() {
    let codec = TwoPartCodec::new(100).with_max_header_size(10);
    let body = |len: usize| TwoPartMessage::from_data(vec![1u8; len]);
    let header = |len: usize| TwoPartMessage::from_header(vec![1u8; len]);
    let open = TwoPartCodec::default();
    for (message, accepted) in [
        (body(75), true),
        (body(76), true),
        (body(77), false),
        (header(9), true),
        (header(10), true),
        (header(11), false),
    ] {
        let mut wire = BytesMut::from("kept");
        assert_eq!(codec.encode_frame(&message, &mut wire).is_ok(), accepted);
        assert_eq!(wire.len() > 4, accepted, "a refused message writes nothing");
        assert_eq!(codec.encode_parts(message.clone()).is_ok(), accepted);

        let mut wire = BytesMut::new();
        open.encode_frame(&message, &mut wire).unwrap();
        assert_eq!(decode(&codec, wire).is_ok(), accepted);
    }
}

// B-A06
#[test]
fn every_truncation_is_incomplete_then_truncated_at_the_end() {
    let whole = encoded(&TwoPartCodec::default(), "header", "body");
    for len in 0..whole.len() {
        let mut wire = BytesMut::from(&whole[..len]);
        let mut codec = TwoPartCodec::default();
        assert!(codec.decode_frame(&mut wire).unwrap().is_none());
        let end = codec.decode_frame_at_end(&mut wire);
        let expected = (len >= TWO_PART_PREFIX_BYTES).then_some(whole.len() as u64);
        match end {
            Ok(None) => assert_eq!(len, 0),
            Err(TwoPartError::Truncated { received, expected: found }) => {
                assert_eq!((received, found), (len, expected));
            }
            other => panic!("{len}: {other:?}"),
        }
        let message = codec.decode_message(Bytes::copy_from_slice(&whole[..len]));
        assert!(
            matches!(message, Err(TwoPartError::Truncated { received, .. }) if received == len)
        );
    }
    assert!(decode(&TwoPartCodec::default(), whole).unwrap().is_some());
}

// B-A07, B-A08
#[test]
fn every_single_bit_flip_is_noticed() {
    let codec = TwoPartCodec::default();
    let whole = encoded(&codec, "{\"id\":7}", "some body bytes");
    for bit in 0..whole.len() * 8 {
        let mut wire = whole.clone();
        wire[bit / 8] ^= 1 << (bit % 8);
        match decode(&codec, wire) {
            // A length that grew: the frame waits for bytes and never yields a wrong payload.
            Ok(None) => assert!(bit < 128, "bit {bit}"),
            Ok(Some(message)) => panic!("bit {bit} went unnoticed: {message:?}"),
            Err(_) => {}
        }
    }
}

// B-A09
#[test]
fn absent_checksum_is_accepted_unless_required() {
    let wire = encoded(&TwoPartCodec::default().with_checksum(ChecksumMode::Off), "h", "b");
    assert_eq!(&wire[16..24], &[0; 8]);
    assert!(decode(&TwoPartCodec::default(), wire.clone()).unwrap().is_some());
    let strict = TwoPartCodec::default().with_required_checksum(true);
    assert!(matches!(decode(&strict, wire.clone()), Err(TwoPartError::ChecksumMissing)));
    assert!(matches!(strict.decode_message(wire.freeze()), Err(TwoPartError::ChecksumMissing)));
}

// B-A10
#[test]
fn checksum_of_another_message_is_refused_only_when_verifying() {
    let mut wire = prefix(1, 1, checksum_of(b"x", b"y"));
    wire.put_slice(b"hb");
    let verifying = TwoPartCodec::default();
    assert!(matches!(
        decode(&verifying, wire.clone()),
        Err(TwoPartError::ChecksumMismatch { stated, .. }) if stated == checksum_of(b"x", b"y")
    ));
    for mode in [ChecksumMode::Off, ChecksumMode::Write] {
        let codec = verifying.clone().with_checksum(mode);
        assert!(decode(&codec, wire.clone()).unwrap().is_some(), "{mode:?}");
    }
    let written = encoded(&verifying.with_checksum(ChecksumMode::Write), "h", "b");
    assert_eq!(&written[16..24], &checksum_of(b"h", b"b").to_be_bytes());
}

// B-A11: the codec passes heartbeats on; the transport limits their rate.
#[test]
fn a_million_empty_frames_cost_no_memory() {
    let mut codec = TwoPartCodec::default();
    let heartbeat = encoded(&codec, "", "");
    let mut wire = BytesMut::with_capacity(8192);
    for _ in 0..1_000_000 {
        wire.extend_from_slice(&heartbeat);
        assert_eq!(codec.decode_frame(&mut wire).unwrap().unwrap().kind(), MessageKind::Empty);
    }
    assert!(wire.capacity() <= 16384, "{}", wire.capacity());
}

// B-A12
#[test]
fn a_message_of_the_wrong_kind_is_named() {
    let control = TwoPartMessage::from_header("stop");
    let error = control.clone().into_data().unwrap_err();
    assert_eq!(
        error,
        WrongKind { expected: MessageKind::DataOnly, found: MessageKind::HeaderOnly }
    );
    assert_eq!(error.to_string(), "expected a data-only message, received a header-only one");
    assert_eq!(control.into_control().unwrap(), "stop");
    assert!(TwoPartMessage::from_parts("h", "b").into_control().is_err());
    assert!(TwoPartMessage::empty().into_data().is_err());
    let parts = TwoPartMessage::from_parts("h", "b").into_header_and_data().unwrap();
    assert_eq!(parts, (Bytes::from("h"), Bytes::from("b")));
}

// B-A13
#[test]
fn a_header_above_64_kib_is_refused_by_its_length_alone() {
    let codec = TwoPartCodec::default();
    assert!(decode(&codec, prefix(64 * 1024, 0, 0)).unwrap().is_none());
    for len in [64 * 1024 + 1, 1024 * 1024] {
        let result = decode(&codec, prefix(len, 0, 0));
        assert!(
            matches!(result, Err(TwoPartError::HeaderTooLarge { header_len, .. }) if header_len == len)
        );
    }
}

// B-A18
#[test]
fn the_buffer_of_a_huge_frame_is_given_back() {
    const HUGE: usize = 32 * 1024 * 1024 - TWO_PART_PREFIX_BYTES;
    let mut codec = TwoPartCodec::default().with_checksum(ChecksumMode::Off);
    let mut wire = BytesMut::new();
    codec.encode_frame(&TwoPartMessage::from_data(vec![5u8; HUGE]), &mut wire).unwrap();
    let tiny = encoded(&codec, "", "tiny");
    wire.extend_from_slice(&tiny);
    wire.extend_from_slice(&tiny[..7]);

    let huge = codec.decode_frame(&mut wire).unwrap().unwrap();
    assert_eq!(huge.body.len(), HUGE);
    assert!(wire.capacity() < 1024, "{}", wire.capacity());
    // The message is now the only owner of the large allocation.
    assert!(huge.body.is_unique());
    drop(huge);

    assert_eq!(codec.decode_frame(&mut wire).unwrap().unwrap().body, "tiny");
    for _ in 0..1000 {
        wire.extend_from_slice(&tiny);
    }
    assert!(wire.capacity() < 1024 * 1024, "{}", wire.capacity());
}

// B-A18, with so much pipelined behind the huge frame that copying waits until it has drained.
#[test]
fn the_buffer_is_given_back_after_a_pipelined_burst() {
    let mut codec = TwoPartCodec::default();
    let mut wire = BytesMut::new();
    for _ in 0..8 {
        let body = vec![1u8; 300 * 1024];
        codec.encode_frame(&TwoPartMessage::from_data(body), &mut wire).unwrap();
    }
    let range = wire.as_ptr_range();
    for left in (0..8).rev() {
        let message = codec.decode_frame(&mut wire).unwrap().unwrap();
        assert_eq!(message.body.len(), 300 * 1024);
        assert!(range.contains(&message.body.as_ptr()), "the burst itself is not copied");
        assert_eq!(wire.len(), left * (300 * 1024 + TWO_PART_PREFIX_BYTES));
    }
    wire.reserve(1);
    assert!(wire.capacity() < 4096, "{}", wire.capacity());
}

// B-A20, COD-12
#[test]
fn other_protocols_are_recognised_as_soon_as_eight_bytes_are_there() {
    let cases: &[(&[u8], ForeignProtocol)] = &[
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ForeignProtocol::Http1),
        (b"POST /rpc HTTP/1.1\r\n", ForeignProtocol::Http1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ForeignProtocol::Http2),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ForeignProtocol::Tls),
        (b"SSH-2.0-OpenSSH_9.6\r\n", ForeignProtocol::Ssh),
        (b"CONNECT {\"verbose\":false}\r\n", ForeignProtocol::Connect),
        (b"INFO {\"server_id\":\"N\"}\r\n", ForeignProtocol::Nats),
        (b"{\"model\":\"m\",\"prompt\":\"p\"}", ForeignProtocol::Json),
        (b"SNEW\x00\x01\x00\x07\x00\x00\x00\x00", ForeignProtocol::NodeEnvelope),
    ];
    for (bytes, protocol) in cases {
        for len in 8..=bytes.len() {
            let error =
                decode(&TwoPartCodec::default(), BytesMut::from(&bytes[..len])).unwrap_err();
            assert!(
                matches!(error, TwoPartError::InvalidMessage { looks_like } if looks_like == *protocol)
            );
            assert_eq!(
                error.to_string(),
                format!(
                    "Two Part Codec Error: Invalid message: expected a two-part frame, received {protocol}"
                )
            );
        }
    }
}

#[test]
fn a_short_line_of_another_protocol_is_recognised_at_the_end() {
    let error = TwoPartCodec::default().decode_frame_at_end(&mut BytesMut::from("PING\r\n"));
    assert!(matches!(
        error,
        Err(TwoPartError::InvalidMessage { looks_like: ForeignProtocol::Nats })
    ));
}

#[test]
fn decoded_parts_lie_in_the_read_buffer() {
    let mut codec = TwoPartCodec::default();
    let mut wire = encoded(&codec, "header", "a body that is not copied");
    let range = wire.as_ptr_range();
    let message = codec.decode_frame(&mut wire).unwrap().unwrap();
    for part in [&message.header, &message.body] {
        assert!(range.contains(&part.as_ptr()), "part was copied");
    }
    assert_eq!(message.body.as_ptr(), range.end.wrapping_sub(message.body.len()));

    let whole = encoded(&codec, "header", "body").freeze();
    let message = codec.decode_message(whole.clone()).unwrap();
    assert!(whole.as_ptr_range().contains(&message.body.as_ptr()));
}

#[test]
fn encoding_in_parts_shares_the_body_and_gives_the_same_bytes() {
    for mode in [ChecksumMode::Off, ChecksumMode::Write, ChecksumMode::Verify] {
        let codec = TwoPartCodec::default().with_checksum(mode);
        let body = Bytes::from(vec![3u8; 100_000]);
        let message = TwoPartMessage::from_parts("{}", body.clone());
        let parts = codec.encode_parts(message.clone()).unwrap();
        assert_eq!(parts.body.as_ptr(), body.as_ptr());
        let joined = [&parts.head[..], &parts.body[..]].concat();
        assert_eq!(codec.encode_message(&message).unwrap(), joined);
    }
}

#[test]
fn a_whole_message_may_have_nothing_after_it() {
    let codec = TwoPartCodec::default();
    let mut wire = encoded(&codec, "h", "b");
    wire.put_slice(b"xy");
    let result = codec.decode_message(wire.freeze());
    assert!(matches!(result, Err(TwoPartError::TrailingBytes { count: 2 })));
}

#[test]
fn an_error_comes_again_and_leaves_the_buffer_as_it_was() {
    let mut codec = TwoPartCodec::default();
    let mut wire = encoded(&codec, "h", "b");
    wire[24] ^= 1;
    let before = wire.clone();
    for _ in 0..3 {
        let result = codec.decode_frame(&mut wire);
        assert!(matches!(result, Err(TwoPartError::ChecksumMismatch { .. })));
        assert_eq!(wire, before);
    }
}
