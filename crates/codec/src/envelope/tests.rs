//! Bad input and ordinary cases of the node envelope.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::ForeignProtocol;

fn raw(magic: &[u8; 4], version: u16, message_type: u16, size: u32, payload: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_slice(magic);
    bytes.put_u16(version);
    bytes.put_u16(message_type);
    bytes.put_u32(size);
    bytes.put_slice(payload);
    bytes
}

#[test]
fn golden_bytes_and_back() {
    let mut codec = EnvelopeCodec::default();
    let envelope = Envelope::new(0x0102, "hi");
    let mut wire = BytesMut::new();
    codec.encode_frame(&envelope, &mut wire).unwrap();
    assert_eq!(&wire[..], b"SNEW\x00\x01\x01\x02\x00\x00\x00\x02hi");
    let range = wire.as_ptr_range();
    let decoded = codec.decode_frame(&mut wire).unwrap().unwrap();
    assert_eq!(decoded, envelope);
    assert!(range.contains(&decoded.payload.as_ptr()), "payload was copied");
}

#[test]
fn every_truncation_waits_and_is_an_error_at_the_end() {
    let whole = raw(&MAGIC, 1, 9, 3, b"abc");
    for len in 0..whole.len() {
        let mut codec = EnvelopeCodec::default();
        let mut wire = BytesMut::from(&whole[..len]);
        assert!(codec.decode_frame(&mut wire).unwrap().is_none());
        match codec.decode_frame_at_end(&mut wire) {
            Ok(None) => assert_eq!(len, 0),
            Err(EnvelopeError::Truncated { received }) => assert_eq!(received, len),
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn a_wrong_magic_is_refused_after_four_bytes_and_named() {
    let cases: &[(&[u8], Option<ForeignProtocol>)] = &[
        (b"GET ", Some(ForeignProtocol::Http1)),
        (b"\x16\x03\x01\x02", Some(ForeignProtocol::Tls)),
        (b"SSH-", Some(ForeignProtocol::Ssh)),
        (b"SNEX", None),
        (b"\0\0\0\0", None),
    ];
    for (bytes, protocol) in cases {
        let error = EnvelopeCodec::default().decode_frame(&mut BytesMut::from(*bytes)).unwrap_err();
        let EnvelopeError::BadMagic { found, looks_like } = &error else { panic!("{error:?}") };
        assert_eq!((&found[..], looks_like), (*bytes, protocol));
        assert!(error.to_string().is_ascii());
    }
}

#[test]
fn a_version_outside_the_range_is_refused_both_ways() {
    let mut codec = EnvelopeCodec::default();
    for version in [0, 2, u16::MAX] {
        let mut wire = raw(&MAGIC, version, 1, 0, b"");
        wire.truncate(6);
        let error = codec.decode_frame(&mut wire).unwrap_err();
        assert!(
            matches!(error, EnvelopeError::UnsupportedVersion { found, .. } if found == version)
        );
        let envelope = Envelope { version, message_type: 1, payload: Bytes::new() };
        assert!(codec.encode_frame(&envelope, &mut BytesMut::new()).is_err());
    }
    let mut newer = EnvelopeCodec::default().with_versions(1..=2);
    assert_eq!(newer.decode_frame(&mut raw(&MAGIC, 2, 1, 0, b"")).unwrap().unwrap().version, 2);
}

#[test]
fn the_size_limit_holds_exactly_on_both_sides_and_allocates_nothing() {
    let mut codec = EnvelopeCodec::new(10);
    for (size, accepted) in [(9, true), (10, true), (11, false)] {
        let mut wire = BytesMut::from("kept");
        let envelope = Envelope::new(1, vec![0u8; size]);
        assert_eq!(codec.encode_frame(&envelope, &mut wire).is_ok(), accepted);
        assert_eq!(wire.len() > 4, accepted);
        let mut wire = raw(&MAGIC, 1, 1, size as u32, &vec![0; size]);
        assert_eq!(codec.decode_frame(&mut wire).is_ok(), accepted);
    }
    let mut wire = raw(&MAGIC, 1, 1, u32::MAX, b"");
    let capacity = wire.capacity();
    assert!(matches!(
        EnvelopeCodec::default().decode_frame(&mut wire),
        Err(EnvelopeError::TooLarge { size, .. }) if size == u64::from(u32::MAX)
    ));
    assert_eq!(wire.capacity(), capacity);
}

#[test]
fn an_unlimited_codec_still_grows_by_received_bytes_only() {
    let mut codec = EnvelopeCodec::new(usize::MAX);
    let mut wire = raw(&MAGIC, 1, 1, u32::MAX, b"abc");
    assert!(codec.decode_frame(&mut wire).unwrap().is_none());
    assert!(wire.capacity() < 256 * 1024, "{}", wire.capacity());
}

#[test]
fn the_buffer_of_a_huge_envelope_is_given_back() {
    let (mut codec, mut wire) = (EnvelopeCodec::default(), BytesMut::new());
    codec.encode_frame(&Envelope::new(1, vec![0u8; 8 << 20]), &mut wire).unwrap();
    wire.put_slice(b"SNEW");
    let huge = codec.decode_frame(&mut wire).unwrap().unwrap();
    assert!(huge.payload.is_unique(), "the buffer no longer shares the large allocation");
    assert_eq!(&wire[..], b"SNEW");
    assert!(wire.capacity() < 1024, "{}", wire.capacity());
}

#[test]
fn dispatch_finds_the_handler_or_names_the_type() {
    let mut table = DispatchTable::new();
    table.register(3, "three").unwrap();
    table.register(1, "one").unwrap();
    assert_eq!(table.register(3, "again"), Err(DuplicateMessageType { message_type: 3 }));
    assert_eq!(table.handler(3), Ok(&"three"), "the first handler stays");
    assert_eq!(table.message_types().collect::<Vec<_>>(), [1, 3]);
    let error = table.handler(2).unwrap_err();
    assert_eq!(error.to_string(), "no handler for message type 2");

    let mut calls: DispatchTable<Box<dyn Fn(Bytes) -> String>> = DispatchTable::new();
    calls.register(5, Box::new(|payload| format!("{}!", payload.escape_ascii()))).unwrap();
    assert_eq!(calls.dispatch(Envelope::new(5, "ping")).unwrap(), "ping!");
    assert!(calls.dispatch(Envelope::new(6, "ping")).is_err());
}
